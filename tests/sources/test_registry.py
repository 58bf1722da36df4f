"""A further kind of source is one module and its line in the registry: a queue of Arrow batches, with a cursor."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pyarrow as pa
import pytest

from hmamba.config import Config
from hmamba.errors import InputError
from hmamba.sources.base import LINE, MALFORMED, LedgerEntry, Part, Reading, Rest, Selection, Source, require_columns
from hmamba.sources.registry import SOURCES
from hmamba.storage.layout import Layout
from tests.landing import DAY, Root

QUEUE: list[pa.RecordBatch] = []


@dataclass(frozen=True, kw_only=True)
class BatchPart(Part):
    batch: pa.RecordBatch

    def open(self, wanted: Iterable[str]) -> Reading:
        require_columns(self.name, wanted, self.batch.schema.names)
        return Reading(self.name, tuple(self.batch.schema.names), self._batches)

    def _batches(self, only: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
        rows, names = self.batch.num_rows, self.batch.schema.names if only is None else list(only)
        columns = [pa.array(range(rows), pa.int64()), pa.nulls(rows, pa.string())]
        columns += [self.batch.column(name) for name in names]
        yield pa.RecordBatch.from_arrays(columns, [LINE, MALFORMED, *names])


class QueueSource(Source):
    """What has been put into ``QUEUE``; each batch is a part, named by its number."""

    def __init__(self, layout: Layout, config: Config) -> None:
        self.prefix = config.source.path

    @property
    def is_empty(self) -> bool:
        return not QUEUE

    def select(self, entries: Sequence[LedgerEntry], day: date) -> Selection:
        rests: dict[str, Rest | None] = {entry.name: entry.rest_on(day) for entry in entries}
        taken = []
        for number, batch in enumerate(QUEUE):
            name = f"{self.prefix}/{number}"
            if rests.get(name) is not None or name not in rests:
                digest = hashlib.sha256(repr(batch.to_pylist()).encode()).hexdigest()
                origin = {"name": name, "size": batch.num_rows, "digest": digest}
                taken.append(BatchPart(**origin, batch=batch, is_new=name not in rests, rest=rests.get(name)))
        return Selection(tuple(taken), len(QUEUE) - len(taken))

    def nothing(self, parts: Sequence[Part]) -> InputError:
        return InputError(f"Nothing to start from: the queue {self.prefix} is empty.")


def put(*rows: tuple[str | None, str, datetime]) -> None:
    users, items, times = zip(*rows, strict=True)
    columns = {"user_id": pa.array(users, pa.string()), "item_id": pa.array(items), "event_time": pa.array(times)}
    QUEUE.append(pa.RecordBatch.from_pydict(columns))


@pytest.fixture
def queue(root: Root, monkeypatch: pytest.MonkeyPatch) -> Root:
    monkeypatch.setitem(SOURCES, "queue", QueueSource)
    QUEUE.clear()
    root.configure('[source]\nkind = "queue"\npath = "orders"\n')
    return root


NOON = datetime.combine(DAY, datetime.min.time()) + timedelta(hours=12)


def test_what_is_new_is_pulled_once(queue: Root) -> None:
    put(("ann", "tea", NOON), ("bob", "milk", NOON))
    facts = queue.ok("ingest")
    assert (facts["files"], facts["rows_loaded"], facts["files_skipped"]) == (1, 2, 0)
    put(("ann", "milk", NOON), ("ann", "tea", NOON))
    facts = queue.ok("ingest", run_id="again")
    assert (facts["files"], facts["rows_loaded"], facts["rows_duplicate"], facts["files_skipped"]) == (1, 1, 1, 1)
    assert queue.ok("ingest", run_id="idle")["files_skipped"] == 2
    assert queue.sql("SELECT user_id, item_id FROM interactions ORDER BY ALL") == [
        ("ann", "milk"),
        ("ann", "tea"),
        ("bob", "milk"),
    ]
    assert queue.sql("SELECT DISTINCT source FROM batches") == [("queue:orders",)]


def test_refused_rows_are_kept_with_their_origin(queue: Root) -> None:
    queue.configure('[source]\nkind = "queue"\npath = "orders"\n[quality]\nmax_quarantined_share = 1\n')
    put(("ann", "tea", NOON), (None, "milk", NOON))
    assert queue.ok("ingest")["quarantined_by_rule"] == {"user_id_present": 1}
    (kept,) = queue.sql("SELECT path, line, rules, record ->> 'item_id' FROM quarantine")
    assert kept == ("orders/0", 1, ["user_id_present"], "milk")


def test_rows_of_later_days_are_left_for_them(queue: Root) -> None:
    put(("ann", "tea", NOON - timedelta(days=1)), ("bob", "milk", NOON))
    facts = queue.ok("ingest", DAY - timedelta(days=1))
    assert (facts["rows_loaded"], facts["rows_left"]) == (1, 1)
    assert queue.ok("ingest", DAY)["rows_loaded"] == 1


def test_an_empty_source_says_so_in_its_own_words(queue: Root) -> None:
    code, _, log = queue.step("ingest")
    assert (code, "the queue orders is empty" in log, queue.layout.warehouse.exists()) == (2, True, False)


def test_a_missing_column_is_named(queue: Root) -> None:
    QUEUE.append(pa.RecordBatch.from_pydict({"user_id": ["ann"]}))
    code, _, log = queue.step("ingest")
    assert (code, "orders/0 has no column 'item_id', 'event_time'" in log) == (2, True), log


def test_an_unknown_kind_is_refused(root: Root) -> None:
    root.configure('[source]\nkind = "queue"\n')
    code, _, log = root.step("ingest")
    assert (code, "source.kind = 'queue' is not known. Give one of 'files'." in log) == (2, True), log
