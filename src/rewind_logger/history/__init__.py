"""A run as terms: journal, writer, opening, reader."""
