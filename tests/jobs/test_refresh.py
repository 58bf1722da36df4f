"""A refresh between nights: touched users as if scored from scratch by the same model, everybody else as they were."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hmamba.candidates import beside
from hmamba.candidates import publish as publishing
from hmamba.candidates.publish import publish_refresh
from hmamba.contracts.manifest import Manifest
from hmamba.storage.layout import Layout
from hmamba.storage.local import LocalStorage, read_json, sha256
from hmamba.storage.locks import alone
from jobs import gate, index, ingest, publish, refresh, score, snapshot, train
from tests.documents import edit
from tests.jobs.commands.call import call
from tests.landing import TINY_ONCE
from tests.synthetic import make_catalogue, make_interactions, write_landing

NIGHT, NEXT = date(2024, 1, 28), date(2024, 1, 29)
STATES = TINY_ONCE + "states = true\nbecause = true\nnew_items = 0.4\n[gate]\ntolerance = 0.9\n"
TOUCHED = ["user-000", "user-003", "user-007", "user-011"]
KEYS = ["user_id", "rank"]


def arguments(layout: Layout, day: date, run_id: str) -> list[str]:
    return ["--root", str(layout.root), "--day", day.isoformat(), "--run-id", run_id]


def metrics(layout: Layout, day: date, run_id: str, step: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(layout.run(day, run_id).step_metrics(step).read_text())
    return found


def run(layout: Layout, day: date, run_id: str, *steps: Any) -> None:
    for step in steps:
        assert step.main(arguments(layout, day, run_id)) == 0, step.__name__


def run_score(layout: Layout, day: date, run_id: str) -> None:
    for shard in ("0", "1"):
        assert score.main([*arguments(layout, day, run_id), "--shard", shard]) == 0


@pytest.fixture(scope="module")
def after_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root after a night that kept states. Tests copy it."""
    layout = Layout.at(tmp_path_factory.mktemp("refresh"))
    layout.config.write_text(STATES + '[catalogue]\npath = "landing/products"\nattributes = ["brand"]\n')
    write_landing(layout.root, make_interactions(users=30, items=40, days=28))
    products = layout.landing / "products"
    products.mkdir()
    catalogue = make_catalogue(44)  # items 40 to 43 are new
    catalogue.assign(brand=[f"brand {number // 4 % 10}" for number in range(44)]).to_csv(products / "p.csv")
    run(layout, NIGHT, "one", ingest, snapshot, train, gate, index)
    run_score(layout, NIGHT, "one")
    run(layout, NIGHT, "one", publish)
    return layout.root


@pytest.fixture
def shop(after_night: Path, tmp_path: Path) -> Layout:
    shutil.copytree(after_night, tmp_path / "root", symlinks=True)
    return Layout.at(tmp_path / "root")


@pytest.fixture(scope="module")
def after_pull(after_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same root once new events are in the warehouse."""
    layout = Layout.at(shutil.copytree(after_night, tmp_path_factory.mktemp("pulled") / "root", symlinks=True))
    write_landing(layout.root, new_events(), "later.parquet")
    run(layout, NEXT, "noon", ingest)
    return layout.root


@pytest.fixture
def pulled(after_pull: Path, tmp_path: Path) -> Layout:
    return Layout.at(shutil.copytree(after_pull, tmp_path / "pulled", symlinks=True))


def new_events() -> pd.DataFrame:
    """Of four known users and two new ones, one of whom only takes what is new. One event is late, one of tomorrow."""
    users = [*TOUCHED, "aaa newcomer", "zzz stranger", TOUCHED[3], "user-020"]
    items = [f"item-{number:03d}" for number in (1, 2, 3, 4, 5)] + ["brand new", "item-006", "item-007"]
    times = [datetime(2024, 1, 29, hour) for hour in range(8, 14)] + [datetime(2024, 1, 3), datetime(2024, 1, 30)]
    return pd.DataFrame({"user_id": users, "item_id": items, "event_time": times, "weight": 1.0})


def table(layout: Layout) -> pd.DataFrame:
    """What readers find, each file with the content that the manifest says."""
    files = read_json(layout.latest)["files"]
    for file in files:
        assert sha256(layout.root / file["path"]) == file["sha256"]
    return pd.concat([pd.read_parquet(layout.root / file["path"]) for file in files], ignore_index=True)


def from_scratch(layout: Layout, day: date) -> pd.DataFrame:
    """All events up to the end of a day, encoded whole and scored by the night's model."""
    run(layout, day, "scratch", snapshot)
    shutil.copyfile(layout.run(NIGHT, "one").verdict, layout.run(day, "scratch").verdict)
    shutil.copytree(layout.run(NIGHT, "one").model, layout.run(day, "scratch").model, dirs_exist_ok=True)
    run(layout, day, "scratch", index)
    run_score(layout, day, "scratch")
    parts = [layout.run(day, "scratch").candidate_part(shard) for shard in range(2)]
    return pd.concat([pd.read_parquet(part) for part in parts], ignore_index=True)


def of_users(frame: pd.DataFrame, users: list[str]) -> pd.DataFrame:
    return frame[frame.user_id.isin(users)].sort_values(KEYS, ignore_index=True)


def check_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """The same items in the same order, and scores within 1e-4, as far apart as two orders of float32 sums may be."""
    columns = ["user_id", "rank", "item_id", "model_version", "because", "because_item"]
    pd.testing.assert_frame_equal(found[columns], expected[columns])
    np.testing.assert_allclose(found.score, expected.score, rtol=1e-4, atol=1e-4)


def test_touched_users_are_as_from_scratch_and_others_as_they_were(pulled: Layout) -> None:
    before, manifest = table(pulled), read_json(pulled.latest)
    run(pulled, NEXT, "noon", refresh)
    after, told = table(pulled), metrics(pulled, NEXT, "noon", "refresh")

    expected = {"users": 6, "new_users": 2, "new_events": 7, "advanced": 3, "reencoded": 3, "changed": True}
    assert {key: told[key] for key in expected} == expected
    newcomers = ["aaa newcomer", "zzz stranger"]
    others = sorted(set(before.user_id) - set(TOUCHED))
    pd.testing.assert_frame_equal(of_users(after, others), of_users(before, others))
    scratch = from_scratch(pulled, NEXT)
    known = [*TOUCHED, "aaa newcomer"]
    check_same(of_users(after, known), of_users(scratch, known))
    assert not of_users(after, TOUCHED).equals(of_users(before, TOUCHED))
    is_new = after[after.user_id.isin(known)].item_id.isin([f"item-{number:03d}" for number in range(40, 44)])
    assert (is_new.groupby(after.user_id).sum() >= 2).all()
    assert set(of_users(after, ["zzz stranger"]).model_version) == {"popularity"}
    assert set(of_users(after, ["zzz stranger"]).because) == {"popular"}
    assert after.because_item.notna().any()
    assert sorted(set(after.user_id)) == sorted({*others, *TOUCHED, *newcomers})
    for part in pulled.published_parts(NIGHT):
        frame = pd.read_parquet(part)
        assert frame[KEYS].equals(frame[KEYS].sort_values(KEYS, ignore_index=True))

    new = read_json(pulled.latest)
    assert new["refresh"] == {"day": "2024-01-29", "run_id": "noon", "users": 6, "new_users": 2}
    assert (manifest["refresh"], manifest["users"], new["users"], new["rows"]) == (None, 30, 32, len(after))
    assert new["fallback_users"] == manifest["fallback_users"] + 1
    assert {key: new[key] for key in ("day", "run_id", "model_version", "snapshot")} == {
        key: manifest[key] for key in ("day", "run_id", "model_version", "snapshot")
    }
    assert not pulled.run(NEXT, "noon").refresh.folder.exists()


def test_again_changes_nothing_and_later_events_are_added_to_it(shop: Layout) -> None:
    events = new_events()
    write_landing(shop.root, events.head(2), "later.parquet")
    run(shop, NEXT, "noon", ingest, refresh)
    first, files = (
        read_json(shop.latest),
        [(part.stat().st_ino, part.stat().st_mtime_ns) for part in shop.published_parts(NIGHT)],
    )
    run(shop, NEXT, "one", ingest, refresh)
    assert read_json(shop.latest) == first
    assert [(part.stat().st_ino, part.stat().st_mtime_ns) for part in shop.published_parts(NIGHT)] == files

    write_landing(shop.root, events.iloc[2:], "evening.parquet")
    run(shop, NEXT, "evening", ingest, refresh)
    assert read_json(shop.latest)["refresh"]["users"] == 6
    check_same(of_users(table(shop), TOUCHED), of_users(from_scratch(shop, NEXT), TOUCHED))


def test_the_changes_are_relative_to_the_table_that_is_replaced(shop: Layout) -> None:
    shop.config.write_text(shop.config.read_text() + "[publish]\nchanges = true\n")
    events = new_events()
    for number, some in enumerate((events.head(2), events)):
        write_landing(shop.root, some, f"later-{number}.parquet")
        base, before = Manifest.read(shop.latest), table(shop)
        run(shop, NEXT, f"hour-{number}", ingest, refresh)
        manifest, after = Manifest.read(shop.latest), table(shop)
        changed = pd.read_parquet(shop.root / manifest.tables["changes"][0].path)
        users = sorted({*before.user_id, *after.user_id})
        differ = [user for user in users if not of_users(before, [user]).equals(of_users(after, [user]))]
        assert (sorted(changed.user_id), manifest.changes_from) == (differ, base.digest)
        assert differ
        assert not changed.is_gone.any()


def test_nobody_new_publishes_nothing(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    before = shop.latest.read_bytes()
    run(shop, NEXT, "noon", refresh)
    assert shop.latest.read_bytes() == before
    told = metrics(shop, NEXT, "noon", "refresh")
    assert (told["users"], told["changed"]) == (0, False)
    assert "no user has new events" in caplog.text


def test_without_states_the_table_is_the_same(pulled: Layout) -> None:
    run(pulled, NEXT, "with", refresh)
    with_states = table(pulled)
    shutil.rmtree(pulled.run(NIGHT, "one").states)
    run(pulled, NEXT, "without", refresh)
    assert metrics(pulled, NEXT, "without", "refresh")["reencoded"] == 6
    check_same(table(pulled), with_states)


def test_killed_anywhere_the_table_is_whole(pulled: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nothing catches, as late as a kill can come."""
    before = table(pulled)
    places = [
        (refresh, "replace_users"),
        (publishing, "check_candidates"),
        (beside.shutil, "copyfile"),
        (LocalStorage, "point"),
    ]

    def kill(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for place in places:
        assert table(pulled).equals(before), place
        with monkeypatch.context() as patch:
            patch.setattr(*place, kill)
            with pytest.raises(KeyboardInterrupt):
                refresh.main(arguments(pulled, NEXT, "noon"))
    assert len(set(table(pulled).user_id)) == 32  # the folder had been exchanged
    run(pulled, NEXT, "noon", refresh)
    assert not metrics(pulled, NEXT, "noon", "refresh")["changed"]


def test_what_is_published_during_a_refresh_is_not_overwritten(
    pulled: Layout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def meanwhile(*given: Any) -> Any:
        edit(pulled.latest.resolve(), created_at="2025-01-01T00:00:00Z")
        return publish_refresh(*given)

    monkeypatch.setattr(refresh, "publish_refresh", meanwhile)
    before = table(pulled)
    assert refresh.main(arguments(pulled, NEXT, "noon")) == 1
    assert "has been published again during this refresh" in caplog.text
    pd.testing.assert_frame_equal(table(pulled), before)


def test_two_refreshes_at_once_take_turns(pulled: Layout) -> None:
    """Of one run id, as when a task is cleared while it still runs: they would share a working folder."""
    command = [sys.executable, "-m", "jobs.refresh", *arguments(pulled, NEXT, "noon")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [json.loads(process.communicate(timeout=300)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(metrics["changed"] for metrics in told) == [False, True]
    assert read_json(pulled.latest)["refresh"]["users"] == 6


def test_a_refresh_that_waits_for_its_turn_holds_no_working_folder(
    pulled: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An erasure keeps refreshes from starting, then waits for each working folder."""
    take = refresh.refreshes

    def turn(*given: Any) -> AbstractContextManager[None]:
        with alone(pulled.run(NEXT, "noon").folder, wait_seconds=0):
            return take(*given)

    monkeypatch.setattr(refresh, "refreshes", turn)
    assert refresh.main(arguments(pulled, NEXT, "noon")) == 0


def test_a_refresh_that_has_waited_long_enough_may_be_tried_again(
    pulled: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    pulled.config.write_text(STATES + "[warehouse]\nwait_seconds = 0.2\n")
    with alone(pulled.candidates, ".refresh.lock"):
        assert refresh.main(arguments(pulled, NEXT, "noon")) == 1
    assert "is locked by process" in caplog.text
    assert refresh.main(arguments(pulled, NEXT, "noon")) == 0


def test_a_broken_rule_publishes_nothing(pulled: Layout, caplog: pytest.LogCaptureFixture) -> None:
    before = table(pulled)
    edit(pulled.latest.resolve(), k=before["rank"].max() - 1)  # the users without new events have one row too many
    assert refresh.main(arguments(pulled, NEXT, "noon")) == 3
    assert "users_with_wrong_count" in caplog.text
    pd.testing.assert_frame_equal(table(pulled), before)


def test_what_does_not_belong_together_is_refused(pulled: Layout, caplog: pytest.LogCaptureFixture) -> None:
    run(pulled, NEXT, "noon", refresh)
    before = pulled.latest.read_bytes()
    assert refresh.main(arguments(pulled, NIGHT, "noon")) == 2
    assert "holds events up to 2024-01-29" in caplog.text
    run(pulled, NIGHT, "one", snapshot)  # one of the new events is late: the run's snapshot is another now
    assert refresh.main(arguments(pulled, NEXT, "noon")) == 2
    assert "Run the night of 2024-01-28 to its end" in caplog.text
    assert pulled.latest.read_bytes() == before


def test_without_a_night_there_is_nothing_to_refresh(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    layout.root.mkdir()
    assert refresh.main(arguments(layout, NEXT, "noon")) == 2
    assert "Run a night first" in caplog.text
    assert not layout.candidates.exists()


def test_the_next_night_replaces_the_refreshed_table_and_the_older_states(pulled: Layout) -> None:
    champion = pulled.champion.read_bytes()
    run(pulled, NEXT, "manual", refresh)
    assert pulled.champion.read_bytes() == champion
    run(pulled, NEXT, "manual", ingest, snapshot, train, gate, index)
    run_score(pulled, NEXT, "manual")
    run(pulled, NEXT, "manual", publish)
    manifest = read_json(pulled.latest)
    assert (manifest["day"], manifest["refresh"], manifest["users"]) == ("2024-01-29", None, 32)
    assert not pulled.run(NIGHT, "one").states.exists()
    assert len(list(pulled.run(NEXT, "manual").states.iterdir())) == 4


def test_guards_hold_for_refreshes_and_what_was_accepted_for_the_night_as_well(
    pulled: Layout, caplog: pytest.LogCaptureFixture
) -> None:
    """Churn is not judged, the rest is compared with the table that is replaced."""
    guards = "[publish.guards]\nmax_churn = 0\nmax_users_lost = 0\nmin_coverage = 1\n"
    pulled.config.write_text(pulled.config.read_text() + guards)
    before = pulled.latest.read_bytes()
    assert refresh.main(arguments(pulled, NEXT, "noon")) == 3
    assert pulled.latest.read_bytes() == before
    assert "coverage), less than publish.guards.min_coverage = 1." in caplog.text
    (command,) = re.findall(r"let it through once: hmamba (.*), then refresh again\.", caplog.text)
    assert call(*shlex.split(command)) == 0
    run(pulled, NEXT, "noon", refresh)
    found = metrics(pulled, NEXT, "noon", "refresh")["guards"]
    assert {name: result["outcome"] for name, result in found.items()} == {
        "churn": "skipped",
        "coverage": "accepted",
        "users_lost": "passed",
    }
    assert found["churn"]["detail"] == "churn is not judged: a refresh changes only the users with new events."
    assert (found["users_lost"]["value"], found["users_lost"]["against"]) == (0, NIGHT.isoformat())
