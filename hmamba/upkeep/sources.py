"""Source files that hold rows of some users: which they are, and how they are written again without these rows."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.config import Config
from hmamba.errors import InputError
from hmamba.sources.discover import SourceFile, find_files
from hmamba.sources.files import FilePart
from hmamba.sources.values import ids
from hmamba.statements import statement
from hmamba.storage.layout import Layout
from hmamba.storage.local import atomic_file, sha256
from hmamba.upkeep.names import Names
from hmamba.warehouse.connection import connect, in_memory
from hmamba.warehouse.staging import Picked, read_unchanged

_TOKENS = (re.compile(r'[^\s,;|"{}\[\]:]+'), re.compile(r'[^\t,;|"]+'))
"""Words and fields of an unreadable record, as in sql/forget.sql."""


@dataclass(frozen=True)
class _Rows:
    """The records of a file: where each starts (N,), ascending, and whether it is of one of the users (N,)."""

    starts: list[int]
    wanted: list[bool]

    @property
    def found(self) -> bool:
        return any(self.wanted)

    def spans(self) -> Iterator[tuple[int, int | None]]:
        """First line of each record of the users, and the line after it; None for the end of the file."""
        for number, wanted in enumerate(self.wanted):
            if wanted:
                yield self.starts[number], self.starts[number + 1] if number + 1 < len(self.starts) else None


def files_that_name(layout: Layout, config: Config, users: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Source files with rows of the users, and a sentence for each file, or the folder, that cannot be read."""
    found, unreadable = [], []
    try:
        files = _files(layout, config)
    except InputError as error:
        return [], [str(error)]
    for file in files:
        try:
            if _rows(file, config, users).found:
                found.append(file.path)
        except InputError as error:
            unreadable.append(str(error))
    return found, unreadable


def erase_from_files(layout: Layout, config: Config, users: Sequence[str]) -> list[Path]:
    """Write source files again without the rows of the users; returns their paths.

    The ledger gets the new content, so that a pull does not read the file again. Files that cannot be read stay as they
    are, and so do all if the folder cannot be listed, see :func:`files_that_name`.
    """
    done: list[Path] = []
    try:
        files = _files(layout, config)
    except InputError:
        return done
    for file in files:
        try:
            rows = _rows(file, config, users)
        except InputError:
            continue
        if rows.found:
            _write(layout, config, file, rows)
            done.append(file.path)
    return done


def _files(layout: Layout, config: Config) -> list[SourceFile]:
    source = config.source
    return find_files(source.path, layout.root, "source.path", follow_links=source.follow_links, limits=source.limits)


def _rows(file: SourceFile, config: Config, users: Sequence[str]) -> _Rows:
    """Read a file's user ids as a pull does.

    Raises:
        InputError: the file cannot be read.
    """
    column, names = config.source.columns.user_id, Names(users)
    wanted = pa.array(users, pa.string())
    starts: list[int] = []
    hits: list[bool] = []

    def is_named(text: str) -> bool:
        tokens = {token.strip() for pattern in _TOKENS for token in pattern.findall(text)}
        return names.among(text) or not tokens.isdisjoint(users)

    def each(picked: Picked) -> None:
        values = picked.read(column, partial(ids, null_words=config.source.null_words)).texts()
        named = [text is not None and is_named(text) for text in picked.malformed.to_pylist()]
        starts.extend(picked.lines.to_pylist())
        hits.extend(np.logical_or(np.asarray(pc.is_in(values, value_set=wanted)), named).tolist())

    with in_memory(config.warehouse) as connection:
        read_unchanged(connection, FilePart.of(file), [column], each)
    return _Rows(starts, hits)


def _write(layout: Layout, config: Config, file: SourceFile, rows: _Rows) -> None:
    former = sha256(file.path)
    with atomic_file(file.path.resolve()) as fresh:  # behind a link, which stays
        if file.kind == "parquet":
            _write_parquet(file.path, fresh, rows)
        else:
            _write_text(file, fresh, rows)
        os.utime(fresh, ns=(file.modified_ns, file.modified_ns))
        # Before the exchange: a file that the ledger does not know would be pulled again.
        status = fresh.stat()
        entry = {
            "path": file.name,
            "bytes": status.st_size,
            "modified_ns": status.st_mtime_ns,
            "sha256": sha256(fresh),
            "former": former,
        }
        with connect(layout.warehouse, config.warehouse) as connection:
            connection.execute(statement("forget/add_rewritten_file"), entry)


def _write_parquet(path: Path, target: Path, rows: _Rows) -> None:
    kept = pa.array(np.logical_not(rows.wanted))
    with pq.ParquetFile(path) as file, pq.ParquetWriter(target, file.schema_arrow) as writer:
        first = 0
        for batch in file.iter_batches():
            mask = kept.slice(first, batch.num_rows)
            first += batch.num_rows
            table = pa.Table.from_batches([batch]).filter(mask)
            # A dictionary would keep the values of the rows that are left out.
            writer.write_table(
                pa.table([_decoded(column) for column in table.columns], table.column_names).cast(file.schema_arrow)
            )


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _write_text(file: SourceFile, target: Path, rows: _Rows) -> None:
    def opened(path: Path, mode: str) -> IO[bytes]:
        return gzip.open(path, mode) if file.gzipped else path.open(mode)  # type: ignore[return-value]

    with opened(file.path, "rb") as source, opened(target, "wb") as fresh:
        if file.kind == "json" and _is_array(source):
            elements = json.load(source)
            left = [one for one, wanted in zip(elements, rows.wanted, strict=True) if not wanted]
            fresh.write(json.dumps(left).encode())
            return
        spans = rows.spans()
        span = next(spans, None)
        for number, line in enumerate(source, start=1):
            while span is not None and span[1] is not None and number >= span[1]:
                span = next(spans, None)
            if span is None or number < span[0]:
                fresh.write(line)


def _is_array(source: IO[bytes]) -> bool:
    """Whether a JSON text begins with a bracket; the stream is at its start afterwards."""
    begins = source.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    source.seek(0)
    return begins
