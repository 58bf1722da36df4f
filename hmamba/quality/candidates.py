"""Rules of the candidates, checked on the whole table before publication.

DuckDB counts over the Parquet parts; Great Expectations checks the counts, one expectation per rule.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba import columns
from hmamba.errors import QualityError
from hmamba.progress import track
from hmamba.quality.checks import check
from hmamba.quality.expectations import Figure
from hmamba.statements import one, statement
from hmamba.storage.layout import ChecksLayout

log = logging.getLogger("hmamba")


@dataclass(frozen=True)
class ShardFiles:
    """Parquet files of the users of one shard.

    Attributes:
        part: candidates.
        events: complete histories (user_id, item_index).
    """

    part: Path
    events: tuple[Path, ...]


@dataclass(frozen=True)
class CandidateFiles:
    """Input of the rules: Parquet files, and the allowed ids.

    Attributes:
        shards: files of all users; each user is in one shard.
        items: the snapshot's items (item_index, item_id).
        indexed: the items that were scored (item_index, item_id).
        allowed: ids (strings) of the items that may be recommended; None for all items.
    """

    shards: tuple[ShardFiles, ...]
    items: Path
    indexed: Path
    allowed: pa.ChunkedArray | None


@dataclass(frozen=True)
class Ruling:
    """What rules of the root change in the check.

    Attributes:
        short_users: number of users who may have fewer rows than eligible items.
        users_without_rows: number of them who may have none.
        figures: rows that break each rule.
    """

    short_users: int
    users_without_rows: int
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class CandidateTotals:
    """Totals of valid candidates."""

    rows: int
    users: int
    distinct_items: int
    model_version: str


def _check_columns(part: Path) -> None:
    try:
        schema = pq.read_schema(part)
    except (pa.ArrowException, OSError) as error:
        raise QualityError(f"{part} is not a whole Parquet file ({error}). Run the score step again.") from None
    found = dict(zip(schema.names, schema.types, strict=True))
    if found != columns.CANDIDATES:
        expected = ", ".join(f"{name} {kind}" for name, kind in columns.CANDIDATES.items())
        present = ", ".join(f"{name} {kind}" for name, kind in found.items())
        raise QualityError(f"{part} has the columns {present}; candidates have {expected}. Nothing has been published.")


_TABLES = {
    "quality/candidate_users": ("part",),
    "quality/expected_users": ("events", "k", "exclude_seen"),
}
_FIGURES = {
    "quality/candidate_rows": ("part", "fallback"),
    "quality/user_figures": (),
    "quality/rising_scores": ("part",),
    "quality/unknown_items": ("part", "items"),
    "quality/seen_items": ("part", "items", "events"),
    "quality/forbidden_items": ("part",),
}
"""Statements and the names of their bound values. They run shard by shard, so that memory is bounded by one shard."""


def _count(connection: duckdb.DuckDBPyConnection, files: CandidateFiles, k: int, exclude_seen: bool) -> dict[str, Any]:
    """All figures by name, without those of rules that do not apply."""
    nothing = pa.chunked_array([], pa.string())
    connection.register("allowed", pa.table({columns.ITEM_ID: nothing if files.allowed is None else files.allowed}))
    eligible = {"indexed": str(files.indexed), "everything": files.allowed is None}
    connection.execute(statement("quality/eligible_items"), eligible)
    skipped = {"quality/seen_items": not exclude_seen, "quality/forbidden_items": files.allowed is None}
    figures: Counter[str] = Counter()
    versions: set[str] = set()
    for shard in track(files.shards, "publish: check", len(files.shards), "shards"):
        values: dict[str, Any] = {
            "part": str(shard.part),
            "events": [str(path) for path in shard.events],
            "items": str(files.items),
            "fallback": columns.FALLBACK_VERSION,
            "k": k,
            "exclude_seen": exclude_seen,
        }
        for name, bound in _TABLES.items():
            connection.execute(statement(name), {key: values[key] for key in bound})
        for name, bound in _FIGURES.items():
            if not skipped.get(name, False):
                found = one(connection, name, {key: values[key] for key in bound})
                versions.update(found.pop("versions", None) or ())
                figures.update(found)
    return {
        **figures,
        **one(connection, "quality/distinct_items", {"parts": [str(shard.part) for shard in files.shards]}),
        "model_versions": len(versions),
        "model_version": min(versions, default=columns.FALLBACK_VERSION),
    }


_MEANINGS = {
    "rows": "rows of the table",
    "model_versions": "model versions in the table, apart from the mark of users with popular items",
    "rows_with_null": "rows with an empty value",
    "rows_with_infinite_score": "rows whose score is not a finite number",
    "rows_with_rising_score": "rows with a higher score than the row above of the same user",
    "rows_with_earlier_user": "rows whose user should come before the user of the row above",
    "rows_with_unknown_item": "rows with an item that is not in the snapshot",
    "rows_with_seen_item": "rows with an item that is in their user's history (`candidates.exclude_seen`)",
    "rows_with_forbidden_item": "rows with an item that may not be recommended (`candidates.allowed_items`)",
    "users_missing": "users of the snapshot without rows",
    "users_unknown": "users who are not in the snapshot",
    "users_with_wrong_count": "users with fewer or more rows than `candidates.k` and the number of items demand",
    "users_with_more_rows": "users with more rows than `candidates.k` and the number of items allow",
    "users_with_fewer_rows": "users with fewer rows than that, because rules (`rules.toml`) left no more",
    "users_without_rows": "of them, users without any",
    "users_with_wrong_ranks": "users whose rows are apart, or are not in the order of the ranks 1, 2, ...",
    "users_with_repeated_item": "users to whom an item is recommended twice",
}
"""What each figure counts, in the order of the page."""

_WITHOUT_RULES = {"users_missing", "users_with_wrong_count"}
_WITH_RULES = {"users_with_more_rows", "users_with_fewer_rows", "users_without_rows"}
"""Figures that are checked only without rules, and only with rules."""


def check_candidates(
    place: ChecksLayout,
    connection: duckdb.DuckDBPyConnection,
    files: CandidateFiles,
    k: int,
    exclude_seen: bool,
    name: str,
    ruling: Ruling | None = None,
) -> CandidateTotals:
    """Check candidates against their snapshot and add a page to Data Docs.

    The rules: every user of the snapshot has exactly min(k, eligible items) rows. The rows of a user are contiguous in
    the shard's part and ordered by rank 1, 2, ...; users are ordered by id. No item occurs twice for a user. Scores are
    finite and do not increase with the rank. All items are in the snapshot; they are allowed and not seen, if the
    settings require it. All rows have one model version, except those of users with the popular items as fallback.

    Args:
        place: folder of the checks.
        connection: DuckDB connection for the counts; temporary tables are created in it.
        files: candidates, snapshot and allowed items.
        k: maximum number of candidates per user.
        exclude_seen: whether items of a user's history are forbidden.
        name: name of this run in Data Docs.
        ruling: what the rules of the root change; None without rules.

    Raises:
        QualityError: a rule is broken; the message names it with its figure.
    """
    for shard in files.shards:
        _check_columns(shard.part)
    counted = _count(connection, files, k, exclude_seen)
    # The table has no rows if every user has seen all candidate items, or if rules leave none.
    least = min(1, counted["expected_users"] - (0 if ruling is None else ruling.users_without_rows))
    bounds: dict[str, tuple[float | None, float | None]] = {"rows": (least, None), "model_versions": (None, 1)}
    if ruling is not None:
        bounds["users_with_fewer_rows"] = (None, ruling.short_users)
        bounds["users_without_rows"] = (None, ruling.users_without_rows)
    left_out = _WITH_RULES if ruling is None else _WITHOUT_RULES
    figures = [
        Figure(rule, counted[rule], *bounds.get(rule, (None, 0)), meaning=meaning)
        for rule, meaning in _MEANINGS.items()
        if rule in counted and rule not in left_out
    ]
    figures += () if ruling is None else ruling.figures
    outcome = check(place, "candidates", name, figures)
    if outcome.broken:
        raise QualityError(
            f"The candidates of {counted['users']} users broke their rules and nothing has been published: "
            f"{'; '.join(map(str, outcome.broken))}. Readers still have what was published before.{outcome.details}"
        )
    if not counted["rows"]:
        log.warning(
            "publish: the table has no rows, because every user has seen all candidate items, or rules leave "
            "none. If users take items again, set candidates.exclude_seen = false; otherwise load more events, allow "
            "more items (candidates.allowed_items), or relax rules.toml."
        )
    return CandidateTotals(counted["rows"], counted["users"], counted["distinct_items"], counted["model_version"])
