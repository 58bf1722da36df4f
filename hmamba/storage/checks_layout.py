"""Paths of the records and pages of checks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hmamba.storage.base import Storage
from hmamba.storage.under import Under


@dataclass(frozen=True)
class ChecksLayout:
    """Paths of the checks of batches and candidates: records of Great Expectations' results, and pages (Data Docs)."""

    folder: Path
    storage: Storage

    index = Under("index.html")
    """The page that lists all checks."""

    records = Under("checks")
    """One folder for each kind of check."""

    lock = Under(".lock")
    """Held while records and pages are written."""

    def of_kind(self, kind: str) -> Path:
        """Records and pages of one kind of check."""
        return self.records / kind

    def record(self, kind: str, name: str) -> Path:
        """The record of one check."""
        return self.of_kind(kind) / f"{name}.json"

    def page(self, record: Path) -> Path:
        """The page that belongs to a record."""
        return record.with_suffix(".html")

    @property
    def all_records(self) -> list[Path]:
        """The existing records."""
        return self.storage.find(self.records, "*/*.json")

    @property
    def all_pages(self) -> list[Path]:
        """The existing pages of records."""
        return self.storage.find(self.records, "*/*.html")
