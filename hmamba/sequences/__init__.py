"""Users' histories: the snapshot on disk and what reads it."""
