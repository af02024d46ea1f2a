"""Bytes ⇄ values, without any I/O: names, claims and bases, journal frames, segments.

Nothing is imported here, so that whoever needs names alone does not load pyarrow. The layout and every format are
specified in `docs/format.md`.
"""
