from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hmamba.report.statistics import describe, disk, gini


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    """Two users, three items, a catalogue of four; u1 has had a and b, u2 nothing."""
    items = pd.DataFrame(
        {
            "item_index": [1, 2, 3, 4],
            "item_id": ["a", "b", "c", "d"],
            "title": ["Apple", " ", None, "Date"],
            "category_path": [["fruit", "fresh", "red"], ["fruit", "fresh"], None, ["", "x"]],
            "first_seen": datetime(2024, 1, 1),
            "events": [6, 2, 1, 1],
        }
    )
    shard = pd.DataFrame(
        {
            "user_id": ["u1", "u1", "u1"],
            "item_index": [1, 1, 2],
            "event_time": datetime(2024, 1, 1),
            "weight": 1.0,
        }
    )
    candidates = pd.DataFrame(
        {
            "user_id": ["u1", "u1", "u2", "u2"],
            "rank": [1, 2, 1, 2],
            "item_id": ["a", "c", "a", "b"],
            "score": 1.0,
            "model_version": "v",
        }
    )
    paths = {name: tmp_path / f"{name}.parquet" for name in ("items", "shard", "candidates")}
    for name, frame in {"items": items, "shard": shard, "candidates": candidates}.items():
        frame.to_parquet(paths[name], index=False)
    return paths


def test_candidates_are_counted(tables: dict[str, Path]) -> None:
    found = describe([tables["candidates"]], tables["items"], [tables["shard"]], None)
    assert (found.rows, found.users, found.k, found.distinct_items, found.catalogue) == (4, 2, 2, 3, 4)
    assert found.coverage == 0.75
    assert found.new_to_user == 0.75  # u1 has had a; c is new to u1, a and b are new to u2
    assert found.top_percent == 0.5
    assert [(item.item_id, item.title, item.of_users) for item in found.top_items] == [
        ("a", "Apple", 1.0),
        ("b", "b", 0.5),
        ("c", "c", 0.5),
    ]
    shares = [(row.name, row.of_recommendations, row.of_events) for row in found.categories]
    assert shares == [("fruit \u203a fresh", 0.75, 0.8), ("(no category)", 0.25, 0.1)]


def test_without_a_snapshot_novelty_is_not_made_up(tables: dict[str, Path]) -> None:
    assert describe([tables["candidates"]], tables["items"], [], None).new_to_user is None


@pytest.mark.parametrize(
    ("counts", "catalogue", "expected"),
    [([5, 5, 5, 5], 4, 0.0), ([12], 4, 0.75), ([], 4, 0.0), ([1, 3], 2, 0.25)],
)
def test_gini(counts: list[int], catalogue: int, expected: float) -> None:
    assert gini(np.array(counts, dtype=np.int64), catalogue) == pytest.approx(expected)


def test_gini_agrees_with_its_definition(generator: np.random.Generator) -> None:
    counts = generator.integers(1, 50, size=30)
    padded = np.concatenate([counts, np.zeros(20)])
    mean_difference = np.abs(padded[:, None] - padded[None]).mean()
    assert gini(counts, 50) == pytest.approx(mean_difference / (2 * padded.mean()))


def test_an_empty_index_has_no_disk(tables: dict[str, Path], tmp_path: Path) -> None:
    empty = tmp_path / "empty.parquet"
    pd.DataFrame({"item_index": [1], "item_id": ["a"], "point": [[1.0, 0.0, 0.0]]}).iloc[:0].to_parquet(empty)
    assert disk(empty, tables["items"]) is None
