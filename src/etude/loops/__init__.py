"""The loops: one update, the epochs of a training, an evaluation."""
