"""The steps of a night. Each is ``python -m jobs.NAME``, safe to run twice, and prints one JSON line of facts last."""
