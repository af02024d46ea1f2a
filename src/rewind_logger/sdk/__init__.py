"""What a person types: open a run, log to it, read it back.

The names are loaded on demand by `rewind_logger` itself.
"""
