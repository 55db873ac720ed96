"""What keeps a run from going wrong in silence."""
