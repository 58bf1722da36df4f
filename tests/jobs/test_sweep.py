"""What killed steps leave under a root is deleted by the next night, and nothing else."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from hmamba.contracts.contents import Contents
from hmamba.models.promotions import record_decision, roll_back
from hmamba.storage.layout import Layout
from hmamba.storage.local import write_json
from hmamba.storage.locks import alone
from hmamba.storage.run_layout import CHECKPOINT, CONTENTS
from hmamba.storage.temporary import Swept
from jobs.sweep import sweep_root
from tests.landing import DAY, Root


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of temporary files that no other test uses."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))


def leave(folder: Path, name: str = ".part.parquet.tmp-0123abcd") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(bytes(1 << 20))
    return folder / name


def test_leftovers_of_every_folder_are_deleted_and_counted(layout: Layout, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run = layout.run(DAY, "manual")
    left = [
        leave(folder)
        for folder in (
            layout.root,
            run.folder,
            run.sequences,
            layout.candidates,
            layout.models,
            layout.model("v1"),
            layout.report(DAY).parent,
            layout.checks.of_kind("candidates"),
        )
    ]
    left.append(leave(Path(tempfile.gettempdir()), ".hmamba.tmp-0123abcd"))
    kept = [leave(layout.landing), leave(layout.rolled_back), leave(layout.runs, "part-0000.parquet")]
    kept.append(leave(Path(tempfile.gettempdir())))  # of another program
    Contents.of(layout.model("v1")).write(layout.model("v1") / CONTENTS)
    assert sweep_root(layout) == Swept(9, 9 << 20)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)
    assert "leftovers of killed steps are deleted: 9, 9.0 MB" in caplog.text
    caplog.clear()
    assert sweep_root(layout) == Swept()
    assert caplog.text == ""


def test_a_root_that_is_not_there_is_swept_too(layout: Layout) -> None:
    assert sweep_root(layout) == Swept()
    assert not layout.root.exists()


def stored(layout: Layout, version: str) -> Path:
    folder = layout.model(version)
    folder.mkdir(parents=True)
    (folder / "weights").write_text(version)
    Contents.of(folder).write(folder / CONTENTS)
    return folder


def test_models_that_cannot_be_loaded_are_deleted_unless_they_served(layout: Layout) -> None:
    good, half, damaged, served = (stored(layout, f"20240101-0000000{number}") for number in range(4))
    mine = leave(layout.models / "mine", "notes.txt")
    (half / CONTENTS).unlink()
    (damaged / CONTENTS).write_text("{")
    (served / CONTENTS).unlink()
    record_decision(layout, DAY, served.name)
    assert sweep_root(layout).count == 2
    assert [path.exists() for path in (good, half, damaged, served)] == [True, False, False, True]
    assert mine.exists()
    rollback = {"table": None, "from_table": None, "changes_table": False, "newest": None}
    assert roll_back(layout, DAY.replace(year=2000), None, **rollback)
    assert sweep_root(layout).count == 0  # the rollback may be undone
    layout.champion.write_text("{")  # who served is not known
    assert sweep_root(layout).count == 0
    assert served.exists()


def test_checkpoints_of_stored_models_are_deleted(layout: Layout) -> None:
    stored(layout, "v1")
    done, resumed, strange = (layout.run(DAY, name) for name in ("done", "resumed", "strange"))
    for run, state in ((done, {"version": "v1"}), (resumed, {"version": "v2"}), (strange, ["v1"])):
        run.training.mkdir(parents=True)
        write_json(run.training / CHECKPOINT, state)
    with alone(done.folder):  # as a step of the run does
        assert sweep_root(layout).count == 0
    assert sweep_root(layout).count == 1
    assert [run.training.exists() for run in (done, resumed, strange)] == [False, True, True]


WRITES = """
import sys; from pathlib import Path; from hmamba.storage.local import LOCAL
from hmamba.config import WarehouseConfig; from hmamba.warehouse.connection import connect, in_memory
root = Path(sys.argv[1])
limits = WarehouseConfig(memory_limit="64MB", threads=1)
with LOCAL.write_folder(root / "candidates" / "run_date=2024-01-30") as folder, in_memory(limits) as connection:
    (folder / "part").touch()
    print(flush=True)
    connection.execute("CREATE TABLE t AS SELECT range AS a, hash(range) AS b FROM range(20_000_000) ORDER BY b")
    sys.stdin.read()
"""


def test_a_night_keeps_what_others_write_and_the_next_sweeps_what_was_killed(loaded: Root, tmp_path: Path) -> None:
    loaded.drop("b.csv", "user_id,item_id,event_time\nu,i,2024-01-30\n")
    command = [sys.executable, "-c", WRITES, str(loaded.layout.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        spills = Path(tempfile.gettempdir())
        while not list(spills.glob(".hmamba.tmp-*/duckdb_temp*")):
            assert process.poll() is None
            time.sleep(0.05)
        loaded.ok("ingest")
        assert list(loaded.layout.candidates.glob(".run_date*/part"))
        assert list(spills.glob(".hmamba.tmp-*/duckdb_temp*"))
        process.send_signal(signal.SIGKILL)
    loaded.ok("ingest", run_id="again")
    assert list(loaded.layout.candidates.iterdir()) == []
    assert list(spills.iterdir()) == []


def test_a_killed_pull_leaves_nothing_that_the_next_one_does_not_sweep(loaded: Root) -> None:
    command = [sys.executable, "-m", "jobs.ingest", "--root", str(loaded.layout.root), "--day", DAY.isoformat()]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(loaded.layout.root.glob(".warehouse.duckdb.tmp-*")):
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert list(loaded.layout.root.glob(".warehouse.duckdb.tmp-*"))
    loaded.ok("ingest")
    assert not list(loaded.layout.root.glob(".warehouse.duckdb.tmp-*"))
