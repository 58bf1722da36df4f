"""What the benchmark at size makes up is what it says, and such as the real steps read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.scale import scoring
from bench.scale.__main__ import main
from bench.scale.data import Shop
from bench.scale.nights import Night, report
from bench.scale.steps import Done
from hmamba.sequences.histories import stream_histories
from hmamba.storage.run_layout import shard_name

KEY = ["user_id", "item_id", "event_time"]


def test_files_hold_what_is_said_of_them(tmp_path: Path) -> None:
    shop = Shop.of(20_000)
    first = shop.first(tmp_path / "first")
    frame = pd.concat(pd.read_parquet(path) for path in sorted((tmp_path / "first").iterdir()))
    assert (first.files, first.rows) == (100, len(frame))
    good = frame.dropna()
    assert (first.broken, first.events) == (len(frame) - len(good), len(good.drop_duplicates(KEY)))
    assert first.copies == len(good) - first.events > 0
    (tmp_path / "more").mkdir()
    more = shop.next(tmp_path / "more")
    later = pd.concat(pd.read_parquet(path) for path in (tmp_path / "more").iterdir()).dropna()
    assert len(pd.concat([good, later]).drop_duplicates(KEY)) == first.events + more.events
    assert 0 < (later.event_time < good.event_time.max()).mean() < 0.05


@pytest.mark.parametrize("block", [7, 50_000])
def test_histories_are_a_snapshot_that_scoring_reads(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_BLOCK", block)
    events = scoring._write_snapshot(tmp_path / "s", 100, 3)
    read = [
        histories
        for shard in range(3)
        for histories in stream_histories(tmp_path / "s" / shard_name(shard), events=500, users=20)
    ]
    assert sorted(user for part in read for user in part.users.to_pylist()) == [f"{user:09d}" for user in range(100)]
    assert sum(part.events for part in read) == events
    for part in read:
        inside = part.owner[1:] == part.owner[:-1]
        assert (np.diff(part.times)[inside] > 0).all()
    items = pd.read_parquet(tmp_path / "s" / "items.parquet")
    assert (len(items), items.events.sum()) == (scoring.ITEM_COUNT, events)


def test_the_report_divides_the_second_pull_by_the_first() -> None:
    def done(seconds: float, processor: float) -> Done:
        return Done({"seconds": seconds, "peak_bytes": 2_000_000_000}, processor, 1.0)

    nights = [Night("first", 100, 99, done(200, 80), done(50, 40)), Night("1 % new", 1, 100, done(4, 8), done(60, 40))]
    text = report(nights)
    assert "First night, both steps: 250 s. Pulling 1 % new events took 2.0 % of the time" in text
    assert "10.0 % of its processor time" in text
    assert "| first | ingest | 100 | 200.0 | 80.0 | 2.00 | 1.0 |" in text


def test_the_report_of_scoring_tells_both_speeds() -> None:
    def done(users: int) -> Done:
        metrics = {
            "seconds": 8,
            "peak_bytes": 1_500_000_000,
            "users": users,
            "float32_recall_users": 512,
            "kind": "matmul",
        }
        return Done(metrics, 10.0, 2.0)

    both = scoring.Scored(2, 12.0, [done(500), done(700)])
    text = scoring.report([scoring.Night(1_200, 30_000, 2, done(0), [both], {"publish": done(0)})])
    assert "| 1,200 | 30,000 | score, 2 of 2 shards, 2 at once | 1,200 | 12.0 | 20.0 | 1.50 | 2.0 | 100 | 60 |" in text
    assert "| 1,200 | 30,000 | publish | 1,200 | 8.0 | 10.0 | 1.50 | 2.0 | - | - |" in text


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--workers 0", "'0': give whole numbers from 1"),
        ("--users many", "'many': give whole numbers from 1"),
        ("--shards 0", "invalid choice: 0"),
        ("--events 150", "'150': give a multiple of 100"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(given: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(given.split())
    assert told in capsys.readouterr().err
