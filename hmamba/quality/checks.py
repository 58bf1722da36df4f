"""Checks of figures, their records and their pages (Data Docs).

A record is what Great Expectations found; pages are rendered from records alone. The folder is derived: whatever is
damaged in it is deleted or written again by the next check, and no check fails because of it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from hmamba.contracts.checks import CheckedRule, CheckRecord, Kind
from hmamba.errors import HMambaError, InputError, explained
from hmamba.quality.expectations import Figure, validated
from hmamba.quality.pages import render_check, render_index
from hmamba.storage.base import write_text
from hmamba.storage.checks_layout import ChecksLayout
from hmamba.text import counted

log = logging.getLogger("hmamba")

KEPT_CHECKS = 60
"""Number of checks of each kind that are kept."""

_WAIT_SECONDS = 60.0
"""Wait for another process that writes the pages, which takes a second: a night does not depend on them."""

_LONGEST_NAME = 80


@dataclass(frozen=True)
class Outcome:
    """Result of a check.

    Attributes:
        broken: the figures outside of their bounds.
        page: the check's page, if it could be written.
        warned: names of the figures outside of the bounds of their warnings.
    """

    broken: tuple[Figure, ...]
    page: Path | None
    warned: frozenset[str] = frozenset()

    @property
    def details(self) -> str:
        """Where to read more, as the end of a message; empty without a page."""
        return "" if self.page is None else f" Details: {self.page}"


def check(place: ChecksLayout, kind: Kind, name: str, figures: Sequence[Figure], notes: Sequence[str] = ()) -> Outcome:
    """Check figures, one rule each, and write the record and the pages.

    If the pages cannot be written, this is logged; it does not change the outcome.

    Args:
        place: folder of the records and pages.
        kind: what is checked.
        name: name of the check on the pages.
        figures: values and bounds.
        notes: a sentence for each rule that could not be checked, for the page.

    Raises:
        QualityError: a rule could not be computed.
    """
    validation = validated(kind, figures)
    record = CheckRecord(
        kind=kind,
        name=name,
        checked_at=datetime.now(UTC),
        rules=tuple(
            CheckedRule(
                name=figure.name,
                meaning=figure.meaning,
                unit=figure.unit,
                value=figure.value,
                least=figure.least,
                most=figure.most,
                warn_least=figure.warn_least,
                warn_most=figure.warn_most,
                settings=figure.settings,
                passed=figure.name not in validation.failed,
                warned=figure.name in validation.warned,
            )
            for figure in figures
        ),
        notes=tuple(notes),
        great_expectations=validation.result,
    )
    broken = tuple(figure for figure in figures if figure.name in validation.failed)
    return Outcome(broken, _keep(place, record), validation.warned)


def _keep(place: ChecksLayout, record: CheckRecord) -> Path | None:
    """Write a record and all pages that need it; None, with a warning, if that is not possible."""
    try:
        return _kept(place, record)
    except (OSError, HMambaError) as error:
        why = explained(error, str(place.folder)) or error
        log.warning(
            "%s: the pages about this check could not be written. The check itself is not affected. %s",
            place.folder,
            why,
        )
        return None


def _kept(place: ChecksLayout, record: CheckRecord) -> Path:
    storage = place.storage
    for path, is_folder in (
        (place.folder, True),
        (place.records, True),
        (place.of_kind(record.kind), True),
        (place.lock, False),
    ):
        if storage.exists(path) and storage.local_path(path).is_dir() != is_folder:
            log.warning("%s: it is made again, as it was %s.", path, "no folder" if is_folder else "a folder")
            storage.delete(path)
    with storage.lock(place.folder, place.lock.name, _WAIT_SECONDS):
        found = examine(place)
        stamp = f"{record.checked_at:%Y%m%dT%H%M%S%f}"
        own = place.record(record.kind, f"{stamp}-{re.sub(r'[^A-Za-z0-9.]+', '-', record.name)[:_LONGEST_NAME]}")
        record.write(own, storage)
        everything = {own: record, **found.records}
        kept = dict(_newest(everything))
        for path in (*found.unreadable, *(everything.keys() - kept.keys())):
            storage.delete(path)
            storage.delete(place.page(path))
        for page in found.strays:
            storage.delete(page)
        _write_pages(place, kept)
    if found.unreadable or found.outdated:
        log.warning("%s: %s.", place.folder, found.in_words("deleted with its page", "written again"))
    return place.page(own)


def _newest(records: dict[Path, CheckRecord]) -> Iterator[tuple[Path, CheckRecord]]:
    """The newest records of each kind."""
    by_kind = sorted(records.items(), key=lambda entry: (entry[1].kind, entry[0].name), reverse=True)
    for _, group in groupby(by_kind, key=lambda entry: entry[1].kind):
        yield from list(group)[:KEPT_CHECKS]


def _write_pages(place: ChecksLayout, records: dict[Path, CheckRecord]) -> None:
    storage = place.storage
    for path, text in _pages(place, records).items():
        if _differs(place, path, text):
            if storage.local_path(path).is_dir():
                storage.delete(path)
            write_text(storage, path, text)


def _pages(place: ChecksLayout, records: dict[Path, CheckRecord]) -> dict[Path, str]:
    """The text of every page that belongs to records."""
    pages = {place.page(path): render_check(record, path, place) for path, record in records.items()}
    return pages | {place.index: render_index({place.page(path): record for path, record in records.items()}, place)}


def _differs(place: ChecksLayout, path: Path, text: str) -> bool:
    page = place.storage.local_path(path)
    return not page.is_file() or page.read_bytes() != text.encode()


@dataclass(frozen=True)
class Findings:
    """What is in the folder of the checks.

    Attributes:
        records: records that can be read, by path.
        unreadable: damaged records, or those of another version.
        outdated: pages that are missing, damaged, or of another version.
        strays: pages without a record, left by a process that was killed while it deleted old ones.
    """

    records: dict[Path, CheckRecord]
    unreadable: tuple[Path, ...] = ()
    outdated: tuple[Path, ...] = ()
    strays: tuple[Path, ...] = ()

    def in_words(self, records: str, pages: str) -> str:
        """What is damaged, with what becomes of records and of pages; empty if everything is whole."""
        return "; ".join(
            f"{counted(len(paths), what)} ({paths[0].name}{', ...' if len(paths) > 1 else ''}) damaged or of another "
            f"version: {fate}"
            for paths, what, fate in ((self.unreadable, "record", records), (self.outdated, "page", pages))
            if paths
        )


def examine(place: ChecksLayout) -> Findings:
    """Read all records, and compare the pages with them. Changes nothing.

    Raises:
        OSError: a file cannot be read for a reason other than damage.
    """
    records: dict[Path, CheckRecord] = {}
    unreadable = []
    for path in place.all_records:
        try:
            records[path] = CheckRecord.read(path, place.storage)
        except (InputError, IsADirectoryError):
            unreadable.append(path)
    pages = _pages(place, records)
    # The index also lists damaged records, and is not written before the first one.
    comparable = {path: text for path, text in pages.items() if path != place.index or (records and not unreadable)}
    outdated = tuple(path for path, text in comparable.items() if _differs(place, path, text))
    strays = tuple(page for page in place.all_pages if page not in pages and page not in map(place.page, unreadable))
    return Findings(records, tuple(unreadable), outdated, strays)
