"""The steps of a night and of a refresh, by name and in order. Standard library only, so that anybody can import it."""

NIGHT = ("ingest", "snapshot", "train", "gate", "index", "score", "publish", "report")
REFRESH = ("ingest", "refresh")
PUBLISHING = NIGHT[: NIGHT.index("publish") + 1]
"""The steps after which readers have a new table."""
