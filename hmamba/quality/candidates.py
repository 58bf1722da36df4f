"""Rules of the candidates, checked on the whole table before publication.

DuckDB counts over the Parquet parts; Great Expectations checks the counts, one expectation per rule.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba import columns
from hmamba.contracts.guards import GuardResult
from hmamba.contracts.manifest import Experiment
from hmamba.errors import QualityError
from hmamba.progress import track
from hmamba.quality.checks import check
from hmamba.quality.expectations import Figure
from hmamba.quality.guards import Guarded, Guarding, measure
from hmamba.score_terms import reason_names
from hmamba.statements import one, statement
from hmamba.storage.checks_layout import ChecksLayout

log = logging.getLogger("hmamba")


@dataclass(frozen=True)
class ShardFiles:
    """Parquet files of the users of one shard.

    Attributes:
        part: candidates.
        events: complete histories (user_id, item_index).
        users: described users (user_id) who have candidates even without events; None without such users.
    """

    part: Path
    events: tuple[Path, ...]
    users: Path | None = None


@dataclass(frozen=True)
class CandidateFiles:
    """Input of the rules: Parquet files, and the allowed ids.

    Attributes:
        shards: files of all users; each user is in one shard.
        items: the snapshot's items (item_index, item_id).
        indexed: the items that were scored (item_index, item_id).
        allowed: ids (strings) of the items that may be recommended; None for all items.
        columns: names of the columns of the candidates.
        experiment: the experiment; None without one.
    """

    shards: tuple[ShardFiles, ...]
    items: Path
    indexed: Path
    allowed: pa.ChunkedArray | None
    columns: tuple[str, ...] = tuple(columns.CANDIDATES)
    experiment: Experiment | None = None


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
    """Totals of valid candidates, and what the guards found in them."""

    rows: int
    users: int
    distinct_items: int
    model_version: str
    guards: Mapping[str, GuardResult] = field(default_factory=dict)
    control_users: int | None = None


def _check_columns(part: Path, names: Sequence[str]) -> None:
    try:
        schema = pq.read_schema(part)
    except (pa.ArrowException, OSError) as error:
        raise QualityError(f"{part} is not a whole Parquet file ({error}). Run the score step again.") from None
    found = dict(zip(schema.names, schema.types, strict=True))
    known = columns.CANDIDATES | columns.REASON | columns.GROUP
    wanted = {name: known[name] for name in names}
    if list(found.items()) != list(wanted.items()):
        expected = ", ".join(f"{name} {kind}" for name, kind in wanted.items())
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
    "quality/reasons": ("part", "items", "events", "reasons"),
    "quality/groups": ("part", "fallback", "salt", "limit", "control"),
}
"""Statements and the names of their bound values. They run shard by shard, so that memory is bounded by one shard."""


def create_eligible(connection: duckdb.DuckDBPyConnection, files: CandidateFiles) -> None:
    """Create the temporary tables ``allowed`` and ``eligible_items``: what may be recommended."""
    nothing = pa.chunked_array([], pa.string())
    connection.register("allowed", pa.table({columns.ITEM_ID: nothing if files.allowed is None else files.allowed}))
    eligible = {"indexed": str(files.indexed), "everything": files.allowed is None}
    connection.execute(statement("quality/eligible_items"), eligible)


def _count(connection: duckdb.DuckDBPyConnection, files: CandidateFiles, k: int, exclude_seen: bool) -> dict[str, Any]:
    """All figures by name, without those of rules that do not apply."""
    create_eligible(connection, files)
    skipped = {"quality/seen_items": not exclude_seen, "quality/forbidden_items": files.allowed is None}
    skipped["quality/reasons"] = columns.BECAUSE not in files.columns
    experiment = files.experiment
    skipped["quality/groups"] = experiment is None
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
            "reasons": list(reason_names()),
            "salt": experiment and experiment.salt,
            "limit": experiment and experiment.limit,
            "control": experiment and experiment.version,
        }
        for name, bound in _TABLES.items():
            connection.execute(statement(name), {key: values[key] for key in bound})
        if shard.users is not None:
            bound_users = {"users": str(shard.users), "k": k}
            connection.execute(statement("quality/expected_without_events"), bound_users)
        for name, bound in _FIGURES.items():
            if not skipped.get(name, False):
                found = one(connection, name, {key: values[key] for key in bound})
                own = found.pop("versions", None) or ()
                # With an experiment, only the versions of its treatment group have to be one.
                versions.update(() if experiment and name == "quality/candidate_rows" else own)
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
    "rows_with_unknown_reason": "rows whose `because` is empty or no known kind of evidence (`candidates.because`)",
    "rows_with_foreign_reason": "rows whose `because_item` is not in their user's history",
    "rows_with_wrong_version": "rows of the control group by another version than its baseline (`experiment`)",
    "users_in_wrong_group": "users who are in another group than the hash of their id says (`experiment.salt`)",
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


def _control_share(experiment: Experiment, counted: Mapping[str, int]) -> Figure:
    """The share of the control group, which may differ from the setting as much as chance makes it differ.

    Five standard deviations and one user: of millions of salts, one would be outside.
    """
    users, share = max(counted["users"], 1), experiment.control
    width = 5 * sqrt(share * (1 - share) / users) + 1 / users
    return Figure(
        "control_share",
        counted["control_users"] / users,
        max(share - width, 0.0),
        min(share + width, 1.0),
        meaning="users of the control group, of all users (`experiment.control`, and as much as chance may differ)",
        unit="share",
    )


def check_candidates(
    place: ChecksLayout,
    connection: duckdb.DuckDBPyConnection,
    files: CandidateFiles,
    k: int,
    exclude_seen: bool,
    name: str,
    guarding: Guarding | None = None,
    ruling: Ruling | None = None,
) -> CandidateTotals:
    """Check candidates against their snapshot and the table before, and add a page to Data Docs.

    The rules: every user of the snapshot, and every described user of a shard that names them, has exactly min(k,
    eligible items) rows. The rows of a user are contiguous in the shard's part and ordered by rank 1, 2, ...; users are
    ordered by id. No item occurs twice for a user. Scores are finite and do not increase with the rank. All items are
    in the snapshot; they are allowed and not seen, if the settings require it. All rows have one model version, except
    those of users with the popular items as fallback. If the table has reasons, each is a known one, and names an item
    of the user's history or none. With an experiment, each user is in the group that the hash says, and all rows of the
    control group are by its baseline.

    Args:
        place: folder of the checks.
        connection: DuckDB connection for the counts; temporary tables are created in it.
        files: candidates, snapshot and allowed items.
        k: maximum number of candidates per user.
        exclude_seen: whether items of a user's history are forbidden.
        name: name of this run in Data Docs.
        guarding: bounds of the guards, and the table before; None for no guards.
        ruling: what the rules of the root change; None without rules.

    Raises:
        QualityError: a rule is broken; the message names it with its figure and, for a guard, how to accept it.
    """
    for shard in files.shards:
        _check_columns(shard.part, files.columns)
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
    if files.experiment is not None:
        figures.append(_control_share(files.experiment, counted))
    guarded = Guarded()
    if guarding is not None:
        parts = [shard.part for shard in files.shards]
        guarded = measure(connection, parts, k, counted["users"], counted["distinct_items"], guarding)
    outcome = check(place, "candidates", name, [*figures, *guarded.figures], guarded.notes)
    if outcome.broken:
        cure = "" if guarding is None else guarding.how_to_accept(outcome.broken)
        raise QualityError(
            f"The candidates of {counted['users']} users broke their rules and nothing has been published: "
            f"{'; '.join(map(guarded.in_words, outcome.broken))}. Readers still have what was published before.{cure}"
            f"{outcome.details}"
        )
    if not counted["rows"]:
        log.warning(
            "publish: the table has no rows, because every user has seen all candidate items, or rules leave "
            "none. If users take items again, set candidates.exclude_seen = false; otherwise load more events, allow "
            "more items (candidates.allowed_items), or relax rules.toml."
        )
    results = {} if guarding is None else guarded.results(guarding, outcome.warned)
    return CandidateTotals(
        counted["rows"],
        counted["users"],
        counted["distinct_items"],
        counted["model_version"],
        results,
        counted.get("control_users"),
    )
