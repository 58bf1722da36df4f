"""Scoring users and publishing their candidates."""
