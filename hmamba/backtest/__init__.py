"""Replaying past nights and judging each on the days that followed it."""
