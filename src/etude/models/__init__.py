"""What a training or an evaluation does to a model, and undoes afterwards."""
