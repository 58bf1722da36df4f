"""Finding the file that names the items: by whether its ids are those of the interactions."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from hmamba.errors import HMambaError
from hmamba.survey.groups import Group
from hmamba.survey.roles import Profile, words_of
from hmamba.survey.sample import Budget, read, spread, take
from hmamba.warehouse.tables import one

LEAST_MATCH = 0.5
"""Share of the sampled items that a catalogue has to name."""
_BUDGET = Budget(24 * 2**20, 4_000_000, 32 * 2**20)
_TITLES = (
    "title name label itemname productname itemtitle producttitle movietitle booktitle articlename trackname songname "
    "displayname description productdescription"
)
_CATEGORIES = (
    "categories categorypath category genres genre department section aisle subcategory maincategory productcategory "
    "producttype productgroup itemcategory class subclass topic topics commodity subcommodity commoditydesc "
    "subcommoditydesc family"
)
_MOST_LEVELS = 4


@dataclass(frozen=True)
class CatalogueFound:
    """A catalogue and its columns. ``match`` is the share of sampled items that it names."""

    group: Group
    item_id: str
    title: str | None
    category_path: tuple[str, ...]
    match: float
    joined_by: str | None
    """What separates several categories in one text, which are read as one name."""


def find_catalogue(
    connection: duckdb.DuckDBPyConnection, groups: Sequence[Group], item_column: str
) -> CatalogueFound | None:
    """The group that describes the items in the table ``sampled``, or None if none names at least half of them."""
    found = [known for group in groups if (known := _examine(connection, group, item_column))]
    return max(found, key=lambda known: (known.title is not None, bool(known.category_path), known.match), default=None)


def _examine(connection: duckdb.DuckDBPyConnection, group: Group, item_column: str) -> CatalogueFound | None:
    names = sorted(group.columns, key=lambda name: (name != item_column, name not in group.roles["item_id"]))
    ids = [name for name in names if name in (item_column, *group.roles["item_id"]) or words_of(name) == ["id"]]
    for name in ids:
        share = _match(connection, group, name)
        if share >= LEAST_MATCH:
            title = _named(group, _TITLES, {name})
            path, joined_by = _levels(group, {name, title})
            return CatalogueFound(group, name, title, path, share, joined_by)
    return None


def _match(connection: duckdb.DuckDBPyConnection, group: Group, column: str) -> float:
    """Share of the sampled items that a column names; 0 if the column rather holds events, with many rows an item."""
    with tempfile.TemporaryDirectory(prefix="hmamba-") as folder:
        try:
            parts = [read(part.file, [column]) for part in take(spread(group.files), Path(folder), _BUDGET)]
        except (HMambaError, OSError):
            return 0.0
    ids = pa.concat_tables(parts, promote_options="permissive")[column]
    connection.register("chunk", pa.table({"item_id": ids}))
    try:
        found = one(connection, "survey/matching_items")
    finally:
        connection.unregister("chunk")
    is_catalogue = found["ids"] > 0.5 * found["rows"]
    return float(found["found"] / found["items"]) if is_catalogue and found["items"] else 0.0


def _named(group: Group, nouns: str, without: set[str | None]) -> str | None:
    """The likeliest column of text with one of the names in ``nouns``."""
    ranked = {noun: rank for rank, noun in enumerate(nouns.split())}
    fits = {
        name: ranked["".join(words_of(name))]
        for name, profile in group.columns.items()
        if name not in without and profile.is_text and profile.present and "".join(words_of(name)) in ranked
    }
    return min(fits, key=lambda name: fits[name], default=None)


def _levels(group: Group, without: set[str | None]) -> tuple[tuple[str, ...], str | None]:
    """The columns of the category path, and what joins several categories in one text, if anything does.

    A list comes before columns: it is a path as it stands. Columns are ordered by how many categories they tell apart.
    """
    known = _CATEGORIES.split()
    named = [
        profile
        for name, profile in group.columns.items()
        if name not in without and "".join(words_of(name)) in known and profile.present
    ]
    for profile in named:
        if _is_texts(profile):
            return (profile.name,), None
    columns = [profile for profile in named if not pa.types.is_nested(profile.type) and _tells_apart(profile)]
    columns.sort(key=lambda profile: profile.distinct_values)
    if len(columns) == 1:
        return (columns[0].name,), _separator(group.head.column(columns[0].name))
    return tuple(profile.name for profile in columns[:_MOST_LEVELS]), None


def _is_texts(profile: Profile) -> bool:
    return bool(pa.types.is_list(profile.type) and pa.types.is_string(profile.type.value_type))


def _tells_apart(profile: Profile) -> bool:
    return 1 < profile.distinct_values <= max(0.5 * profile.present, 20) and not pa.types.is_floating(profile.type)


def _separator(values: pa.ChunkedArray) -> str | None:
    texts = [text for text in values.slice(0, 1000).to_pylist() if isinstance(text, str)]
    for mark in "|;>/,":
        if 3 * sum(mark in text for text in texts) > len(texts):
            return mark
    return None
