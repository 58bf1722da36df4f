"""Replay past nights and evaluate each on the days that followed it."""
