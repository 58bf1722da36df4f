"""Replacing some users' candidates in a part of the table, without reading more than a piece of it at once."""

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

from hmamba.candidates.part import CODED, PLAIN, part_writer
from hmamba.columns import FALLBACK_VERSION, MODEL_VERSION, RANK, USER_ID
from hmamba.sequences.histories import IntArray, runs, spans

_ROWS = 1 << 17
_TEXT = [field.name for field in CODED if pa.types.is_dictionary(field.type)]


@dataclass(frozen=True)
class Replaced:
    """What a part holds now: rows, users who got popular items, and users who had no rows before."""

    rows: int
    fallback_users: int
    new_users: int


def replace_users(before: Path, touched: pa.Array, fresh: Path, target: Path) -> Replaced:
    """Write ``target``: the rows of ``before``, but for touched users theirs of ``fresh``; sorted as the two are.

    Args:
        before: a part of the candidates, sorted by user and rank.
        touched: (U,) ascending ids; those without rows in ``fresh`` have none afterwards.
        fresh: the touched users' rows, sorted by user and rank. It is held whole.
        target: the part to write.
    """
    touched = touched.cast(pa.large_string())
    merge = _Merge(pq.read_table(fresh, schema=PLAIN))
    rows = fallback = 0
    with ExitStack() as stack:
        source = stack.enter_context(pq.ParquetFile(before, read_dictionary=_TEXT))
        writer = stack.enter_context(part_writer(target, CODED))
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="part"))
        written = pool.submit(lambda: None)
        for table in merge.pieces(source.iter_batches(_ROWS), touched):
            written.result()
            written = pool.submit(writer.write_table, table)  # while the next piece is read and merged
            versions = table[MODEL_VERSION].filter(pc.equal(table[RANK], 1)).cast(pa.string())
            rows, fallback = rows + len(table), fallback + (pc.sum(pc.equal(versions, FALLBACK_VERSION)).as_py() or 0)
        written.result()
    return Replaced(rows, fallback, int((~merge.had).sum()))


class _Merge:
    """Rows of touched users, on their way into a part.

    Attributes:
        had: (U,) which of the users with fresh rows had some before.
    """

    def __init__(self, fresh: pa.Table) -> None:
        self._fresh = fresh
        self._users, self._ends = runs(fresh[USER_ID])
        self._names = self._users.to_pylist()
        self._done = 0
        self.had = np.zeros(len(self._users), dtype=bool)

    def pieces(self, batches: Iterable[pa.RecordBatch], touched: pa.Array) -> Iterator[pa.Table]:
        """The part as it is to be, piece by piece."""
        for batch in batches:
            table = pa.Table.from_batches([batch])
            users, ends = _coded_runs(batch[USER_ID])
            is_touched = pc.is_in(users, value_set=touched)
            place = pc.index_in(users.filter(is_touched), value_set=self._users).drop_null()
            self.had[place.to_numpy()] = True
            # A user who goes on in the next batch is done with here: what is left of the old rows is dropped there.
            stop = bisect_right(self._names, users[-1].as_py(), lo=self._done)
            starts = np.concatenate([[0], ends[:-1]])
            kept = ~np.asarray(is_touched)
            yield self._with_fresh(table, users.filter(pa.array(kept)), starts[kept], (ends - starts)[kept], stop)
        nobody = np.zeros(0, dtype=np.int64)
        yield self._with_fresh(CODED.empty_table(), self._users.slice(0, 0), nobody, nobody, len(self._names))

    def _with_fresh(self, table: pa.Table, users: pa.Array, starts: IntArray, lengths: IntArray, stop: int) -> pa.Table:
        """These users' rows of a table, and the fresh ones of users up to ``stop``, in order."""
        mine = np.concatenate([[0], self._ends])[self._done : stop + 1]
        names = pa.concat_arrays([users, self._users.slice(self._done, stop - self._done)])
        order = np.asarray(pc.sort_indices(names))
        first = np.concatenate([starts, len(table) + mine[:-1] - mine[0]])
        count = np.concatenate([lengths, np.diff(mine)])
        fresh = self._fresh.slice(mine[0], mine[-1] - mine[0]).cast(CODED)
        both = pa.concat_tables([table, fresh]).unify_dictionaries().combine_chunks()
        self._done = stop
        return both.take(pa.array(spans(first[order], count[order])))


def _coded_runs(users: pa.DictionaryArray) -> tuple[pa.Array, IntArray]:
    """As :func:`.histories.runs`, of one array of codes."""
    codes = users.indices.to_numpy()
    ends = np.append(np.flatnonzero(np.diff(codes)) + 1, len(codes))
    return users.dictionary.take(pa.array(codes[ends - 1])).cast(pa.large_string()), ends
