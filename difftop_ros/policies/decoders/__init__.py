"""What makes a chunk from an encoded observation: one file per policy class. Options: builtin.py."""
