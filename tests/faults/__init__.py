"""Calls that fail, processes that are killed, disks that are full: what is left, and how does a run go on from it?"""
