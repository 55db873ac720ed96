"""Where log rows go: one file a tracker."""
