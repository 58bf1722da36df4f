"""Step names of a night and of a refresh, in order. Imports nothing, so that every module can import it."""

NIGHT = ("ingest", "snapshot", "train", "gate", "index", "score", "publish", "report")
REFRESH = ("ingest", "refresh")
PUBLISHING = NIGHT[: NIGHT.index("publish") + 1]
"""The steps up to publishing, after which readers have a new table."""
