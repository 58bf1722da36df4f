"""Explanations of a real night: they agree with the published table, and say why an item is not in it."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hmamba.candidates.explain import explain
from hmamba.candidates.explanation import Explanation
from hmamba.candidates.lookup import recommend
from hmamba.columns import FALLBACK_VERSION
from hmamba.errors import InputError
from hmamba.storage.layout import Layout
from jobs import gate, index, ingest, publish, refresh, score, snapshot, train
from tests.documents import edit
from tests.jobs.commands.call import call
from tests.landing import TINY, TINY_ONCE
from tests.synthetic import make_catalogue, make_interactions, write_landing

NIGHT, NEXT = date(2024, 1, 28), date(2024, 1, 29)
CATALOGUE = """
[source.columns]
weight = "weight"
[catalogue]
path = "landing/products"
title = "title"
attributes = ["brand"]
"""
ITEMS = 44  # items 40 to 43 are new


def steps(layout: Layout, day: date, *names: object) -> None:
    for step in names:
        extra = ["--shards", "0-1"] if step is score else []
        arguments = ["--root", str(layout.root), "--day", day.isoformat(), *extra]
        assert step.main(arguments) == 0, step.__name__


def shop(root: Path, settings: str) -> Layout:
    """A root after a night."""
    layout = Layout.at(root)
    layout.config.write_text(settings + "because = true\nnew_items = 0.4\n[gate]\ntolerance = 0.9\n" + CATALOGUE)
    returned = {"user_id": ["zzz"], "item_id": ["item-001"], "event_time": [pd.Timestamp(2024, 1, 5)], "weight": 0.0}
    events = make_interactions(users=30, items=40, days=28)
    write_landing(layout.root, pd.concat([events, pd.DataFrame(returned)], ignore_index=True))
    products = layout.landing / "products"
    products.mkdir()
    brands = [f"brand {number // 4 % 10}" for number in range(ITEMS)]
    make_catalogue(ITEMS).assign(brand=brands).to_csv(products / "p.csv", index=False)
    allowed = [f"item-{number:03d}" for number in range(ITEMS) if number != 7]
    pd.DataFrame({"item_id": allowed}).to_csv(layout.root / "allowed.csv", index=False)
    steps(layout, NIGHT, ingest, snapshot, train, gate, index, score, publish)
    return layout


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    settings = TINY_ONCE + 'allowed_items = "allowed.csv"\n'
    return shop(tmp_path_factory.mktemp("explained"), settings)


@pytest.fixture
def copied(night: Layout, tmp_path: Path) -> Layout:
    return Layout.at(shutil.copytree(night.root, tmp_path / "root", symlinks=True))


def table(layout: Layout) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(part) for part in layout.published_parts(NIGHT)], ignore_index=True)


def test_it_agrees_with_the_published_rows(night: Layout) -> None:
    published = table(night)
    assert {"taste", "together", "alike", "popular", "new"} & set(published.because)
    for row in published.iloc[::13].itertuples():
        found = explain(night, row.user_id, row.item_id)
        assert (found.rank, found.why_not) == (row.rank, None)
        is_new = int(row.item_id[5:]) >= 40
        assert found.note is None or ("a share of the places is for new items" in found.note and is_new)
        assert found.model_version == row.model_version
        assert found.score == pytest.approx(row.score, abs=1e-4)
        assert found.mean + sum(part.value for part in found.parts) == pytest.approx(row.score, abs=1e-3)
        values = [part.value for part in found.parts]
        assert values == sorted(values, reverse=True)
        best = found.parts[0]
        assert row.because == best.because or (row.because, best.because) in (("new", "taste"), ("new", "popular"))
        if isinstance(row.because_item, str):
            assert best.sources[0].item_id == row.because_item
            assert best.sources[0].title == f"Thing {int(row.because_item[5:])}"
            assert sum(source.share for source in best.sources) <= 1 + 1e-6


def test_the_place_is_that_in_a_ranking_of_all_items(night: Layout) -> None:
    user = "user-004"
    found = [explain(night, user, f"item-{number:03d}") for number in range(ITEMS)]
    ranked = sorted((one for one in found if one.place is not None), key=lambda one: one.place)
    assert [one.place for one in ranked] == list(range(1, ranked[0].places + 1))
    scores = [one.score for one in ranked]
    assert scores == sorted(scores, reverse=True)
    published = set(table(night).query("user_id == @user").item_id)
    assert {one.item_id for one in found if one.rank is not None} == published
    assert all(one.why_not for one in found if one.rank is None)


def first(layout: Layout, user: str, *, seen: bool) -> str:
    events = make_interactions(users=30, items=40, days=28)
    own = set(events[events.user_id == user].item_id)
    listed = set(table(layout).query("user_id == @user").item_id)
    names = [f"item-{number:03d}" for number in range(40) if number != 7]
    return next(name for name in names if (name in own) == seen and name not in listed)


def test_why_an_item_is_not_in_the_list(night: Layout) -> None:
    user = "user-004"
    seen = explain(night, user, first(night, user, seen=True))
    assert seen.why_not == "The user has seen the item, and candidates.exclude_seen = true."
    assert seen.times_taken > 0
    assert seen.last_taken is not None
    assert (seen.place, seen.score) == (None, None)
    assert seen.parts
    denied = explain(night, user, "item-007")
    assert denied.why_not == "The item is not in candidates.allowed_items."
    assert denied.parts == ()
    beyond = next(
        one
        for one in (explain(night, user, f"item-{number:03d}") for number in range(ITEMS))
        if one.place is not None and one.place > one.k and one.rank is None
    )
    assert f"in place {beyond.place} of {beyond.places}, and the list ends with 5 items" in str(beyond.why_not)


def test_items_and_users_that_nobody_knows_get_ids_that_look_alike(night: Layout) -> None:
    with pytest.raises(InputError, match=r"item 'item-7' is not among the 44 items of 2024-01-28\. .*'item-"):
        explain(night, "user-004", "item-7")
    with pytest.raises(InputError, match=r"user 'user-4' is not among the 31 users .*'user-"):
        explain(night, "user-4", "item-001")


def test_a_deleted_run_folder_is_an_error_with_a_cure(copied: Layout) -> None:
    run = copied.run(NIGHT, "manual").folder
    shutil.rmtree(run)
    with pytest.raises(InputError, match=r"has been deleted.* Run the night again: hmamba run --root .* --day") as told:
        explain(copied, "user-004", "item-001")
    assert "raise keep.runs" in str(told.value)
    # The cure works.
    steps(copied, NIGHT, ingest, snapshot, train, gate, index, score, publish)
    assert explain(copied, "user-004", "item-001").day == "2024-01-28"


def test_a_night_that_was_run_again_since_is_not_that_of_the_table(copied: Layout) -> None:
    edit(copied.published_manifest(NIGHT), snapshot="0123")
    with pytest.raises(InputError, match="it has been run again since"):
        explain(copied, "user-004", "item-001")


def test_after_a_refresh_it_says_that_the_list_is_newer(copied: Layout) -> None:
    later = pd.DataFrame(
        {"user_id": ["user-004"], "item_id": ["item-030"], "event_time": [pd.Timestamp(2024, 1, 29)], "weight": 1.0}
    )
    write_landing(copied.root, later, "later.parquet")
    before = table(copied)
    steps(copied, NEXT, ingest, refresh)
    after = table(copied)
    own = after[after.user_id == "user-004"]
    assert not own.equals(before[before.user_id == "user-004"])
    notes = [explain(copied, "user-004", item).note for item in own.item_id]
    assert any("a refresh has read newer events than this explanation" in str(note) for note in notes)
    assert explain(copied, "user-005", after[after.user_id == "user-005"].item_id.iloc[0]).note is None


def test_a_user_without_usable_history_has_popular_items(night: Layout) -> None:
    row = table(night).query("user_id == 'zzz'").iloc[2]
    assert (row.model_version, row.because) == (FALLBACK_VERSION, "popular")
    found = explain(night, "zzz", row.item_id)
    assert (found.rank, found.place, found.model_version, found.parts) == (3, 3, FALLBACK_VERSION, ())
    assert found.score == pytest.approx(row.score, abs=1e-5)
    assert "has seen" in str(explain(night, "zzz", "item-001").why_not)


def test_an_item_that_the_model_cannot_recommend(night: Layout) -> None:
    """Items with fewer training events than train.min_item_events are read and not recommended."""
    names = set(pd.read_parquet(night.run(NIGHT, "manual").items).item_id)
    served = set(pd.read_parquet(night.run(NIGHT, "manual").item_points).item_id)
    rare = names - served - {"item-007"} - {f"item-{number:03d}" for number in range(40, ITEMS)}
    assert rare
    for item in rare:
        found = explain(night, "zzz", item)
        assert "fewer training events than train.min_item_events" in str(found.why_not)
        assert (found.score, found.place) == (None, None)


def test_a_baseline(tmp_path: Path) -> None:
    layout = shop(tmp_path, TINY)
    row = table(layout).query("user_id == 'user-004'").iloc[1]
    assert row.model_version.startswith("baseline-")
    found = explain(layout, "user-004", row.item_id)
    assert (found.rank, found.place, found.parts) == (2, 2, ())
    assert found.score == pytest.approx(row.score, rel=1e-5)
    assert "may not be recommended" in str(explain(layout, "user-004", "item-041").why_not)


def test_a_user_of_a_control_group_has_the_list_of_its_baseline(copied: Layout) -> None:
    copied.config.write_text(copied.config.read_text() + '[experiment]\ncontrol = 0.5\nsalt = "autumn"\n')
    steps(copied, NIGHT, score, publish)
    rows = table(copied).query("rank == 2 and user_id != 'zzz'")
    assert set(rows.experiment) == {"treatment", "control"}
    for row in rows.itertuples():
        found = explain(copied, row.user_id, row.item_id)
        assert (found.rank, found.model_version, found.note) == (2, row.model_version, None)
        assert bool(found.parts) == (row.experiment == "treatment")


def test_rules_are_named_where_they_have_changed_the_list(copied: Layout) -> None:
    user = "user-004"
    best, second = table(copied).query("user_id == @user").sort_values("rank").item_id.head(2)
    (copied.root / "rules.toml").write_text(
        f'[[deny]]\nname = "recalled"\nitems = ["{best}"]\n'
        f'[[boost]]\nname = "loved"\nitems = ["{second}"]\nfactor = 2.0\n'
    )
    steps(copied, NIGHT, snapshot, train, gate, index, score, publish)
    denied = explain(copied, user, best)
    assert "rules (rules.toml) have left it out" in str(denied.why_not)
    boosted = explain(copied, user, second)
    assert boosted.rank == 1
    assert "rules (rules.toml) have changed it" in str(boosted.note)


def test_recommend_shows_the_reasons(night: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    published = table(night)
    user = published[published.because_item.notna()].user_id.iloc[0]
    expected = published[published.user_id == user].sort_values("rank")
    found = recommend(night, user, 5)
    assert [row.because for row in found.rows] == expected.because.tolist()
    assert [row.because_item or "" for row in found.rows] == expected.because_item.fillna("").tolist()
    titles = [f"Thing {int(row.because_item[5:])}" if row.because_item else None for row in found.rows]
    assert [row.because_title for row in found.rows] == titles
    assert call("recommend", user, "--root", str(night.root)) == 0
    head, *lines = capsys.readouterr().out.splitlines()[1:]
    assert head.split()[-1] == "because"
    for line, row in zip(lines, found.rows, strict=True):
        assert line.rstrip().endswith(f"{row.because}: {row.because_title}" if row.because_title else str(row.because))


class TestCommand:
    def explained(self, layout: Layout, capsys: pytest.CaptureFixture[str], user: str, item: str, *more: str) -> str:
        assert call("explain", user, item, "--root", str(layout.root), *more) == 0
        return capsys.readouterr().out

    def test_says_it_in_words(self, night: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        published = table(night)
        row = published[published.because_item.notna()].iloc[0]
        lines = self.explained(night, capsys, row.user_id, row.item_id).splitlines()
        thing = f"Thing {int(row.item_id[5:])}"
        assert lines[0] == (
            f"User {row.user_id}, item {row.item_id} ({thing}): day 2024-01-28, model_version {row.model_version}"
        )
        assert lines[1] == f"In the list: rank {row['rank']} of at most 5."
        assert lines[2].startswith(f"Score {row.score:.4f}, place ")
        assert lines[3] == "The user's history does not contain the item."
        assert lines[5].split()[1] == row.because
        assert f"Thing {int(row.because_item[5:])} (" in lines[5]
        assert lines[-1].startswith("  added to the user's mean base score, ")

    def test_says_why_not(self, night: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        item = first(night, "user-004", seen=True)
        out = self.explained(night, capsys, "user-004", item)
        assert "\nNot in the list. The user has seen the item, and candidates.exclude_seen = true.\n" in out
        assert "The user's history contains " in out

    def test_json_is_the_explanation(self, night: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        found = json.loads(self.explained(night, capsys, "user-004", "item-001", "--json"))
        assert set(found) == set(Explanation.__dataclass_fields__)
        assert np.isfinite(found["mean"])

    def test_an_unknown_item_is_one_sentence(self, night: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("explain", "user-004", "item-7", "--root", str(night.root)) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("hmamba: item 'item-7' is not among the 44 items")
