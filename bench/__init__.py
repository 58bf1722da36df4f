"""Measurements: accuracy, speed, and what only a GPU can show."""
