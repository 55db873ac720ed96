"""What the values of arguments must satisfy, by topic: one function a rule."""
