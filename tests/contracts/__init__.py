"""One suite for each promise of the README."""
