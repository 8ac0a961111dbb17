"""The trainer node."""
