"""Guards on planted tables: what each measures, and against what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from hmamba.config import GuardsConfig
from hmamba.quality.guards import Earlier, Guarded, Guarding, aligned, measure
from tests.scored import write_part

NIGHT_BEFORE = date(2024, 1, 29)
BOUNDS = GuardsConfig(max_churn=0.5, max_top_item=0.5, min_coverage=0.5, max_users_lost=0.5)

Lists = Mapping[str, list[str]]


def table(lists: Lists) -> pd.DataFrame:
    rows = [(user, rank, item, 1 / rank, "v1") for user in sorted(lists) for rank, item in enumerate(lists[user], 1)]
    return pd.DataFrame(rows, columns=["user_id", "rank", "item_id", "score", "model_version"])


def parts(folder: Path, *shards: Lists) -> tuple[Path, ...]:
    files = tuple(folder / f"part-{number:04d}.parquet" for number in range(len(shards)))
    for file, lists in zip(files, shards, strict=True):
        write_part(file, table(lists))
    return files


def guard(
    folder: Path, now: tuple[Lists, ...], before: tuple[Lists, ...] | Earlier | str, k: int = 2, **more: object
) -> Guarded:
    """Measure tables of at most k rows; five items may be recommended."""
    new = parts(folder / "now", *now)
    earlier = Earlier(NIGHT_BEFORE, k, parts(folder / "before", *before)) if isinstance(before, tuple) else before
    every = {item for shard in now for items in shard.values() for item in items}
    given: dict[str, Any] = {"config": BOUNDS, "earlier": earlier, **more}
    with duckdb.connect() as connection:
        connection.execute("CREATE TEMP TABLE eligible_items AS SELECT * FROM range(5) AS items(item_index)")
        return measure(connection, new, k, sum(map(len, now)), len(every), Guarding(**given))


def values(found: Guarded) -> dict[str, float]:
    return {figure.name: figure.value for figure in found.figures}


def test_each_figure_is_as_planted(tmp_path: Path) -> None:
    before: tuple[Lists, ...] = ({"a": ["1", "2"], "b": ["1", "2"], "gone": ["1", "2"]}, {"c": ["1", "2"]})
    now: tuple[Lists, ...] = ({"a": ["2", "1"], "b": ["1", "3"], "new": ["4", "1"]}, {"c": ["3", "4"]})
    found = guard(tmp_path, now, before)
    assert values(found) == {"churn": 3 / 6, "top_item": 3 / 4, "coverage": 4 / 5, "users_lost": 1 / 4}
    assert found.words == {
        "churn": "50 % of the first 2 items of 3 users were not among their first 2 in the table of 2024-01-29 (churn)",
        "top_item": "75 % of users have the item '1' among their first 2 (top_item)",
        "coverage": "4 of 5 items that may be recommended are in the table (80 %, coverage)",
        "users_lost": "1 of 4 users of the table of 2024-01-29 have no rows (25 %, users_lost)",
    }
    assert found.skipped == {}


def test_only_the_first_ten_of_a_list_count(tmp_path: Path) -> None:
    items = [str(number) for number in range(30)]
    before, now = ({"a": items[:12]},), ({"a": [*items[:9], "x", "y", "z"]},)
    found = guard(tmp_path, now, before, k=12)
    assert (values(found)["churn"], values(found)["users_lost"]) == (1 / 10, 0)
    same_ten = ({"a": [*items[:10], "y", "z"]}, {"b": ["9"] * 1})
    assert values(guard(tmp_path / "same", same_ten, before, k=12))["churn"] == 0


@pytest.mark.parametrize(("before", "now"), [(1, 1), (2, 2), (2, 4), (4, 2), (4, 6), (3, 5)])
def test_the_number_of_shards_does_not_matter(tmp_path: Path, before: int, now: int) -> None:
    """Users in shards as the snapshot has them; half of each list is new, and a tenth of the users is gone."""

    def shard(number: int) -> tuple[int, int]:
        (hashed,) = duckdb.execute(
            "SELECT CAST('0x' || left(md5($user), 8) AS BIGINT)", {"user": f"u{number}"}
        ).fetchone()  # type: ignore[misc]
        return hashed % before, hashed % now

    older: list[dict[str, list[str]]] = [{} for _ in range(before)]
    newer: list[dict[str, list[str]]] = [{} for _ in range(now)]
    for number in range(60):
        here, there = shard(number)
        older[here][f"u{number}"] = ["1", "2"]
        if number % 10:
            newer[there][f"u{number}"] = ["1", "3"]
    found = guard(tmp_path, tuple(newer), tuple(older))
    assert (values(found)["churn"], values(found)["users_lost"]) == (0.5, 0.1)


def test_shards_are_read_in_groups_that_can_share_users() -> None:
    new, old = [[Path(f"{kind}{number}") for number in range(count)] for kind, count in (("n", 4), ("o", 6))]
    assert list(aligned(new, old)) == [(["n0", "n2"], ["o0", "o2", "o4"]), (["n1", "n3"], ["o1", "o3", "o5"])]
    assert [len(group[0]) for group in aligned(new, new)] == [1, 1, 1, 1]


def test_a_guard_without_bounds_is_not_measured(tmp_path: Path) -> None:
    lists: tuple[Lists, ...] = ({"a": ["1", "2"]},)
    found = guard(tmp_path, lists, lists, config=GuardsConfig(warn_users_lost=None))
    assert (found.figures, found.skipped) == ([], {})
    assert values(guard(tmp_path / "default", lists, lists, config=GuardsConfig())) == {"users_lost": 0}


def test_what_cannot_be_compared_is_skipped_with_the_reason(tmp_path: Path) -> None:
    lists: tuple[Lists, ...] = ({"a": ["1", "2"]},)
    first = guard(tmp_path / "first", lists, "no table of an earlier day is published")
    assert first.notes == (
        "churn is not judged: no table of an earlier day is published.",
        "users_lost is not judged: no table of an earlier day is published.",
    )
    assert set(values(first)) == {"top_item", "coverage"}
    refreshed = guard(tmp_path / "refresh", lists, lists, is_refresh=True)
    assert refreshed.skipped == {"churn": "a refresh changes only the users with new events"}
    assert guard(tmp_path / "others", lists, ({"b": ["1"]},)).skipped == {
        "churn": "no user is also in the table of 2024-01-29"
    }
    nothing = guard(tmp_path / "nothing", ({},), lists)
    assert set(nothing.skipped) == {"churn", "top_item"}
    assert values(nothing) == {"coverage": 0, "users_lost": 1}


@pytest.mark.parametrize(("k", "skipped"), [(3, True), (12, True), (2, False)])
def test_after_a_change_of_k_the_first_items_must_be_as_many(tmp_path: Path, k: int, skipped: bool) -> None:
    lists: tuple[Lists, ...] = ({"a": ["1", "2"]},)
    before = Earlier(NIGHT_BEFORE, k, parts(tmp_path / "older", *lists))
    found = guard(tmp_path, lists, before)
    assert ("churn" in found.skipped) == skipped
    assert "users_lost" in values(found)


def test_a_longer_list_does_not_change_the_first_ten(tmp_path: Path) -> None:
    lists: tuple[Lists, ...] = ({"a": [str(number) for number in range(20)]},)
    before = Earlier(NIGHT_BEFORE, 100, parts(tmp_path / "older", *lists))
    assert values(guard(tmp_path, lists, before, k=20))["churn"] == 0


def test_a_damaged_earlier_table_is_no_reason_to_stop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lists: tuple[Lists, ...] = ({"a": ["1", "2"]},)
    before = Earlier(NIGHT_BEFORE, 2, parts(tmp_path / "older", *lists))
    before.parts[0].write_bytes(before.parts[0].read_bytes()[:-30])
    found = guard(tmp_path, lists, before)
    assert found.skipped == dict.fromkeys(("churn", "users_lost"), "the table of 2024-01-29 cannot be read")
    assert "the table of 2024-01-29 cannot be compared: " in caplog.text


def test_a_lack_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise duckdb.OutOfMemoryException("failed to allocate")

    lists: tuple[Lists, ...] = ({"a": ["1", "2"]},)
    monkeypatch.setattr("hmamba.quality.guards.one", full)
    with pytest.raises(duckdb.OutOfMemoryException):
        guard(tmp_path, lists, lists)
