"""What `collect` and `remove` have in common: what is needed, and what is not."""
