"""Encoding users with a model."""
