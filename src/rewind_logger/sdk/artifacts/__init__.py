"""Artifacts: versioned sets of files that runs make and use."""
