"""Turns: claims in real files, with states of the DAG runs that the test sets."""

from __future__ import annotations

import fcntl
import itertools
import os
import threading
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from hmamba.storage.layout import Layout
from tests.dags import conftest  # noqa: F401 - makes the DAGs' modules importable


class Runs:
    """Claims of runs named by their days, on one root."""

    def __init__(self, root: Path) -> None:
        from hmamba_turns import Turns

        self.running: set[str] = set()
        self.turns = Turns(root, lambda _, run_id: run_id in self.running)

    def claim(self, name: str, day: str | None = None) -> Any:
        from hmamba_turns import Claim

        return Claim("night", name, day or name, due="2024-06-01T02:00:00+00:00")

    def ask(self, name: str, before: str | None = None, day: str | None = None) -> str | None:
        """Ask for a turn; returns the run to wait for."""
        self.running.add(name)
        other = self.turns.ask(self.claim(name, day), lambda: before and ("night", before))
        return other and other.run_id


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def test_a_run_alone_has_its_turn_at_once_and_keeps_it(runs: Runs) -> None:
    assert runs.ask("2024-05-02") is None
    assert runs.ask("2024-05-02") is None
    assert runs.turns.hold(runs.claim("2024-05-02")) is None


def test_a_later_claim_of_an_earlier_day_waits_for_the_run_that_has_the_turn(runs: Runs) -> None:
    runs.ask("2024-05-02")
    assert runs.ask("2024-05-01") == "2024-05-02"
    runs.running.discard("2024-05-02")
    assert runs.ask("2024-05-01") is None


@pytest.mark.parametrize("order", list(itertools.permutations(["2024-05-01", "2024-05-02", "2024-05-03"])))
def test_runs_that_begin_together_go_in_the_order_of_their_days(runs: Runs, order: tuple[str, ...]) -> None:
    """As in a backfill: all run, and their first tasks start in any order."""
    days = sorted(order)
    runs.running.update(days)
    before = dict(zip(days, [None, *days], strict=False))
    done: list[str] = []
    while len(done) < 3:
        for day in order:
            still = before[day] if before[day] in runs.running else None
            if day not in done and runs.ask(day, still) is None:
                done.append(day)
                runs.running.discard(day)
    assert done == days


def test_a_run_that_was_before_but_has_another_day_is_not_waited_for(runs: Runs) -> None:
    """Two runs that wait for each other would wait for ever."""
    runs.ask("holder", day="2024-05-09")
    assert runs.ask("first", day="2024-05-08") == "holder"
    assert runs.ask("second", before="first", day="2024-05-07") == "holder"
    runs.running.discard("holder")
    assert runs.ask("first", day="2024-05-08") == "second"
    assert runs.ask("second", before="first", day="2024-05-07") is None


def test_a_run_that_has_ended_is_not_waited_for(runs: Runs) -> None:
    runs.ask("2024-05-01")
    runs.running.clear()
    assert runs.ask("2024-05-02") is None
    assert sorted(path.name for path in (runs.turns.root / ".turns").iterdir()) == [
        "2024-05-02.night.2024-05-02.json",
        "lock",
    ]


def test_a_cleared_task_of_an_old_run_takes_the_turn_or_says_who_has_it(runs: Runs) -> None:
    runs.ask("2024-05-01")
    runs.running = {"2024-05-02", "2024-05-01"}
    runs.turns._folder.joinpath("2024-05-01.night.2024-05-01.json").unlink()
    runs.ask("2024-05-02")
    assert runs.turns.hold(runs.claim("2024-05-01")).run_id == "2024-05-02"
    runs.running = {"2024-05-01"}
    assert runs.turns.hold(runs.claim("2024-05-01")) is None
    runs.running = {"2024-05-01", "2024-05-03"}
    assert runs.ask("2024-05-03") == "2024-05-01"


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"day": 1}', '{"dag_id": 1, "run_id": "x", "day": "y", "due": "z"}']
)
def test_a_damaged_claim_is_dropped(runs: Runs, damage: str) -> None:
    runs.ask("2024-05-01")
    (runs.turns._folder / "2024-05-01.night.2024-05-01.json").write_text(damage)
    assert runs.ask("2024-05-02") is None


def test_a_lock_that_another_process_holds_is_waited_for_briefly(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    import hmamba_turns

    runs.ask("2024-05-01")
    lock = os.open(runs.turns._folder / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    threading.Timer(0.5, os.close, [lock]).start()
    assert runs.ask("2024-05-01") is None

    monkeypatch.setattr(hmamba_turns, "_PAUSE_SECONDS", 0)
    lock = os.open(runs.turns._folder / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(hmamba_turns.TurnsBusyError, match=r"\.turns: other processes keep changing who has the turn"):
        runs.ask("2024-05-01")
    os.close(lock)
    assert runs.ask("2024-05-01") is None
    assert (runs.turns._folder / "lock").stat().st_mode & 0o077 == 0


def test_the_library_knows_the_days_of_runs_that_have_not_ended(runs: Runs) -> None:
    layout = Layout.at(runs.turns.root)
    assert layout.claimed_days == set()
    runs.ask("a", day="2024-05-02")
    runs.ask("b", day="2024-05-01")
    assert layout.claimed_days == {date(2024, 5, 1), date(2024, 5, 2)}
