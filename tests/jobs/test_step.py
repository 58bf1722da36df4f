from __future__ import annotations

import argparse
import json
import logging
import os
import time
from datetime import date
from typing import Any

import pytest

from hmamba.contracts.step import StepFailure, StepMetrics
from hmamba.errors import ConfigError, HMambaError, InputError, QualityError
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from jobs.step import StepContext, run_step

DAY = "2024-01-30"


@pytest.fixture
def layout(layout: Layout) -> Layout:
    """An empty root."""
    layout.root.mkdir()
    return layout


def arguments(layout: Layout, *more: str) -> list[str]:
    return ["--root", str(layout.root), "--day", DAY, *more]


class Counted(StepMetrics):
    """The metrics of a step that counts."""

    step: str = "count"
    rows: int
    folder: str | None = None
    shard: int | None = None

    @property
    def in_a_line(self) -> str:
        return "counted"


def counted(context: StepContext) -> Counted:
    """A step that counts to three."""
    return Counted(day=context.day, rows=3, folder=str(context.run.folder))


def test_metrics_are_printed_last_and_kept(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_step("count", "Counts.", counted, arguments(layout)) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    printed = json.loads(out)
    assert printed.pop("summary") == "counted"
    kept = layout.root / "runs" / DAY / "manual" / "metrics" / "count.json"
    assert Counted.parse(printed, "the line") == Counted.read(kept)
    assert {"step": "count", "day": DAY, "rows": 3}.items() <= printed.items()
    assert printed["seconds"] >= 0
    assert printed["peak_bytes"] > 2**20


def test_a_step_is_told_where_when_and_with_what(layout: Layout) -> None:
    layout.config.write_text("[candidates]\nk = 7\n", encoding="utf-8")
    seen: list[StepContext] = []

    def body(context: StepContext) -> Counted:
        seen.append(context)
        return counted(context)

    assert run_step("look", "Looks.", body, arguments(layout, "--run-id", "r1")) == 0
    context = seen[0]
    assert context.day.isoformat() == DAY
    assert context.config.candidates.k == 7
    assert context.run.folder == layout.root / "runs" / DAY / "r1"


@pytest.mark.parametrize(("error", "status"), [(HMambaError, 1), (ConfigError, 2), (InputError, 2), (QualityError, 3)])
def test_a_users_error_is_one_sentence_and_a_status(
    layout: Layout, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], error: type, status: int
) -> None:
    def body(_: StepContext) -> Counted:
        raise error("events.csv, row 3: no time. Add one.")

    with caplog.at_level(logging.ERROR, "hmamba"):
        assert run_step("fail", "Fails.", body, arguments(layout)) == status
    assert [record.getMessage() for record in caplog.records] == ["fail: events.csv, row 3: no time. Add one."]
    assert capsys.readouterr().out == ""
    run = layout.run(date.fromisoformat(DAY), "manual")
    assert not run.metrics.exists()
    failure = StepFailure.read(run.step_failure("fail"))
    message = "events.csv, row 3: no time. Add one."
    expected = StepFailure(step="fail", shard=None, message=message, exit_status=status, seconds=failure.seconds)
    assert failure == expected
    assert failure.seconds >= 0


def test_a_failure_is_forgotten_when_the_step_succeeds(layout: Layout) -> None:
    def failing(_: StepContext) -> Counted:
        raise InputError("no")

    assert run_step("count", "Counts.", failing, arguments(layout)) == 2
    assert run_step("count", "Counts.", counted, arguments(layout)) == 0
    assert not list(layout.run(date.fromisoformat(DAY), "manual").failures.iterdir())


def test_a_run_that_another_step_works_on_is_busy(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    """A second try, after a crash of the scheduler, meets the first one still alive."""
    layout.config.write_text("[warehouse]\nwait_seconds = 0\n", encoding="utf-8")
    run = layout.run(date.fromisoformat(DAY), "manual")
    with run.storage.lock(run.folder):
        assert run_step("count", "Counts.", counted, arguments(layout)) == 1
        assert run_step("count", "Counts.", counted, arguments(layout), shared=True) == 1
        assert run_step("count", "Counts.", counted, arguments(layout, "--run-id", "other")) == 0
        assert run_step("count", "Counts.", counted, arguments(layout), records=False) == 0
    assert f"count: {run.folder}/.lock is locked by process {os.getpid()}" in caplog.text
    with run.storage.lock(run.folder, shared=True):
        assert run_step("count", "Counts.", counted, arguments(layout), shared=True) == 0


def test_a_fault_keeps_its_traceback(layout: Layout) -> None:
    def body(_: StepContext) -> Counted:
        raise ZeroDivisionError("a fault of ours")

    with pytest.raises(ZeroDivisionError, match="a fault of ours"):
        run_step("fail", "Fails.", body, arguments(layout))
    failure = read_json(layout.run(date.fromisoformat(DAY), "manual").step_failure("fail"))
    assert (failure["message"], failure["exit_status"]) == ("ZeroDivisionError: a fault of ours", 1)


def test_shards_keep_metrics_apart(layout: Layout) -> None:
    def add_options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--shard", type=int, required=True)

    def body(context: StepContext) -> Counted:
        shard = context.options.shard
        metrics = Counted(step="part", day=context.day, rows=1, shard=shard)
        return context.record(metrics, time.monotonic(), shard)

    for shard in (0, 11):
        given = arguments(layout, "--shard", str(shard))
        assert run_step("part", "A part.", body, given, add_options, parts=lambda options: [options.shard]) == 0
    folder = layout.root / "runs" / DAY / "manual" / "metrics"
    found = {path.name: read_json(path)["shard"] for path in sorted(folder.iterdir())}
    assert found == {"part-0000.json": 0, "part-0011.json": 11}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"--day": "yesterday"}, "'yesterday' is not a day such as 2017-12-14"),
        ({"--day": "2024-02-30"}, "is not a day"),
        ({"--colour": "red"}, "unrecognized arguments"),
    ],
)
def test_a_wrong_argument_is_explained(
    layout: Layout, capsys: pytest.CaptureFixture[str], changed: dict[str, str], words: str
) -> None:
    given: dict[str, Any] = {"--root": str(layout.root), "--day": DAY} | changed
    with pytest.raises(SystemExit) as left:
        run_step("count", "Counts.", counted, [text for pair in given.items() for text in pair])
    assert left.value.code == 2
    assert words in capsys.readouterr().err
    assert list(layout.root.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--run-id", "../../etc"), "--run-id '../../etc'"),
        (("--config", "no-such-name"), "no such configuration"),
        (("--config", "absent.toml"), "no such file"),
    ],
)
def test_a_wrong_setting_leaves_nothing_behind(
    layout: Layout, caplog: pytest.LogCaptureFixture, more: tuple[str, str], words: str
) -> None:
    with caplog.at_level(logging.ERROR, "hmamba"):
        assert run_step("count", "Counts.", counted, arguments(layout, *more)) == 2
    assert words in caplog.text
    assert list(layout.root.iterdir()) == []


def test_an_object_store_is_refused_with_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "hmamba"):
        assert run_step("count", "Counts.", counted, ["--root", "s3://b/x", "--day", DAY]) == 2
    assert "only a local folder" in caplog.text
