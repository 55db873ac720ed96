"""Methods of the Trainer by topic."""
