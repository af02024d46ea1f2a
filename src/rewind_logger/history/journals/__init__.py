"""Journals: what was logged and is not in the store yet, in files of this machine."""
