"""The logger for Lightning, its callback, and what they must know of Lightning."""
