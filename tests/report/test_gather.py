"""What the report finds of a run, whole, damaged, stopped or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from hmamba.report.gather import gather
from hmamba.storage.layout import Layout
from tests.report.metrics_of_night import DAY, RUN, VERSION, record, train_metrics
from tests.report.night import fail, make_baseline_night, publish


def test_a_whole_night_is_found(copied: Layout) -> None:
    publish(copied)
    night = gather(copied, DAY, RUN)
    assert (night.day, night.run_id, night.stopped, night.unreadable) == (DAY, RUN, None, ())
    assert [cost.name for cost in night.costs] == ["ingest", "snapshot", "train", "gate", "index", "score", "publish"]
    score = night.costs[5]
    assert (score.parts, score.seconds, score.longest) == (2, 9.0, 5.0)
    assert night.readers is not None
    assert night.training is not None
    assert (night.training.version, night.training.origin) == (VERSION, "tonight")
    assert (night.candidates is not None, night.disk is not None, night.baseline) == (True, True, None)
    assert set(night.models) <= set(night.metrics)
    assert "Records of failed steps" not in night.places
    assert all((copied.root / place).exists() for name, place in night.places.items())


@pytest.mark.parametrize(
    ("changes", "origin"),
    [({"reused": True}, "found"), ({"version": None, "epochs": (), "skipped_reason": "no new events"}, "earlier")],
)
def test_a_training_is_of_tonight_or_an_earlier_one(copied: Layout, changes: dict[str, object], origin: str) -> None:
    record(copied, train_metrics().model_copy(update=changes))
    training = gather(copied, DAY, RUN).training
    assert training is not None
    assert (training.version, training.origin) == (VERSION, origin)


def test_a_file_that_cannot_be_read_is_left_out_and_named(copied: Layout) -> None:
    run = copied.run(DAY, RUN)
    for path in (run.step_metrics("ingest"), run.verdict, run.item_points, run.candidate_part(1)):
        path.write_bytes(b"junk")
    night = gather(copied, DAY, RUN)
    assert (night.steps.ingest, night.verdict, night.disk, night.candidates) == (None, None, None, None)
    assert night.steps.snapshot is not None
    for name in ("ingest.json", "verdict.json", run.item_points.name, run.candidates.name):
        assert sum(name in message for message in night.unreadable) == 1, name
    assert all(message.startswith("A part of this page is left out: ") for message in night.unreadable)


def test_after_a_failed_step_nothing_of_an_earlier_try_is_shown(copied: Layout) -> None:
    fail(copied, "index", "no space left", 1)
    night = gather(copied, DAY, RUN)
    assert night.stopped is not None
    assert [cost.name for cost in night.costs] == ["ingest", "snapshot", "train", "gate"]
    assert (night.steps.gate is not None, night.steps.index, night.steps.publish) == (True, None, None)
    assert (night.verdict is not None, night.candidates, night.disk) == (True, None, None)
    assert night.places["Records of failed steps"] == f"runs/{DAY}/{RUN}/failures"


def test_a_baselines_night_has_candidates_and_no_disk(copied: Layout) -> None:
    make_baseline_night(copied)
    night = gather(copied, DAY, RUN)
    assert (night.baseline, night.disk) == ("most_bought", None)
    assert night.candidates is not None
    assert night.unreadable == ()


def test_a_run_that_left_nothing_is_an_empty_night(tmp_path: Path) -> None:
    night = gather(Layout.at(tmp_path), DAY, RUN)
    assert (night.costs, night.verdict, night.training, night.candidates, night.disk) == ((), None, None, None, None)
    assert (night.readers, night.data_docs, night.metrics, night.models) == (None, None, {}, [])
    assert night.stopped is not None


def test_the_link_to_the_data_docs_holds_after_a_move(copied: Layout, tmp_path: Path) -> None:
    link = gather(copied, DAY, RUN).data_docs
    assert link is not None
    moved = Layout.at(copied.root.rename(tmp_path / "moved"))
    page = (moved.report(DAY).parent / link).resolve()
    page.unlink()
    assert gather(moved, DAY, RUN).data_docs is None
