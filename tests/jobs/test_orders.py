"""Days in any order: when they are run again in their own order, the tables are those of that order."""

from __future__ import annotations

import random
from datetime import date, timedelta
from pathlib import Path

import pytest

from hmamba.contracts.manifest import Manifest
from hmamba.storage.layout import Layout
from jobs import gate, index, ingest, publish, score, snapshot, train
from tests.landing import TINY_ONCE
from tests.synthetic import make_interactions, write_landing

DAYS = [date(2024, 1, 26) + timedelta(days=number) for number in range(3)]
SETTINGS = TINY_ONCE.replace("epochs = 4", "epochs = 1").replace("shards = 2", "shards = 1") + (
    "[gate]\nmin_users = 5\ntolerance = 0.9\n"
)


def shop(folder: Path) -> Layout:
    """A root whose source has left one file for each day."""
    layout = Layout.at(folder)
    layout.root.mkdir()
    layout.config.write_text(SETTINGS)
    frame = make_interactions(users=30, items=40, days=28)
    for day in DAYS:
        at = frame.event_time.dt.date
        write_landing(layout.root, frame[at == day] if day != DAYS[0] else frame[at <= day], f"{day}.csv")
    return layout


def night(layout: Layout, day: date) -> list[str]:
    """Run a night; the digests of its table."""
    arguments = ["--root", str(layout.root), "--day", day.isoformat()]
    for step in (ingest, snapshot, train, gate, index):
        assert step.main(arguments) == 0
    assert score.main([*arguments, "--shard", "0"]) == 0
    assert publish.main(arguments) == 0
    return [file.sha256 for file in Manifest.read(layout.published_manifest(day)).files]


@pytest.fixture(scope="module")
def in_order(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    layout = shop(tmp_path_factory.mktemp("in order") / "root")
    return [night(layout, day) for day in DAYS]


@pytest.mark.parametrize("seed", range(2))
def test_nights_in_any_order_then_in_theirs(in_order: list[list[str]], tmp_path: Path, seed: int) -> None:
    layout, chance = shop(tmp_path / "root"), random.Random(seed)
    for day in chance.sample([*DAYS, *DAYS], 4):
        night(layout, day)
    assert [night(layout, day) for day in DAYS] == in_order
    assert Manifest.read(layout.latest).day == DAYS[-1]
    latest = chance.choice(DAYS)
    assert night(layout, latest) == in_order[DAYS.index(latest)]
