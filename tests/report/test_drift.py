"""Drift: planted changes are found, noise is not, and the index agrees with its definition."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hmamba.contracts.manifest import SnapshotManifest
from hmamba.report.drift import BINS, Drift, measure, shift_of

END = datetime(2024, 1, 31)
ITEMS = 30


def events_of(generator: np.random.Generator, day: float, chances: np.ndarray, number: int) -> pd.DataFrame:
    """Events of a week that ends ``day`` days before the end, each of another user."""
    return pd.DataFrame(
        {
            "user_id": [f"u{place}-{day}" for place in range(number)],
            "item_index": generator.choice(np.arange(1, ITEMS + 1), number, p=chances / chances.sum()),
            "event_time": [END - timedelta(days=day + 7 * share) for share in generator.random(number)],
        }
    )


def measured(folder: Path, *weeks: pd.DataFrame, by_position: bool = False, categories: int = 3) -> Drift | None:
    """The drift of a snapshot with these events."""
    events = pd.concat(weeks).sort_values(["user_id", "event_time"])
    events["event_time"] = events["event_time"].astype("datetime64[us]")
    items = pd.DataFrame(
        {
            "item_index": range(1, ITEMS + 1),
            "item_id": [f"i{number}" for number in range(1, ITEMS + 1)],
            "title": ["" if number == 1 else f"Item {number}" for number in range(1, ITEMS + 1)],
            "category_path": [[f"c{number % categories}"] for number in range(ITEMS)],
        }
    )
    items.to_parquet(folder / "items.parquet", index=False)
    events.to_parquet(folder / "shard-0000.parquet", index=False)
    manifest = SnapshotManifest(
        day=END.date() - timedelta(days=1), end=END, by_position=by_position, batch=1, files=(), users=1, events=1,
        items=1, shards=1, newest_event=END, digest="0",
    )  # fmt: skip
    return measure(manifest, [folder / "shard-0000.parquet"], folder / "items.parquet", 7)


def test_the_index_is_its_definition() -> None:
    shift = shift_of("items", [("a", 100, 50), ("b", 100, 150), ("c", 0, 0)])
    before, recent = np.array([100.5, 100.5, 0.5]) / 201.5, np.array([50.5, 150.5, 0.5]) / 201.5
    assert shift.psi == pytest.approx(((recent - before) * np.log(recent / before)).sum())
    assert shift.level == "large"
    assert [(move.name, move.before, move.recent) for move in shift.moves] == [("a", 0.5, 0.25), ("b", 0.5, 0.75)]


def test_equal_weeks_stay_below_what_chance_explains(tmp_path: Path, generator: np.random.Generator) -> None:
    chances = 1 / np.arange(1, ITEMS + 1)
    found = [
        shift
        for _ in range(20)
        for shift in measured(tmp_path, *(events_of(generator, day, chances, 300) for day in (0, 7))).shifts[:2]
    ]
    assert sum(shift.psi > shift.chance for shift in found) <= 6  # 5 % of 40 are expected
    assert all(shift.level in ("stable", "chance") for shift in found if shift.psi <= shift.chance)


def test_a_planted_shift_is_named_with_its_shares(tmp_path: Path, generator: np.random.Generator) -> None:
    flat, planted = np.ones(ITEMS), np.ones(ITEMS)
    planted[4] = 30
    found = measured(tmp_path, events_of(generator, 7, flat, 2000), events_of(generator, 0, planted, 2000))
    assert found is not None
    assert (found.before, found.recent) == (2000, 2000)
    assert (str(found.first), str(found.split), str(found.last)) == ("2024-01-17", "2024-01-24", "2024-01-30")
    items, categories, lengths = found.shifts
    assert (items.level, items.moves[0].name) == ("large", "Item 5")
    assert items.moves[0].before == pytest.approx(1 / ITEMS, abs=0.02)
    assert items.moves[0].recent == pytest.approx(30 / (ITEMS + 29), abs=0.05)
    assert (categories.moves[0].name, categories.level) == ("c1", "large")
    assert lengths.level == "stable"


def test_longer_histories_are_a_shift_of_their_lengths(tmp_path: Path, generator: np.random.Generator) -> None:
    flat = np.ones(ITEMS)
    before, recent = events_of(generator, 7, flat, 400), events_of(generator, 0, flat, 400)
    recent["user_id"] = [f"u{place // 8}-0" for place in range(400)]
    found = measured(tmp_path, before, recent)
    assert found is not None
    lengths = found.shifts[2]
    assert lengths.level == "large"
    assert {move.name for move in lengths.moves} == {"1 event", "5 to 9 events"}


def test_only_the_two_periods_count(tmp_path: Path, generator: np.random.Generator) -> None:
    flat, planted = np.ones(ITEMS), np.eye(ITEMS)[3]
    weeks = [events_of(generator, day, flat, 1000) for day in (0, 7)]
    alone = measured(tmp_path, *weeks)
    with_older = measured(tmp_path, *weeks, events_of(generator, 14, planted, 5000))
    assert alone is not None
    assert with_older is not None
    assert alone.shifts[:2] == with_older.shifts[:2]
    assert len(alone.shifts[0].moves) <= BINS


@pytest.mark.parametrize(("day", "words"), [(0, "no events before these days"), (7, "no events of these days")])
def test_an_empty_period_is_told(tmp_path: Path, generator: np.random.Generator, day: float, words: str) -> None:
    found = measured(tmp_path, events_of(generator, day, np.ones(ITEMS), 50))
    assert found is not None
    assert found.shifts == ()
    assert words in found.missing[0]


def test_one_category_and_no_times_are_told(tmp_path: Path, generator: np.random.Generator) -> None:
    weeks = [events_of(generator, day, np.ones(ITEMS), 200) for day in (0, 7)]
    found = measured(tmp_path, *weeks, categories=1)
    assert found is not None
    assert [shift.name for shift in found.shifts] == ["items", "lengths of history of active users"]
    assert "Categories are left out" in found.missing[0]
    assert measured(tmp_path, *weeks, by_position=True) is None
