"""Examples of users: who is chosen, what is shown, and that an erasure finds them."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from hmamba.contracts.manifest import SnapshotManifest
from hmamba.report.examples import Example, choose, digest_of, without_users

END = datetime(2024, 1, 31)


def manifest(**changes: object) -> SnapshotManifest:
    values = {
        "day": "2024-01-30", "end": END, "by_position": False, "batch": 1, "files": (), "users": 1, "events": 1,
        "items": 1, "shards": 1, "newest_event": END, "digest": "0",
    }  # fmt: skip
    return SnapshotManifest.model_validate(values | changes)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Thirty users with 3 to 32 events, two new ones, and one without candidates."""
    rows = []
    for user in range(30):
        rows += [(f"u{user:02d}", 1 + n % 3, END - timedelta(days=40 - n)) for n in range(3 + user)]
    rows += [("new", 2, END - timedelta(days=1)), ("new", 2, END - timedelta(hours=1)), ("lost", 1, END)]
    shard = pd.DataFrame(rows, columns=["user_id", "item_index", "event_time"])
    shard["event_time"] = shard["event_time"].astype("datetime64[us]")
    items = pd.DataFrame(
        {
            "item_index": [1, 2, 3, 4],
            "item_id": ["a", "b", "c", "d"],
            "title": ["Apple", " ", "Cherry", "Date"],
            "category_path": [["fruit", "red", "deep"], ["fruit"], None, []],
        }
    )
    users = [user for user in shard.user_id.unique() if user != "lost"]
    candidates = pd.DataFrame(
        [
            (user, rank, item, "popularity" if user == "new" else "v")
            for user in users
            for rank, item in enumerate(("d", "b"), 1)
        ],
        columns=["user_id", "rank", "item_id", "model_version"],
    )
    for name, frame in {"shard": shard, "items": items, "candidates": candidates}.items():
        frame.to_parquet(tmp_path / f"{name}.parquet", index=False)
    return {name: tmp_path / f"{name}.parquet" for name in ("shard", "items", "candidates")}


def chosen(files: dict[str, Path], most: int = 1, **changes: object) -> list[Example]:
    return choose(manifest(**changes), [files["candidates"]], [files["shard"]], files["items"], most)


def test_a_long_a_short_and_a_new_history_are_shown(files: dict[str, Path]) -> None:
    found = chosen(files)
    assert [one.kind for one in found] == ["long", "short", "new"]
    long, short, new = found
    assert long.events >= 29
    assert short.events <= 6
    assert (new.user_id, new.events, new.is_fallback, long.is_fallback) == ("new", 2, True, False)
    (taken,) = new.history
    assert (taken.title, taken.category, taken.times, taken.latest) == ("b", "fruit", 2, date(2024, 1, 30))
    assert [(item.title, item.category, item.is_known) for item in new.shown] == [
        ("Date", "", False),
        ("b", "fruit", True),
    ]
    latest = [item.latest for item in long.history if item.latest is not None]
    assert latest == sorted(latest, reverse=True)
    assert sum(item.times for item in long.history) == long.events
    assert {item.category for item in long.history} == {"fruit \u203a red", "fruit", ""}


def test_the_choice_is_the_same_every_time_and_most_limits_it(files: dict[str, Path]) -> None:
    assert chosen(files) == chosen(files)
    assert [one.kind for one in chosen(files, 2)].count("long") == 2
    assert chosen(files, 2)[0] == chosen(files)[0]


def test_without_times_nobody_is_new_and_no_day_is_shown(files: dict[str, Path]) -> None:
    found = chosen(files, by_position=True, end=datetime.max)
    assert {one.kind for one in found} == {"long", "short"}
    assert all(item.latest is None for one in found for item in one.history)


@pytest.mark.parametrize("user", ["7", "a" * 300, "<b>&", "\N{CHEESE WEDGE}"])
def test_an_example_is_removed_whole_whatever_the_id(user: str) -> None:
    kept = f'<article class="example" data-user="{digest_of("8")}">\n<p>pears</p></article>'
    gone = f'<article class="example" data-user="{digest_of(user)}">\n<p>cheese</p></article>'
    page = without_users(f"<p>before</p>{gone}{kept}<p>after</p>", [user, "nobody"])
    assert "cheese" not in page
    assert kept in page
    assert page.startswith("<p>before</p>")
    assert page.endswith("<p>after</p>")
    assert without_users(page, [user]) == page
