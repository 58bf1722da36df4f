"""Judging: exact ranking, metrics, baselines, the gate between champion and challenger."""
