"""Evaluation: exact ranking, metrics, baselines, and the gate between champion and challenger."""
