"""Rules of the tables beside the candidates, checked before publication: one suite for each table.

DuckDB counts over the Parquet parts; Great Expectations checks the counts, one expectation per rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba import columns
from hmamba.contracts.checks import Kind
from hmamba.contracts.tables import VectorSpace
from hmamba.errors import QualityError
from hmamba.quality.candidates import CandidateFiles, create_eligible
from hmamba.quality.checks import check
from hmamba.quality.expectations import Figure
from hmamba.statements import one, statement
from hmamba.storage.checks_layout import ChecksLayout

RANKINGS = ("window", "decayed", "trending")
"""Rankings of the table popular."""

_RANKED = {
    "rankings_with_wrong_ranks": "rankings whose rows are apart, or not in the order of the ranks 1, 2, ... up to k",
    "rows_repeated": "rows with the item or user of another row of the same ranking",
    "rows_with_null": "rows with an empty value",
    "rows_with_infinite_score": "rows whose score is not a finite number",
    "rows_with_rising_score": "rows with a higher score than the row above of the same ranking",
    "rows_with_ineligible_item": "rows with an item that may not be recommended",
}
_VECTORS = {
    "rows_repeated": "rows with the user or item of another row",
    "rows_with_null": "rows with an empty value",
    "rows_with_wrong_length": "rows whose vector does not have the model's dimensions, or whose point one less",
    "rows_with_infinite_coordinate": "rows with a coordinate that is not a finite number",
    "rows_off_the_surface": "rows whose point is not on the hyperboloid of the model's K",
}
_MEANINGS: Mapping[str, Mapping[str, str]] = {
    "similar_items": _RANKED
    | {
        "rows_with_unknown_source": "rows with a source that readers do not know",
        "rows_with_itself": "rows that name an item as similar to itself",
        "rows_with_unknown_item": "rows with an item that is not in the snapshot",
    },
    "popular": _RANKED
    | {
        "rows_with_unknown_ranking": "rows with a ranking that readers do not know",
        "rows_with_wrong_level": "rows whose category path does not have as many names as its level says",
        "rows_without_events": "rows with a score that is not above 0",
    },
    "segments": _RANKED
    | {
        "rows_above_certainty": "rows with a log-probability above 0",
        "rows_with_unknown_user": "rows with a user who is not in the snapshot",
        "rows_with_seen_item": "rows with a user who has seen the item (`candidates.exclude_seen`)",
    },
    "user_vectors": _VECTORS
    | {
        "rows_with_other_vector": "rows whose vector does not end with the 1 that multiplies the item's bias",
        "rows_with_unknown_user": "rows with a user who is not in the snapshot",
        "users_missing": "users with candidates of the model and without a vector",
    },
    "item_vectors": _VECTORS
    | {
        "rows_with_other_vector": "rows whose vector does not begin with the item's point",
        "rows_with_ineligible_item": "rows with an item that may not be recommended",
        "items_missing": "items that may be recommended and have no vector",
    },
}
"""What each figure of a table counts, in the order of the page. Each must be 0."""


_STATEMENTS: Mapping[str, tuple[str, str, Mapping[str, list[str]]]] = {
    "similar_items": (
        "table_rules/rankings_of_similar_items",
        "table_rules/similar_items",
        {"sources": [columns.ALIKE, columns.BOUGHT_TOGETHER, columns.SAME_TASTE]},
    ),
    "popular": ("table_rules/rankings_of_popular", "table_rules/popular", {"rankings": list(RANKINGS)}),
    "segments": ("table_rules/rankings_of_segments", "table_rules/segments", {}),
}
"""For each table of rankings: the statement that finds the rankings, that of its own rules, and the names it knows."""


@dataclass(frozen=True)
class TableRules:
    """What a table is checked against.

    Attributes:
        candidates: the candidates that it is published with, and their snapshot.
        parts: the table's Parquet files; of user_vectors, one for each shard.
        most: largest number of rows of a ranking; None for a table without rankings.
        exclude_seen: whether items of a user's history are forbidden.
        space: what vectors mean; None for other tables.
        denied: item indices of the items that rules remove for everybody; None without rules.
        figures: figures of the rules about users, of segments.
    """

    candidates: CandidateFiles
    parts: list[Path]
    most: int | None = None
    exclude_seen: bool = False
    space: VectorSpace | None = None
    denied: pa.Array | None = None
    figures: tuple[Figure, ...] = ()


def check_table(
    place: ChecksLayout, connection: duckdb.DuckDBPyConnection, table: str, rules: TableRules, name: str
) -> list[int]:
    """Check a table, add a page to Data Docs, and return the number of rows of each part.

    Args:
        place: folder of the checks.
        connection: DuckDB connection for the counts; temporary tables are created in it.
        table: name of the table.
        rules: the table, and what it is checked against.
        name: name of this run in Data Docs.

    Raises:
        QualityError: a rule is broken; the message names it with its figure.
    """
    rows = [_rows_of(part, table) for part in rules.parts]
    create_eligible(connection, rules.candidates)
    connection.execute(statement("table_rules/known_ids"), {"items": str(rules.candidates.items)})
    denied = pa.array([], pa.int32()) if rules.denied is None else rules.denied
    connection.register("denied_items", pa.table({columns.ITEM_INDEX: denied}))
    connection.execute(statement("table_rules/eligible_ids"))
    counted = Counter[str]()
    for found in (_vectors if rules.most is None else _ranked)(connection, table, rules):
        counted.update(found)
    figures = [Figure("rows", sum(rows), 0, None, meaning="rows of the table")]
    figures += [Figure(rule, counted[rule], None, 0, meaning=text) for rule, text in _MEANINGS[table].items()]
    figures += rules.figures
    outcome = check(place, cast(Kind, table), name, figures)
    if outcome.broken:
        raise QualityError(
            f"The table {table} broke its rules and nothing has been published: {'; '.join(map(str, outcome.broken))}. "
            f"Readers still have what was published before. To publish without it, remove {table!r} from "
            f"publish.tables.{outcome.details}"
        )
    return rows


def _rows_of(part: Path, table: str) -> int:
    """Number of rows of a file with the columns of a table."""
    try:
        metadata, schema = pq.read_metadata(part), pq.read_schema(part)
    except (pa.ArrowException, OSError) as error:
        raise QualityError(f"{part} is not a whole Parquet file ({error}). Run the night again.") from None
    found = dict(zip(schema.names, schema.types, strict=True))
    if found != columns.TABLES[table]:
        expected = ", ".join(f"{name} {kind}" for name, kind in columns.TABLES[table].items())
        present = ", ".join(f"{name} {kind}" for name, kind in found.items())
        raise QualityError(f"{part} has the columns {present}; {table} has {expected}. Nothing has been published.")
    return int(metadata.num_rows)


def _ranked(connection: duckdb.DuckDBPyConnection, table: str, rules: TableRules) -> Iterator[Mapping[str, Any]]:
    """Figures of a table of rankings, which is one file."""
    (part,) = map(str, rules.parts)
    rankings, rules_of, names = _STATEMENTS[table]
    connection.execute(statement(rankings), {"part": part})
    totals = one(connection, "table_rules/rankings", {"k": rules.most})
    yield totals
    yield one(connection, "table_rules/ranked_scores")
    yield one(connection, rules_of, {"part": part, **names})
    if table == "segments":
        known = 0
        for shard in rules.candidates.shards:
            values = {"part": part, "events": list(map(str, shard.events)), "exclude_seen": rules.exclude_seen}
            found = one(connection, "table_rules/segment_users", values)
            known += found.pop("known_rows")
            yield found
        yield {"rows_with_unknown_user": totals["rows"] - known}


def _vectors(connection: duckdb.DuckDBPyConnection, table: str, rules: TableRules) -> Iterator[Mapping[str, Any]]:
    """Figures of a table of vectors, part by part."""
    assert rules.space is not None  # tables without rankings are vectors
    space = {"dimensions": rules.space.dimensions, "K": rules.space.K, "flat": rules.space.score == "euclidean"}
    for part in rules.parts:
        yield one(connection, "table_rules/vectors", {"part": str(part), **space})
    if table == "item_vectors":
        (part,) = rules.parts
        yield one(connection, "table_rules/item_vectors", {"part": str(part)})
        return
    for part, shard in zip(rules.parts, rules.candidates.shards, strict=True):
        values = {
            "part": str(part),
            "candidates": str(shard.part),
            "events": list(map(str, shard.events)),
            "fallback": columns.FALLBACK_VERSION,
            "baseline": columns.BASELINE_VERSION,
        }
        yield one(connection, "table_rules/user_vectors", values)
