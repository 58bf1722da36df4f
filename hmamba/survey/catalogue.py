"""Find the catalogue: the file whose ids match the items of the interactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from hmamba.config import SourceConfig
from hmamba.errors import HMambaError
from hmamba.sources.discover import SourceFile
from hmamba.sources.values import UnreadableType, ids
from hmamba.statements import Row, rows
from hmamba.survey.groups import Group, group
from hmamba.survey.roles import Profile, words_of
from hmamba.survey.sample import Budget, read, samples_of, spread

LEAST_MATCH = 0.5
"""Minimum share of the sampled items that a catalogue must contain."""
_OVERLAP = 1.25
"""If the items of the single files add up to more than this multiple of their distinct items, the files overlap: each
is a catalogue, not a part of one."""
_CLOSE = 0.2
"""Ids are ambiguous if their similarity to the users and to the items differs by at most this much."""
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
_MOST_ATTRIBUTES = 4
_LEAST_VALUES = 10
"""Attributes with fewer values describe too many items each to tell them apart."""


@dataclass(frozen=True)
class CatalogueFound:
    """A catalogue and its columns. ``match`` is the share of sampled items that it contains."""

    group: Group
    item_id: str
    title: str | None
    category_path: tuple[str, ...]
    match: float
    joined_by: str | None
    """Separator of several categories within one text; such a text is read as one category."""
    is_doubtful: bool = False
    """Whether its ids match the users equally well."""
    attributes: tuple[str, ...] = ()
    """Further columns of text whose values several items share."""

    @property
    def worth(self) -> tuple[bool, bool, bool, float]:
        """Sort key of catalogues."""
        return not self.is_doubtful, self.title is not None, bool(self.category_path), self.match


def find_catalogue(
    connection: duckdb.DuckDBPyConnection, groups: Sequence[Group], source: SourceConfig
) -> tuple[CatalogueFound | None, list[str]]:
    """The files that describe the items in the table ``staged``, and remarks about other possible catalogues.

    None if no files contain at least half of the items.
    """
    remarks: list[str] = []
    found = [known for whole in groups if (known := _examine(connection, whole, source, remarks))]
    best = max(found, key=lambda known: known.worth, default=None)
    if best is None:
        return None, remarks
    if best.is_doubtful:
        remarks.append(
            f"{best.group.shown}: {best.item_id!r} matches the ids of users equally well. Check the catalogue."
        )
    for known in found:
        if known is not best and (known.title is not None or known.category_path):
            remarks.append(_alternative(known.group.shown, best.group.shown))
    return best, remarks


def _alternative(other: str, taken: str) -> str:
    return f"{other} could be the catalogue too. {taken} was chosen."


def _examine(
    connection: duckdb.DuckDBPyConnection, whole: Group, source: SourceConfig, remarks: list[str]
) -> CatalogueFound | None:
    item_column = source.columns.item_id
    names = sorted(whole.columns, key=lambda name: (name != item_column, name not in whole.roles["item_id"]))
    for name in names:
        is_named = name in (item_column, *whole.roles["item_id"])
        if not is_named and words_of(name) != ["id"]:
            continue
        matched = _match(connection, whole, name, source.null_words, is_named)
        remarks += matched.remarks
        if matched.share >= LEAST_MATCH:
            kept = _narrowed(connection, whole, matched.files, source.null_words)
            title = _named(kept, _TITLES, {name})
            path, joined_by = _levels(kept, {name, title})
            attributes = _attributes(kept, {name, title, *path})
            return CatalogueFound(kept, name, title, path, matched.share, joined_by, matched.is_doubtful, attributes)
    return None


def _narrowed(
    connection: duckdb.DuckDBPyConnection, whole: Group, files: tuple[SourceFile, ...], null_words: Sequence[str]
) -> Group:
    """The group of these files only, with its columns profiled again."""
    if files == whole.files:
        return whole
    (kept, *_), _ = group(connection, files, null_words)
    return kept


@dataclass(frozen=True)
class _Match:
    """The files of a group whose ids in a column match items, and the share of the items that they contain."""

    files: tuple[SourceFile, ...] = ()
    share: float = 0.0
    is_doubtful: bool = False
    remarks: tuple[str, ...] = ()


def _match(
    connection: duckdb.DuckDBPyConnection, given: Group, column: str, null_words: Sequence[str], is_named: bool
) -> _Match:
    """Compare the ids of a column with the items, file by file. Files of events or of users are left out.

    Several files may be parts of one catalogue. If each is a catalogue of its own, the largest is chosen.

    Args:
        connection: has the table ``staged``.
        given: files with the same columns.
        column: name of the column.
        null_words: texts that mean an absent value.
        is_named: whether the column has the name of an item id; otherwise it may hold user ids.
    """
    files = spread(given.files)
    try:
        chunk = _ids(files, column, null_words)
    except (HMambaError, OSError, UnreadableType):
        return _Match()
    connection.register("chunk", chunk)
    try:
        found = rows(connection, "survey/matching_items", {"files": list(range(len(files)))})
        each = [row for row in found if row["file"] is not None]
        people = [row for row in each if not is_named and _are_users(row)]
        kept = [row for row in each if row not in people and row["ids"] > 0.5 * row["rows"]]
        remarks = [
            f"{files[row['file']].path.name}: {column!r} matches users rather than items: left out." for row in people
        ]
        if not kept:
            return _Match(remarks=tuple(remarks))
        whole, *_ = rows(connection, "survey/matching_items", {"files": [row["file"] for row in kept]})
    finally:
        connection.unregister("chunk")
    kept.sort(key=lambda row: (row["named_items"], row["ids"], row["file"]), reverse=True)
    alone = [row for row in kept if row["named_items"] >= LEAST_MATCH * row["items"]]
    if sum(row["named_items"] for row in alone) > _OVERLAP * whole["named_items"]:
        whole, *others = alone
        taken: tuple[SourceFile, ...] = (files[whole["file"]],)
        remarks += [_alternative(files[row["file"]].path.name, taken[0].path.name) for row in others]
    else:
        out = {files[row["file"]].path for row in each if row not in kept}
        taken = tuple(file for file in given.files if file.path not in out)
    is_doubtful = not is_named and abs(_similarity(whole, "user") - _similarity(whole, "item")) <= _CLOSE
    return _Match(taken, whole["named_items"] / max(whole["items"], 1), is_doubtful, tuple(remarks))


def _ids(files: Sequence[SourceFile], column: str, null_words: Sequence[str]) -> pa.Table:
    """Two columns: the number of a file, and an id of its column."""
    numbers, texts = [], []
    with samples_of(files, _BUDGET) as samples:
        for number, part in enumerate(samples):
            for chunk in read(part.file, [column])[column].chunks:
                texts.append(ids(chunk, null_words).texts())
                numbers.append(pa.repeat(number, len(chunk)))
    return pa.table({"file": pa.chunked_array(numbers, pa.int64()), "id": pa.chunked_array(texts, pa.string())})


def _similarity(row: Row, what: str) -> float:
    """Jaccard similarity of the ids and the users or items of the events."""
    common = row[f"named_{what}s"]
    return float(common / max(row["ids"] + row[f"{what}s"] - common, 1))


def _are_users(row: Row) -> bool:
    return (
        row["named_users"] >= LEAST_MATCH * row["users"]
        and _similarity(row, "user") > _similarity(row, "item") + _CLOSE
    )


def _named(described: Group, nouns: str, without: set[str | None]) -> str | None:
    """The text column whose name comes first in ``nouns``."""
    ranked = {noun: rank for rank, noun in enumerate(nouns.split())}
    fits = {
        name: ranked["".join(words_of(name))]
        for name, profile in described.columns.items()
        if name not in without and profile.is_text and profile.present and "".join(words_of(name)) in ranked
    }
    return min(fits, key=lambda name: fits[name], default=None)


def _levels(described: Group, without: set[str | None]) -> tuple[tuple[str, ...], str | None]:
    """The columns of the category path, and the separator of several categories in one text, if there is one.

    A list column is used alone, because it is a whole path. Other columns are ordered by their number of categories.
    """
    known = _CATEGORIES.split()
    named = [
        profile
        for name, profile in described.columns.items()
        if name not in without and "".join(words_of(name)) in known and profile.present
    ]
    for profile in named:
        if _is_texts(profile):
            return (profile.name,), None
    columns = [profile for profile in named if not pa.types.is_nested(profile.type) and _is_category(profile)]
    columns.sort(key=lambda profile: profile.distinct_values)
    if len(columns) == 1:
        return (columns[0].name,), _separator(described.head.column(columns[0].name))
    return tuple(profile.name for profile in columns[:_MOST_LEVELS]), None


def _attributes(described: Group, without: set[str | None]) -> tuple[str, ...]:
    """Columns whose values describe items: text, or lists of text, of which most values belong to several items.

    Numbers and times are left out, since near ones would count as different; so is text that joins several values,
    which would be read as one.
    """
    found = []
    for name, profile in described.columns.items():
        if name in without or not (profile.is_text or _is_texts(profile)):
            continue
        column = described.head.column(name)
        if _separator(column) is not None:
            continue
        values = pc.drop_null(pc.list_flatten(column) if _is_texts(profile) else column)
        distinct = pc.count_distinct(values).as_py()
        is_text = profile.share(profile.numbers) < 0.5 and profile.share(profile.times) < 0.5
        if is_text and _LEAST_VALUES < distinct <= 0.5 * len(values):
            found.append(name)
    return tuple(found[:_MOST_ATTRIBUTES])


def _is_texts(profile: Profile) -> bool:
    return bool(pa.types.is_list(profile.type) and pa.types.is_string(profile.type.value_type))


def _is_category(profile: Profile) -> bool:
    return 1 < profile.distinct_values <= max(0.5 * profile.present, 20) and not pa.types.is_floating(profile.type)


def _separator(values: pa.ChunkedArray) -> str | None:
    texts = [text for text in values.slice(0, 1000).to_pylist() if isinstance(text, str)]
    for mark in "|;>/,":
        if 3 * sum(mark in text for text in texts) > len(texts):
            return mark
    return None
