"""The demo's own parts. The nights it runs are tests/dags/test_night.py."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from hmamba import config
from hmamba.contracts.step import StepMetrics
from hmamba.errors import InputError
from hmamba.storage.layout import Layout
from jobs import demo
from tests.documents import index_metrics
from tests.report.metrics_of_night import verdict

LOG = """\
2026-11-23T18:51:29Z [info     ] ingest | Read 10 files. [airflow.task.operators.x] loc=x:1
2026-11-23T18:51:29Z [info     ] train | epoch 1: 3 of 170 batches [airflow.task] loc=x:1
2026-11-23T18:51:29Z [info     ] train | Traceback (most recent call last): [airflow.task.operators.x] loc=x:1
2026-11-23T18:51:29Z [info     ] train | MemoryError [airflow.task.operators.x] loc=x:1
2026-11-23T18:51:29Z [error    ] Task failed with exception [task] loc=y:1
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.at(tmp_path / "demo")


def test_a_fresh_root_is_made_and_made_again(layout: Layout) -> None:
    demo.fresh_root(layout.root)
    (layout.root / "models").mkdir()
    (layout.root / "warehouse.duckdb").write_text("old")
    demo.fresh_root(layout.root)
    assert [entry.name for entry in layout.root.iterdir()] == [demo.MARKER]


def test_links_are_removed_and_what_they_lead_to_is_left(layout: Layout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("mine")
    demo.fresh_root(layout.root)
    (layout.root / "landing").symlink_to(elsewhere)
    demo.fresh_root(layout.root)
    assert (elsewhere / "mine").read_text() == "mine"


def test_a_folder_of_somebody_else_is_left_alone(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    layout.root.mkdir()
    (layout.root / "thesis.tex").write_text("years of work")
    assert demo.main(["--root", str(layout.root)]) == InputError.exit_code
    assert f"{layout.root} was not made by the demo" in capsys.readouterr().err
    assert [entry.name for entry in layout.root.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_root(layout: Layout) -> None:
    layout.root.write_text("a file")
    with pytest.raises(InputError, match="is a file"):
        demo.fresh_root(layout.root)


def test_baskets_are_split_by_day_and_nothing_else(layout: Layout) -> None:
    first, second = date(2017, 12, 14), date(2017, 12, 15)
    before = pq.read_table(demo.drop_baskets(layout, None, first))
    after = pq.read_table(demo.drop_baskets(layout, second, second))
    whole = pq.read_table(demo.packaged_data() / "transactions.parquet")
    assert before.schema.equals(whole.schema)
    assert (before.num_rows, after.num_rows) == (1_396_943, 4_061)
    assert pc.max(before["transaction_timestamp"]).as_py().date() == first
    assert {
        pc.min(after["transaction_timestamp"]).as_py().date(),
        pc.max(after["transaction_timestamp"]).as_py().date(),
    } == {second}


def test_a_prepared_root_holds_what_a_night_needs(layout: Layout) -> None:
    demo.prepare(layout, date(2017, 12, 14))
    assert config.load(None, layout) == config.load(demo.CONFIG, layout)
    assert len(list(layout.root.glob(config.load(None, layout).catalogue.path or "none"))) == 1
    assert [path.name for path in (layout.landing / "interactions").iterdir()] == ["until-2017-12-14.parquet"]


def test_the_demo_keeps_away_from_the_users_own_airflow(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://production")
    monkeypatch.setenv("AIRFLOW_HOME", "/production")
    monkeypatch.setenv("HMAMBA_CONFIG", "films")
    seen = demo.airflow_environment(layout)
    assert "production" not in "".join(seen.values())
    assert seen["AIRFLOW_HOME"] == str(layout.root / "airflow")
    assert "HMAMBA_CONFIG" not in seen


def test_a_failed_command_shows_what_it_said(layout: Layout) -> None:
    layout.root.mkdir()
    with pytest.raises(demo.DemoError, match=r"(?s)airflow no-such-command failed.*invalid choice"):
        demo.airflow(layout, "no-such-command")


def test_the_failing_step_speaks(tmp_path: Path) -> None:
    log = tmp_path / "night.log"
    log.write_text(LOG, encoding="utf-8")
    assert demo.failing_step(log).splitlines() == [
        "  train | epoch 1: 3 of 170 batches",
        "  train | Traceback (most recent call last):",
        "  train | MemoryError",
    ]


def test_progress_is_shown_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    watch = demo.Stopwatch(started=time.monotonic() - 60)
    for _ in range(3):
        demo._say_progress(LOG, watch)
    assert [line.split("s  ", 1)[1] for line in capsys.readouterr().out.splitlines()] == [
        "  train: epoch 1: 3 of 170 batches"
    ]


def test_each_step_is_said_once(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    day, watch, reported = date(2017, 12, 14), demo.Stopwatch(), dict[Path, StepMetrics]()
    metrics = index_metrics(day=day, items=66751, seconds=1.25)
    metrics.write(layout.run(day, "manual").step_metrics("index"))
    for _ in range(2):
        demo._say_metrics(layout, day, reported, watch)
    said = capsys.readouterr().out.splitlines()
    assert [line.split("s  ", 1)[1] for line in said] == ["index      66,751 items, flat (1.2 s)"]


def test_memory_of_a_family_is_added_up() -> None:
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    child = "x = bytearray(64_000_000); print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        alone = demo.resident_bytes(process.pid, recurse=False)
        together = demo.resident_bytes(process.pid)
        process.communicate("\n")
    assert alone < 64_000_000 < together
    assert demo.resident_bytes(process.pid) == 0
    assert demo.resident_bytes(os.getpid()) > 0


def test_the_table_of_metrics_ends_with_the_recall_of_all_candidates() -> None:
    head, *lines = demo.metrics_table(verdict())
    assert head.split() == [f"{name}@{k}" for k in (10, 20) for name in ("hr", "ndcg", "mrr", "coverage")] + [
        "recall@100"
    ]
    assert [line.split()[0] for line in lines] == ["champion", "challenger", "most_bought", "popularity"]
    assert lines[1].endswith("0.4400 <- serves")
