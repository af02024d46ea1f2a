"""What `verify` consists of: one file for each kind of object."""
