"""Benchmarks: accuracy, speed, scale, and checks on a GPU."""
