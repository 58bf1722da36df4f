"""What changed since the table before: counted by hand, in one part and in several."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from hmamba.contracts import Manifest
from hmamba.report.changes import since_last
from hmamba.report.plainly import changed
from hmamba.storage.layout import Layout
from tests.documents import manifest
from tests.report.metrics_of_night import VERSION
from tests.report.test_trend import write_documents

DAYS = date(2024, 1, 28), date(2024, 1, 30)
BEFORE = {"u1": "abc", "u2": "abc", "gone": "abc"}
AFTER = {"u1": "abd", "u2": "cba", "new": "xyz", "newer": "xyz"}


def publish(
    layout: Layout, day: date, table: dict[str, str], parts: int, **changes: object
) -> tuple[Manifest, list[Path]]:
    """Publish a table of users and their items, best first, in so many parts."""
    folder = layout.published(day)
    folder.mkdir(parents=True)
    rows = [(user, rank, item) for user, items in table.items() for rank, item in enumerate(items, 1)]
    frame = pd.DataFrame(rows, columns=["user_id", "rank", "item_id"])
    files = []
    for part in range(parts):
        path = folder / f"part-{part:04d}.parquet"
        frame[frame.user_id.map(lambda user, part=part: len(user) % parts == part)].to_parquet(path, index=False)
        place = path.relative_to(layout.root).as_posix()
        files.append({"path": place, "rows": 1, "bytes": 1, "sha256": ""})
    made = manifest(day=day, k=3, files=files, rows=len(frame), users=len(table), **changes)
    made.write(layout.published_manifest(day))
    return made, [layout.root / file["path"] for file in files]


@pytest.mark.parametrize("parts", [(1, 1), (2, 2), (2, 1)])
def test_churn_and_users_are_counted(layout: Layout, parts: tuple[int, int]) -> None:
    publish(layout, DAYS[0], BEFORE, parts[0], model_version="old")
    found = since_last(layout, *publish(layout, DAYS[1], AFTER, parts[1], model_version="new"))
    assert found is not None
    assert (found.users_new, found.users_gone, found.depth) == (2, 1, 3)
    assert found.churn == pytest.approx(1 / 6)  # of six items of u1 and u2, d is new; an order alone is no change
    assert found.models == ("old", "new")


def test_only_ranks_that_both_tables_have_are_compared(layout: Layout) -> None:
    publish(layout, DAYS[0], {"u1": "ab"}, 1)
    path = layout.published_manifest(DAYS[0])
    Manifest.read(path).model_copy(update={"k": 2}).write(path)
    found = since_last(layout, *publish(layout, DAYS[1], {"u1": "abz"}, 1))
    assert found is not None
    assert (found.depth, found.churn) == (2, 0.0)


def test_a_first_table_and_one_without_common_users_have_no_churn(layout: Layout) -> None:
    first = publish(layout, DAYS[0], BEFORE, 1)
    assert since_last(layout, *first) is None
    found = since_last(layout, *publish(layout, DAYS[1], {"other": "abc"}, 1))
    assert found is not None
    assert (found.churn, found.users_new, found.users_gone) == (None, 1, 3)


def test_tiles_are_figures_of_both_nights_from_their_documents(layout: Layout) -> None:
    for day in DAYS:
        write_documents(layout, day)
    publish(layout, DAYS[0], BEFORE, 1, model_version=VERSION)
    found = since_last(layout, *publish(layout, DAYS[1], AFTER, 1, model_version=VERSION))
    tiles = {tile.name: (tile.value, tile.before) for tile in changed(found)}
    assert tiles == {
        "users": ("40", "as before"),
        "rows": ("400", "as before"),
        "items recommended": ("60", "as before"),
        "new among the first 3": ("16.7 %", "of users who had recommendations before"),
        "NDCG@10, ratio to best baseline": ("1.22", "was 1.22"),
    }
    assert changed(None) == []


def test_an_earlier_night_without_documents_is_told(layout: Layout) -> None:
    publish(layout, DAYS[0], BEFORE, 1)
    write_documents(layout, DAYS[1])
    tiles = changed(since_last(layout, *publish(layout, DAYS[1], AFTER, 1)))
    assert tiles[0].before == "not known of the night before"
