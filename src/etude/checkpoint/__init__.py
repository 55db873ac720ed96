"""Checkpoints: what is in them, how they become visible, and how a run goes on from one."""
