"""The item catalogue: titles and category paths, read from the user's files and applied to the items."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hmamba.config import CatalogueConfig, Config
from hmamba.errors import QualityError
from hmamba.quality.row_rules import CATALOGUE_RULES, with_rules
from hmamba.sources.base import Selection
from hmamba.sources.json_records import parsed
from hmamba.sources.values import Column, Members, UnreadableType, decoded, ids, texts
from hmamba.statements import one, statement
from hmamba.storage.local import digest
from hmamba.warehouse.ledger import entries, record
from hmamba.warehouse.refused import ReadPart, quarantine, tell_refusals
from hmamba.warehouse.staging import Picked, chunk_of, read_unchanged


def _side_by_side(columns: Sequence[pa.Array], count: int) -> pa.ListArray:
    """Combine columns into one list per row, in column order; ``count`` rows."""
    depth = len(columns)
    offsets = pa.array(np.arange(count + 1) * depth, pa.int32())
    if not columns:
        return pa.ListArray.from_arrays(offsets, pa.array([], pa.string()))
    by_row = np.arange(count * depth).reshape(depth, count).T.ravel()
    return pa.ListArray.from_arrays(offsets, pa.concat_arrays(columns).take(pa.array(by_row)))


def _path(column: Column, null_words: Sequence[str]) -> tuple[pa.ListArray, pa.BooleanArray]:
    """Category paths from a column of strings or lists, and a mask of the rows with values that are not text.

    Raises:
        UnreadableType: the column or its list items are nested or binary.
    """
    if isinstance(column, Members):
        return _member_path(column, null_words)
    column = decoded(column)
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        try:
            level, unreadable = texts(column, null_words)
        except UnreadableType:
            raise UnreadableType(kind, "a string or a list of strings") from None
        return _side_by_side([level], len(level)), unreadable
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    try:
        levels, _ = texts(column.flatten(), null_words)
    except UnreadableType:
        raise UnreadableType(kind, "a string or a list of strings") from None
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pa.ListArray.from_arrays(offsets, levels), pa.array(np.zeros(len(column), dtype=bool))


def _member_path(members: Members, null_words: Sequence[str]) -> tuple[pa.ListArray, pa.BooleanArray]:
    single, nested = texts(members, null_words)
    paths: list[list[str] | None] = [None if level is None else [level] for level in single.to_pylist()]
    unreadable = nested.to_numpy(zero_copy_only=False).copy()
    for row, text in enumerate(members.of_kind("ARRAY").to_pylist()):
        if text is not None:
            try:
                levels: list[Any] = parsed(text)
            except RecursionError:  # too deeply nested for a path: marked as unreadable below
                levels = [[]]
            unreadable[row] = any(isinstance(level, dict | list) for level in levels)
            written = [level if isinstance(level, str) else json.dumps(level) for level in levels if level is not None]
            trimmed = [level.strip() for level in written]
            paths[row] = [level for level in trimmed if level and level not in null_words]
    return pa.array(paths, pa.list_(pa.string())), pa.array(unreadable)


def _joined(lists: Sequence[pa.ListArray], count: int) -> pa.ListArray:
    """Concatenate the lists of each of ``count`` rows, in the given order."""
    if not lists:
        return _side_by_side([], count)
    rows = np.concatenate([pc.list_parent_indices(part).to_numpy() for part in lists])
    values = pa.concat_arrays([part.flatten() for part in lists])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))])
    order = np.argsort(rows, kind="stable")
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values.take(pa.array(order)))


def _attributes(column: Column, name: str, null_words: Sequence[str]) -> tuple[pa.ListArray, pa.BooleanArray]:
    """As :func:`_path`, each value as ``name=value``; absent values are left out."""
    found, unreadable = _path(column, null_words)
    rows, values = pc.list_parent_indices(found), found.flatten()
    present = values.is_valid()
    named = pc.binary_join_element_wise(name, values.filter(present), "=")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows.filter(present).to_numpy(), minlength=len(found)))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), named), unreadable


def _stage(
    connection: duckdb.DuckDBPyConnection, config: CatalogueConfig, words: Sequence[str], number: int, picked: Picked
) -> None:
    count = len(picked)
    found = picked.read(config.item_id, partial(ids, null_words=words))
    titles, unreadable = pa.nulls(count, pa.string()), []
    if config.title is not None:
        titles, nested = picked.read(config.title, partial(texts, null_words=words))
        unreadable.append(nested)
    if len(config.category_path) == 1:
        levels, nested = picked.read(config.category_path[0], partial(_path, null_words=words))
        unreadable.append(nested)
    else:
        read = [picked.read(name, partial(texts, null_words=words)) for name in config.category_path]
        levels = _side_by_side([level for level, _ in read], count)
        unreadable += [nested for _, nested in read]
    described = [picked.read(name, partial(_attributes, name=name, null_words=words)) for name in config.attributes]
    unreadable += [nested for _, nested in described]
    read = [picked.read(name, partial(texts, null_words=words)) for name in config.text]
    unreadable += [nested for _, nested in read]
    written = pa.nulls(count, pa.string())
    if read:
        written = pc.binary_join_element_wise(*(text for text, _ in read), " ", null_handling="replace")
    is_text = pc.invert(reduce(pc.or_, unreadable, pa.array(np.zeros(count, dtype=bool))))
    columns = {
        "line": picked.lines,
        "malformed": picked.malformed,
        "item_id": found.values,
        "title": titles,
        "levels": levels,
        "attributes": _joined([values for values, _ in described], count),
        "text": written,
        "is_text": is_text,
    }
    with chunk_of(connection, pa.RecordBatch.from_arrays(list(columns.values()), list(columns))):
        connection.execute(statement("catalogue/stage"), {"file": number})


def read_as(config: Config) -> str:
    """Digest of the settings that determine how a catalogue file is read."""
    names = config.catalogue
    parts: list[Any] = [names.item_id, names.title, names.category_path, config.source.null_words]
    # Without these settings, the digest is that of warehouses from before there were any: nothing is read again.
    if names.attributes or names.text:
        parts.append(names.attributes)
    if names.text:
        parts.append({"text": names.text})
    return digest(parts)


def apply_catalogue(connection: duckdb.DuckDBPyConnection, config: Config, selection: Selection, batch_id: int) -> None:
    """Describe the items by the catalogue; later files and rows override earlier ones. The caller commits.

    If the files were last read with other settings, everything that was read from them then is removed first.

    Rows that break a rule go to quarantine. The batch's counts do not include them, since they count interactions.

    Raises:
        InputError: a file does not match its extension, lacks a column, has a column of an unsupported type, or changed
            while it was read.
        QualityError: every row of a file is refused.
    """
    files, names = selection.to_load, config.catalogue
    if not files:
        return
    last_read_as = next((entry.read_as for entry in reversed(entries(connection, "catalogue"))), None)
    connection.execute(statement("catalogue/create"))
    counts = []
    for number, part in enumerate(files):
        each = partial(_stage, connection, names, config.source.null_words, number)
        counts.append(read_unchanged(connection, part, names.wanted, each))
        record(connection, batch_id, "catalogue", part, counts[-1])
    bounds = {"max_id_length": config.quality.max_id_length}
    connection.execute(with_rules("catalogue/refuse", CATALOGUE_RULES), bounds)
    read = [ReadPart(*each) for each in zip(files, counts, strict=True)]
    refusals = tell_refusals(connection, read, names.wanted, config)
    if refusals.whole_files:
        raise QualityError(
            f"The catalogue has files of which no row can be read, and nothing has been loaded. {refusals.examples}"
            "Fix the files, or the names of columns under [catalogue]."
        )
    quarantine(connection, batch_id, "catalogue", files, names.wanted)
    if last_read_as not in (None, read_as(config)):
        for name in ("catalogue/forget_items", "catalogue/forget_descriptions"):
            connection.execute(statement(name))
    for name in ("catalogue/add_items", "catalogue/describe_items"):
        connection.execute(statement(name))


def catalogue_warning(connection: duckdb.DuckDBPyConnection, path: str) -> str | None:
    """A warning if the catalogue at ``path`` has no item in common with the interactions, else None."""
    found = one(connection, "catalogue/match")
    if found["both_sides"] or not found["touched"]:
        return None
    if not found["named"]:
        return f"catalogue.path = {path!r}: none of its rows has an item id. Fill the file, or correct the setting."
    return (
        f"The catalogue names no item of the interactions: they have ids such as {found['of_interactions']!r}, it has "
        f"ids such as {found['of_catalogue']!r}. Write both alike (zeros in front count), or correct catalogue.item_id."
    )
