"""Going back to a model or a table, forth again, and the nights after it."""

from __future__ import annotations

import json
import shutil
import threading
import time
from datetime import date
from typing import Any

import pytest

from hmamba.candidates.lookup import published_manifest
from hmamba.models import promotions
from hmamba.report.history import nights
from hmamba.storage import root_locks
from hmamba.storage.layout import Layout
from hmamba.storage.local import LocalStorage
from hmamba.upkeep import rollback
from tests.jobs.commands.call import call
from tests.nights import FIRST, THIRD, run_night
from tests.synthetic import make_interactions, write_landing

FOURTH = date(2024, 1, 31)


def back(layout: Layout, *arguments: str) -> int:
    return call("rollback", "--root", str(layout.root), *arguments)


def versions(layout: Layout) -> list[str]:
    return [one.version for one in promotions.promotions(layout)]


@pytest.mark.parametrize("how", ["version", "table", "day"])
def test_champion_and_table_go_back_and_the_next_night_starts_there(two: Layout, how: str) -> None:
    first, second = versions(two)
    given = {"version": ("--to", first), "table": ("--table", str(FIRST)), "day": ("--to", str(FIRST))}[how]
    assert back(two, *given) == 0
    assert versions(two) == [first]
    assert published_manifest(two).day == FIRST
    (done,) = promotions.rollbacks(two)
    assert (done.version, done.from_version, done.table, done.from_table) == (first, second, FIRST, THIRD)
    assert [(night.run_id, night.verdict, night.rolled_back) for night in nights(two)] == [
        ("one", "promoted", False),
        ("three", "promoted", True),
    ]
    write_landing(two.root, make_interactions(users=120, items=80, days=31).tail(120), "fourth.parquet")
    metrics = run_night(two, FOURTH, "four")
    assert metrics["train"]["parent"] == metrics["gate"]["champion"] == first
    assert published_manifest(two).day == FOURTH
    assert versions(two) == [first, metrics["train"]["version"]]
    assert len(promotions.rollbacks(two)) == 1


def test_a_rollback_of_a_rollback_brings_table_and_working_folder_back(
    two: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = versions(two)
    before = published_manifest(two)
    assert back(two, "--to", first) == 0
    assert back(two, "--to", second) == 0
    assert published_manifest(two) == before
    assert versions(two) == [first, second]
    assert [night.rolled_back for night in nights(two)] == [False, False]
    assert [one.version for one in promotions.rollbacks(two)] == [first, second]
    capsys.readouterr()
    assert call("refresh", "--root", str(two.root), "--day", str(THIRD)) == 0
    assert call("history", "--root", str(two.root)) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "rollback to" in line]
    assert [line.split()[3].rstrip(",") for line in lines] == [first, second]


def test_a_rollback_to_and_from_no_model_is_listed(two: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = versions(two)
    assert back(two, "--to", "2024-01-01") == back(two, "--to", first) == 0
    assert versions(two) == [first]
    capsys.readouterr()
    assert call("history", "--root", str(two.root)) == 0
    listed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines() if "rollback to" in line]
    assert sorted(line.partition(" at ")[0] for line in listed) == [
        f"{FIRST} rollback to {first}, table of {FIRST} from no model",
        f"{THIRD} rollback to no model from {second}",
    ]


def test_a_rolled_back_night_that_is_run_again_promotes_again(two: Layout) -> None:
    first, second = versions(two)
    assert back(two, "--to", first) == 0
    metrics = run_night(two, THIRD, "three")
    assert (metrics["train"]["reused"], metrics["train"]["version"]) == (True, second)
    assert versions(two) == [first, second]
    assert published_manifest(two).day == THIRD
    # The rolled-back copy of the day is still aside; going to it exchanges the two.
    assert back(two, "--to", first) == 0
    assert [path.name for path in two.rolled_back_tables] == [f"run_date={THIRD}", f"run_date={THIRD}.2"]


def test_an_old_night_run_again_after_a_rollback_changes_nothing_later(two: Layout) -> None:
    first, _ = versions(two)
    assert back(two, "--to", first) == 0
    champion = two.champion.read_text()
    run_night(two, FIRST, "one")
    assert two.champion.read_text() == champion
    assert published_manifest(two).day == FIRST


def test_without_a_table_of_the_version_readers_keep_theirs(two: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = versions(two)
    shutil.rmtree(two.published(FIRST))
    capsys.readouterr()
    assert back(two, "--to", first) == 0
    assert f"note: no table of {first} is left; readers keep the table of {THIRD}" in capsys.readouterr().out
    assert versions(two) == [first]
    assert published_manifest(two).day == THIRD


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("how", ["--to", "--table"])
def test_a_damaged_model_is_refused_before_anything_changes(
    two: Layout, capsys: pytest.CaptureFixture[str], file: str, how: str
) -> None:
    first, second = versions(two)
    content = bytearray((two.model(first) / file).read_bytes())
    content[len(content) // 2] ^= 1
    (two.model(first) / file).write_bytes(content)
    assert back(two, how, first if how == "--to" else str(FIRST)) == 2
    assert first in capsys.readouterr().err
    assert versions(two) == [first, second]
    assert published_manifest(two).day == THIRD


def test_an_unknown_target_is_named(two: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    for version in ("20240101-none", "", "..", "champion.json"):
        assert back(two, "--to", version) == 2
        assert "hmamba models --root" in capsys.readouterr().err
    assert back(two, "--table", "2024-01-02") == 2
    assert f"Tables that can be read: {FIRST}, {THIRD}." in capsys.readouterr().err
    assert back(two) == back(two, "--to", str(FIRST), "--table", str(FIRST)) == 2
    assert "give one of --to and --table" in capsys.readouterr().err


def test_a_rollback_that_waits_for_a_step_does_not_hold_up_its_publication(
    two: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = rollback._lock_later_runs

    def waits(*given: Any) -> None:
        with root_locks.tables(two, 0):
            wait(*given)

    monkeypatch.setattr(rollback, "_lock_later_runs", waits)
    list(rollback.roll_back(two, rollback.to_day(two, FIRST)))


@pytest.mark.parametrize("lock", [root_locks.nights, root_locks.refreshes])
def test_a_night_and_a_refresh_are_waited_for(
    two: Layout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, lock: Any
) -> None:
    monkeypatch.setattr(rollback, "BUSY_SECONDS", 0.0)
    monkeypatch.setattr(rollback, "to_day", lambda *_: pytest.fail("it has looked for the table too early"))
    with lock(two):
        assert back(two, "--to", str(FIRST)) == 1
    assert "is locked by process" in capsys.readouterr().err


def test_a_step_that_works_in_a_later_folder_is_waited_for(
    two: Layout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollback, "BUSY_SECONDS", 0.1)
    before = two.champion.read_text()
    with two.storage.lock(two.run(THIRD, "three").folder):
        assert back(two, "--to", str(FIRST)) == 1
    assert "is locked by process" in capsys.readouterr().err
    assert two.champion.read_text() == before
    assert published_manifest(two).day == THIRD
    assert back(two, "--to", str(FIRST)) == 0


def test_a_step_that_publishes_can_end_while_it_is_waited_for(two: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds its run when it asks for the tables."""
    monkeypatch.setattr(rollback, "BUSY_SECONDS", 3.0)
    holds, ended = threading.Event(), []

    def publish() -> None:
        with two.storage.lock(two.run(THIRD, "three").folder):
            holds.set()
            time.sleep(1)  # the rollback waits meanwhile
            with two.storage.lock(two.candidates, wait_seconds=1):
                ended.append(True)

    step = threading.Thread(target=publish)
    step.start()
    holds.wait()
    assert back(two, "--to", str(FIRST)) == 0
    step.join()
    assert ended == [True]


@pytest.mark.parametrize("place", ["move", "point", "write_file"])
def test_killed_anywhere_the_rollback_of_a_rollback_can_be_finished(
    two: Layout, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    first, second = versions(two)
    assert back(two, "--to", first) == 0

    def kill(*_: object) -> None:
        raise SystemError("as if killed")

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, place, kill)
        with pytest.raises(SystemError):
            back(two, "--to", second)
    published_manifest(two)
    assert back(two, "--to", second) == 0
    assert published_manifest(two).day == THIRD
    assert versions(two) == [first, second]
    assert len(promotions.rollbacks(two)) == 2
    assert json.loads(two.champion.read_text())["version"] == second
