"""The order of a night's steps. Whole nights are in test_nights.py, and those that fail in test_failed_nights.py."""

from __future__ import annotations

import os
from datetime import date
from typing import Any

import pytest

from hmamba.contracts.published import PublishMetrics
from hmamba.contracts.steps import IndexMetrics
from hmamba.errors import BusyError, HMambaError
from hmamba.steps import NIGHT
from hmamba.storage.layout import Layout
from jobs import night
from jobs.night import NightOptions, StepFailedError, run_night, run_one
from tests.documents import DAY, printed, shard_metrics


@pytest.mark.parametrize("workers", [1, 2])
def test_a_shard_that_cannot_be_scored_ends_the_night(
    layout: Layout, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """The real step, where none before it has left anything to score."""
    command = NightOptions.command
    told = printed(shards=3)

    def mostly_told(options: NightOptions, step: str, shard: int | None = None) -> list[str]:
        return command(options, step, shard) if step == "score" else ["echo", told[step]]

    monkeypatch.setattr(NightOptions, "command", mostly_told)
    with pytest.raises(StepFailedError, match="score ended with exit status 2"):
        list(run_night(NightOptions(str(layout.root), date(2024, 1, 30), workers=workers)))
    assert "sequences" in capfd.readouterr().err


@pytest.mark.parametrize(("status", "code", "words"), [(3, 3, "exit status 3"), (-9, 137, "memory ran out")])
def test_a_failed_step_explains_its_status(status: int, code: int, words: str) -> None:
    error = StepFailedError("score", status)
    assert error.exit_code == code
    assert words in str(error)


PUBLISHED = PublishMetrics(
    day=DAY, users=1, rows=1, k=1, files=1, changed=True, model_version="v1", warning=None, distinct_items=1
)


@pytest.fixture
def echoed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What each step of a night of three shards prints; nothing is computed. A shard prints its threads too."""
    lines = printed(shards=3) | {
        "score": shard_metrics(0).model_dump_json(),
        "publish": PUBLISHED.model_dump_json(),
    }

    def command(options: NightOptions, step: str, shard: int | None = None) -> list[str]:
        return ["sh", "-c", 'echo "threads ${OMP_NUM_THREADS:-all}"; printf "%s\\n" "$1"', step, lines[step]]

    monkeypatch.setattr(NightOptions, "command", command)
    return lines


@pytest.fixture
def layout(layout: Layout) -> Layout:
    """An empty root."""
    layout.root.mkdir()
    return layout


def test_nights_of_one_root_take_turns(layout: Layout, echoed: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    options = NightOptions(str(layout.root), DAY)
    monkeypatch.setattr(night, "_TURN_SECONDS", 0)
    first = run_night(options)
    next(first)
    with pytest.raises(BusyError, match=r"\.night\.lock is locked by process"):
        next(run_night(options))
    list(first)
    assert next(run_night(options)).name == NIGHT[0]


def test_steps_run_in_order_and_every_shard_once(layout: Layout, echoed: dict[str, str]) -> None:
    done = list(run_night(NightOptions(str(layout.root), DAY)))
    assert [(step.name, step.shard) for step in done] == [
        *((name, None) for name in NIGHT[:5]),
        *(("score", shard) for shard in range(3)),
        *((name, None) for name in NIGHT[6:]),
    ]
    assert {step.shards for step in done if step.name == "score"} == {3}
    assert [step.metrics.step for step in done if step.shard is None] == [name for name in NIGHT if name != "score"]
    assert all(step.seconds > 0 for step in done)


@pytest.mark.parametrize(
    ("device", "workers", "together"), [("cpu", None, 3), ("cuda", None, 1), ("cuda", 2, 2), ("cpu", 1, 1)]
)
def test_shards_share_the_cores_and_a_gpu_has_one_at_a_time(
    layout: Layout,
    echoed: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    workers: int | None,
    together: int,
) -> None:
    asked, real = [], night._Steps.run

    def run(steps: night._Steps, step: str, *more: Any) -> night.StepDone:
        asked.append(more)
        return real(steps, step, *more)

    monkeypatch.setattr(night._Steps, "run", run)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    described = IndexMetrics.model_validate_json(echoed["index"]).model_copy(update={"device": device})
    echoed["index"] = described.model_dump_json()
    list(run_night(NightOptions(str(layout.root), DAY, workers=workers)))
    threads = {"OMP_NUM_THREADS": str(8 // together)} if together > 1 else {}
    assert [more for more in asked if more] == [(shard, 3, threads) for shard in range(3)]


def test_one_step_can_be_run(layout: Layout, echoed: dict[str, str]) -> None:
    assert run_one(NightOptions(str(layout.root), DAY), "publish").metrics == PUBLISHED
    echoed["publish"] = '{"step": "publish"}'
    with pytest.raises(HMambaError, match="the last line of publish"):
        run_one(NightOptions(str(layout.root), DAY), "publish")
