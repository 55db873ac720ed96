"""Callbacks that come with etude."""
