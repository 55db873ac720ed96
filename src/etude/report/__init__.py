"""What a person reads: the start-up report and log lines."""
