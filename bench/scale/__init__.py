"""Time and memory of a night on large data, with the real steps as processes."""
