from __future__ import annotations

import shutil

import pandas as pd
import pytest

from hmamba.candidates.lookup import recommend
from hmamba.errors import InputError
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from tests.documents import edit
from tests.report.metrics_of_night import DAY, RUN, VERSION
from tests.report.night import publish

HOSTILE_USER = "o'neill\"; drop table users; --\n🧀"


@pytest.fixture
def published(copied: Layout) -> Layout:
    publish(copied)
    return copied


def test_a_users_best_items_come_first_with_their_names(published: Layout) -> None:
    found = recommend(published, "user-003", 4)
    assert (found.user, found.day, found.model_version) == ("user-003", DAY.isoformat(), VERSION)
    assert [row.rank for row in found.rows] == [1, 2, 3, 4]
    assert [row.score for row in found.rows] == sorted((row.score for row in found.rows), reverse=True)
    table = pd.concat(map(pd.read_parquet, sorted(published.published(DAY).glob("part-*.parquet"))))
    expected = table[table["user_id"] == "user-003"].sort_values("rank")["item_id"].head(4).tolist()
    assert [row.item_id for row in found.rows] == expected
    items = pd.read_parquet(published.run(DAY, RUN).sequences / "items.parquet").set_index("item_id")
    for row in found.rows:
        assert row.title == items.at[row.item_id, "title"]
        path = items.at[row.item_id, "category_path"]
        assert row.category == (None if path is None else " \u203a ".join(path))


def test_more_than_there_are_gives_all(published: Layout) -> None:
    assert len(recommend(published, "user-003", 1000).rows) == 10


def test_an_unknown_user_gets_ids_that_look_alike(published: Layout) -> None:
    with pytest.raises(InputError, match=r"'user-3' is not among the 40 users") as error:
        recommend(published, "user-3", 5)
    assert "'user-03" in str(error.value)


def test_a_hostile_id_is_only_a_value(published: Layout) -> None:
    part = next(iter(sorted(published.published(DAY).glob("part-*.parquet"))))
    frame = pd.read_parquet(part)
    frame.loc[frame["user_id"] == "user-000", "user_id"] = HOSTILE_USER
    frame.to_parquet(part, index=False)
    manifest = read_json(published.latest)
    manifest["files"][0]["bytes"] = part.stat().st_size
    edit(published.latest, files=manifest["files"])
    assert len(recommend(published, HOSTILE_USER, 10).rows) == 10


def test_without_the_snapshot_there_are_still_ids(published: Layout) -> None:
    shutil.rmtree(published.run(DAY, RUN).folder)
    row = recommend(published, "user-003", 1).rows[0]
    assert (row.title, row.category) == (None, None)


def test_nothing_published_says_what_to_run(layout: Layout) -> None:
    with pytest.raises(InputError, match=r"nothing is published .* hmamba run --root"):
        recommend(layout, "u", 1)


@pytest.mark.parametrize("fault", ["missing", "cut short"])
def test_a_file_that_is_not_as_the_manifest_says_is_named(published: Layout, fault: str) -> None:
    part = published.published(DAY) / "part-0001.parquet"
    if fault == "missing":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"part-0001\.parquet is named by .* missing or cut short"):
        recommend(published, "user-000", 1)


def test_a_user_is_shown_the_version_of_their_own_rows_and_the_tables_warning(published: Layout) -> None:
    part = published.published(DAY) / "part-0000.parquet"
    frame = pd.read_parquet(part)
    frame.loc[frame["user_id"] == "user-000", "model_version"] = "popularity"
    frame.to_parquet(part, index=False)
    manifest = read_json(published.latest)
    manifest["files"][0]["bytes"] = part.stat().st_size
    edit(published.latest, files=manifest["files"], warning="No model serves.")
    found = recommend(published, "user-000", 1)
    assert (found.model_version, found.warning) == ("popularity", "No model serves.")
    assert recommend(published, "user-003", 1).model_version == VERSION
