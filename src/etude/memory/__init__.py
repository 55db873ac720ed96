"""What a run needs of memory, and spending time to need less."""
