"""What a process writes to stdout and stderr, as lines of its runs."""
