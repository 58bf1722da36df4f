"""Compare two published tables: whose lists have changed, and how. DuckDB reads parts that can share users together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import pyarrow.parquet as pq

from hmamba.candidates.lookup import PastEvent, history_of, names_of, published_manifest
from hmamba.config import WarehouseConfig
from hmamba.contracts.manifest import Manifest
from hmamba.errors import InputError
from hmamba.progress import track
from hmamba.quality.guards import FIRST, aligned
from hmamba.statements import one, rows, statement
from hmamba.storage.layout import Layout
from hmamba.warehouse.connection import in_memory

_SHOWN_DAYS = 10


@dataclass(frozen=True)
class ComparedTable:
    """One of the two tables.

    Attributes:
        day: its night.
        run_id: the run that made it.
        model_version: the model or baseline that served.
        refreshed_to: day of its last refresh; None for the table of the night itself.
        k: maximum number of rows of each user.
        rows, users: totals.
        items: number of distinct items.
        coverage: these as a share of the items that were scored; None if the working folder has been deleted.
    """

    day: date
    run_id: str
    model_version: str
    refreshed_to: date | None
    k: int
    rows: int
    users: int
    items: int
    coverage: float | None


@dataclass(frozen=True)
class ItemChange:
    """Numbers of users who had an item among their first items, and who have it now. ``title``: None if unknown."""

    item_id: str
    title: str | None
    users_before: int
    users_now: int


@dataclass(frozen=True)
class ListedItem:
    """An item of a list. ``in_both``: whether it is also among the first items of the other table."""

    item_id: str
    title: str | None
    in_both: bool


@dataclass(frozen=True)
class ComparedUser:
    """One user's first items in both tables.

    Attributes:
        user: the user's id.
        before, now: the lists, best first.
        history: the newest events in the later night's snapshot; None if its working folder has been deleted.
    """

    user: str
    before: tuple[ListedItem, ...]
    now: tuple[ListedItem, ...]
    history: tuple[PastEvent, ...] | None


@dataclass(frozen=True)
class TableComparison:
    """What differs between two tables. Shares are from 0 to 1, and None if there is nothing to compare.

    Attributes:
        before, now: the tables.
        users_in_both, users_gained, users_lost: users with rows in both tables, only now, and only before.
        users_with_more_rows, users_with_fewer_rows: of the users in both, those with lists of another length.
        first: number of items at the top of the lists that are compared, 10 unless k is smaller.
        depth: number of items that both lists can have, the smaller k.
        churn_first: share of the first items that were not among them before, over the users in both.
        churn_all: the same of the ``depth`` first items.
        same_best: share of the users in both whose best item is the same.
        same_first: share of the users in both whose first items are the same, in any order.
        rank_correlation: mean of Spearman's correlation of the order of the items that a user has in both lists.
        users_correlated: number of users with two such items or more.
        gained, lost: items that more and fewer users have among their first items, the largest change first.
        examples: users from the most changed to the least.
    """

    before: ComparedTable
    now: ComparedTable
    users_in_both: int
    users_gained: int
    users_lost: int
    users_with_more_rows: int
    users_with_fewer_rows: int
    first: int
    depth: int
    churn_first: float | None
    churn_all: float | None
    same_best: float | None
    same_first: float | None
    rank_correlation: float | None
    users_correlated: int
    gained: tuple[ItemChange, ...]
    lost: tuple[ItemChange, ...]
    examples: tuple[ComparedUser, ...]


def two_days(layout: Layout, first: date | None, second: date | None) -> tuple[date, date]:
    """The days to compare, the table before and the table now.

    One day is compared with the newest table, or if it is the newest, with the one before. Without days, these are the
    two newest.

    Raises:
        InputError: a given day has no published table, both are the same, or there is no other table.
    """
    days = [day for day, _ in layout.published_days]
    for given in (first, second):
        if given is not None and given not in days:
            raise InputError(f"No table of {given} is published. {_listed(days)}")
    if len(days) < 2:
        raise InputError(f"Two published tables are needed. {_listed(days)}")
    if second is None:
        first, second = (days[-2] if first in (None, days[-1]) else first), days[-1]
    if first is None:
        first = days[max(days.index(second) - 1, 0)]
    if first == second:
        raise InputError(f"Both tables are of {first}: name another day. {_listed(days)}")
    return first, second


def _listed(days: Sequence[date]) -> str:
    """The published days, as the end of a message."""
    if not days:
        return "Nothing is published: run a night first."
    more = f" and {len(days) - _SHOWN_DAYS:,} earlier ones" if len(days) > _SHOWN_DAYS else ""
    return f"Published: {', '.join(map(str, days[-_SHOWN_DAYS:]))}{more}."


def compare(
    layout: Layout,
    first: date,
    second: date,
    *,
    most: int = 10,
    users: int = 3,
    user: str | None = None,
    config: WarehouseConfig | None = None,
) -> TableComparison:
    """Compare the tables of two days.

    Args:
        layout: the root.
        first: day of the table before.
        second: day of the table now; it may be the earlier day.
        most: number of items that are listed as gained, and as lost.
        users: number of users that are shown, from the most changed to the least.
        user: show this user instead.
        config: limits of DuckDB; None for the defaults.

    Raises:
        InputError: a table is not published, one of its files is missing or cut short, or ``user`` is in neither.
    """
    manifests = [published_manifest(layout, day) for day in (first, second)]
    before, now = ([layout.storage.local_path(layout.root / file.path) for file in one.files] for one in manifests)
    depth = min(manifest.k for manifest in manifests)
    top = min(FIRST, depth)
    with in_memory(config) as connection:
        connection.execute(statement("compare/create_user_changes"))
        groups = [{"before": old, "now": new} for old, new in aligned(before, now)]
        for group in track(groups, "compare", len(groups), "parts"):
            connection.execute(statement("compare/user_changes"), {**group, "first": top, "depth": depth})
        totals = one(connection, "compare/change_totals", {"first": top})
        files = {"before": list(map(str, before)), "now": list(map(str, now))}
        connection.execute(statement("compare/item_changes"), {**files, "first": top})
        work = _Comparing(connection, layout, manifests[0], manifests[1], files["before"], files["now"], top)
        chosen = [user] if user is not None else work.users_by_change(users, totals["users_in_both"])
        return TableComparison(
            before=work.table(manifests[0], files["before"]),
            now=work.table(manifests[1], files["now"]),
            users_in_both=totals["users_in_both"],
            users_gained=totals["users_gained"],
            users_lost=totals["users_lost"],
            users_with_more_rows=totals["users_with_more_rows"],
            users_with_fewer_rows=totals["users_with_fewer_rows"],
            first=top,
            depth=depth,
            churn_first=_share(totals["new_first"], totals["entries_first"]),
            churn_all=_share(totals["new_all"], totals["entries_all"]),
            same_best=_share(totals["users_with_same_best"], totals["users_in_both"]),
            same_first=_share(totals["users_with_same_first"], totals["users_in_both"]),
            rank_correlation=totals["rank_correlation"],
            users_correlated=totals["users_correlated"],
            gained=work.items(1, most),
            lost=work.items(-1, most),
            examples=tuple(work.example(name) for name in chosen),
        )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class _Comparing:
    """Two tables, their files and a connection with the tables user_changes and item_changes."""

    connection: duckdb.DuckDBPyConnection
    layout: Layout
    manifest_before: Manifest
    manifest_now: Manifest
    before: list[str]
    now: list[str]
    first: int

    def table(self, manifest: Manifest, files: list[str]) -> ComparedTable:
        run = self.layout.run(manifest.day, manifest.run_id)
        points = run.storage.local_path(run.item_points)
        items = one(self.connection, "compare/distinct_items", {"files": files})["items"]
        return ComparedTable(
            day=manifest.day,
            run_id=manifest.run_id,
            model_version=manifest.model_version,
            refreshed_to=None if manifest.refresh is None else manifest.refresh.day,
            k=manifest.k,
            rows=manifest.rows,
            users=manifest.users,
            items=items,
            coverage=_share(items, pq.read_metadata(points).num_rows) if points.is_file() else None,
        )

    def items(self, sign: int, most: int) -> tuple[ItemChange, ...]:
        found = rows(self.connection, "compare/most_changed_items", {"sign": sign, "most": most})
        titles = self._titles([row["item_id"] for row in found])
        return tuple(ItemChange(title=titles.get(row["item_id"]), **row) for row in found)

    def users_by_change(self, number: int, users_in_both: int) -> list[str]:
        """Users at equal distances in the order of change."""
        number = min(number, users_in_both)
        places = [round(place * (users_in_both - 1) / max(number - 1, 1)) for place in range(number)]
        return [row["user_id"] for row in rows(self.connection, "compare/users_by_change", {"places": places})]

    def example(self, user: str) -> ComparedUser:
        before, now = (self._list(files, user) for files in (self.before, self.now))
        if not before and not now:
            raise InputError(
                f"user {user!r} is in neither of the tables of {self.manifest_before.day} and {self.manifest_now.day}. "
                "Correct the id, or leave the user out to see others."
            )
        titles = self._titles([*before, *now])
        history = history_of(self.connection, self.layout, self.manifest_now, user, self.first)
        listed = [
            tuple(ListedItem(item, titles.get(item), item in other) for item in own)
            for own, other in ((before, now), (now, before))
        ]
        return ComparedUser(user, listed[0], listed[1], history)

    def _list(self, files: list[str], user: str) -> list[str]:
        bound: dict[str, Any] = {"files": files, "user": user, "most": self.first}
        return [row["item_id"] for row in rows(self.connection, "compare/list_of_user", bound)]

    def _titles(self, items: list[str]) -> dict[str, str | None]:
        """Titles of items, from either night's snapshot."""
        found: dict[str, str | None] = {}
        for manifest in (self.manifest_before, self.manifest_now):
            named = names_of(self.connection, self.layout, manifest, items)
            found |= {item: title for item, (title, _) in named.items() if title}
        return found
