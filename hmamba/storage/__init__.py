"""Paths under a root, and atomic writes to them."""
