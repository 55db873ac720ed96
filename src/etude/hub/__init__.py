"""Sharing a model: its card, and pushing it to a model hub."""
