"""Replace the candidates of some users in a part of the table, reading it in batches."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.candidates.part import coded, part_writer, plain
from hmamba.columns import FALLBACK_VERSION, MODEL_VERSION, RANK, USER_ID
from hmamba.sequences.histories import IntArray, run_starts, runs, spans

_ROWS = 1 << 17


@dataclass(frozen=True)
class Replaced:
    """Counts of the written part: rows, fallback users, and users without rows in the part before."""

    rows: int
    fallback_users: int
    new_users: int


def replace_users(before: Path, touched: pa.Array, fresh: Path, target: Path) -> Replaced:
    """Write ``target``: the rows of ``before``, with those of touched users replaced by ``fresh``.

    Args:
        before: a part of the candidates, sorted by user and rank; so is ``target``.
        touched: (U,) ascending user ids; a user without rows in ``fresh`` has none in ``target``.
        fresh: rows of the touched users with the same columns, sorted by user and rank. It is loaded into memory
            completely.
        target: the part to write.
    """
    touched = touched.cast(pa.large_string())
    schema = plain(pq.read_schema(before).names)
    merge = _Merge(pq.read_table(fresh, schema=schema))
    text = [field.name for field in schema if pa.types.is_string(field.type)]
    rows = fallback = 0
    with ExitStack() as stack:
        source = stack.enter_context(pq.ParquetFile(before, read_dictionary=text))
        writer = stack.enter_context(part_writer(target, coded(schema)))
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="part"))
        written = pool.submit(lambda: None)
        for table in merge.pieces(source.iter_batches(_ROWS), touched):
            written.result()
            written = pool.submit(writer.write_table, table)  # while the next piece is read and merged
            versions = table[MODEL_VERSION].filter(pc.equal(table[RANK], 1)).cast(pa.string())
            rows, fallback = rows + len(table), fallback + (pc.sum(pc.equal(versions, FALLBACK_VERSION)).as_py() or 0)
        written.result()
    return Replaced(rows, fallback, int((~merge.had_rows).sum()))


class _Merge:
    """Merges the rows of touched users into a part.

    Attributes:
        had_rows: (U,) whether each user with fresh rows had rows in the part before.
    """

    def __init__(self, fresh: pa.Table) -> None:
        self._fresh, self._coded = fresh, coded(fresh.schema)
        self._users, self._ends = runs(fresh[USER_ID])
        self._names = self._users.to_pylist()
        self._done = 0
        self.had_rows = np.zeros(len(self._users), dtype=bool)

    def pieces(self, batches: Iterable[pa.RecordBatch], touched: pa.Array) -> Iterator[pa.Table]:
        """Yield the merged part, table by table."""
        for batch in batches:
            table = pa.Table.from_batches([batch])
            users, ends = _coded_runs(batch[USER_ID])
            is_touched = pc.is_in(users, value_set=touched)
            place = pc.index_in(users.filter(is_touched), value_set=self._users).drop_null()
            self.had_rows[place.to_numpy()] = True
            # The fresh rows of a user who continues in the next batch are written here; the old rows are dropped there.
            stop = bisect_right(self._names, users[-1].as_py(), lo=self._done)
            starts = np.concatenate([[0], ends[:-1]])
            kept = ~np.asarray(is_touched)
            yield self._with_fresh(table, users.filter(pa.array(kept)), starts[kept], (ends - starts)[kept], stop)
        empty = np.zeros(0, dtype=np.int64)
        yield self._with_fresh(self._coded.empty_table(), self._users.slice(0, 0), empty, empty, len(self._names))

    def _with_fresh(self, table: pa.Table, users: pa.Array, starts: IntArray, lengths: IntArray, stop: int) -> pa.Table:
        """Rows of these users from a table, with the fresh rows of users up to ``stop``, sorted by user."""
        bounds = np.concatenate([[0], self._ends])[self._done : stop + 1]
        names = pa.concat_arrays([users, self._users.slice(self._done, stop - self._done)])
        order = np.asarray(pc.sort_indices(names))
        first = np.concatenate([starts, len(table) + bounds[:-1] - bounds[0]])
        count = np.concatenate([lengths, np.diff(bounds)])
        fresh = self._fresh.slice(bounds[0], bounds[-1] - bounds[0]).cast(self._coded)
        both = pa.concat_tables([table, fresh]).unify_dictionaries().combine_chunks()
        self._done = stop
        return both.take(pa.array(spans(first[order], count[order])))


def _coded_runs(users: pa.DictionaryArray) -> tuple[pa.Array, IntArray]:
    """As :func:`.histories.runs`, for a dictionary array."""
    codes = users.indices.to_numpy()
    starts = run_starts(codes)
    return users.dictionary.take(pa.array(codes[starts])).cast(pa.large_string()), np.append(starts, len(codes))[1:]
