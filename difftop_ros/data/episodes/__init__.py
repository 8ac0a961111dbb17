"""Bags made into synchronised episodes on disk, and the training windows cut from them."""
