"""Measurements of learning by trying."""
