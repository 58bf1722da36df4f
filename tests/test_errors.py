"""What the operating system refuses, met by the real parts: one sentence with the path, and the right status."""

from __future__ import annotations

import errno
import importlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from hmamba.errors import BusyError, HMambaError, InputError, explained
from hmamba.storage import local as files
from jobs import report, train
from tests.landing import DAY, Root
from tests.synthetic import make_interactions

REPOSITORY = Path(__file__).parents[1]


def caught(action: Callable[[], object]) -> BaseException:
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - of whatever library
        action()
    return raised.value


def fill_duckdb(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT random() AS number FROM range(1_000_000)")


WRITERS: dict[str, Callable[[Path], object]] = {
    "python": lambda path: path.write_bytes(bytes(1 << 20)),
    "arrow": lambda path: pq.write_table(pa.table({"x": np.random.default_rng(0).random(1 << 18)}), path),
    "duckdb": fill_duckdb,
    "safetensors": lambda path: save_file({"x": torch.zeros(1 << 18)}, path),
    "faiss": lambda path: faiss.write_index(faiss.IndexFlatIP(1 << 18), str(path)),
}
TOO_LARGE = """
import resource, sys
from tests.test_errors import WRITERS
from hmamba.errors import explained
from pathlib import Path
import faiss, numpy as np
index = faiss.IndexFlatIP(64); index.add(np.zeros((4096, 64), "float32"))
WRITERS["faiss"] = lambda path: faiss.write_index(index, str(path))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18))
try:
    WRITERS[sys.argv[1]](Path(sys.argv[2]))
except Exception as error:
    found = explained(error)
    print(type(found).__name__, found)
"""


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_may_not_grow_is_explained_whoever_writes_it(tmp_path: Path, writer: str) -> None:
    """A limit of the process is the one limit of a disk that can be had without mounting one."""
    command = [sys.executable, "-c", TOO_LARGE, writer, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.stdout.startswith("InputError "), done.stdout + done.stderr
    assert "Raise the limit" in done.stdout
    if writer not in ("python", "safetensors", "arrow"):  # which do not say where
        assert str(tmp_path) in done.stdout


@pytest.mark.parametrize("writer", ["python", "arrow"])
def test_a_full_device(tmp_path: Path, writer: str) -> None:
    full = tmp_path / "full"
    full.symlink_to("/dev/full")  # Arrow deletes what it cannot write
    found = explained(caught(lambda: WRITERS[writer](full)), "a file somewhere")
    assert isinstance(found, BusyError)
    assert str(found).startswith("a file somewhere: no space is left on the device. Free some")


@pytest.mark.parametrize("writer", ["python", "arrow", "duckdb"])
def test_a_file_in_the_place_of_a_folder(tmp_path: Path, writer: str) -> None:
    (tmp_path / "file").touch()
    found = explained(caught(lambda: WRITERS[writer](tmp_path / "file" / "x")))
    assert isinstance(found, InputError)
    assert str(tmp_path / "file" / "x") in str(found)
    assert "a part of the path is a file and not a folder" in str(found)


def raised(code: int, path: str = "/srv/shop/x") -> OSError:
    return OSError(code, os.strerror(code), path)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (errno.EACCES, 2),
        (errno.EPERM, 2),
        (errno.EROFS, 2),
        (errno.ENOENT, 2),
        (errno.ENOSPC, 1),
        (errno.EDQUOT, 1),
        (errno.EIO, 1),
        (errno.ESTALE, 1),
    ],
)
def test_statuses(code: int, status: int) -> None:
    for error in (raised(code), duckdb.IOException(f'Cannot open file "/srv/shop/x": {os.strerror(code)}')):
        found = explained(error)
        assert found is not None
        assert found.exit_code == status
        assert str(found).startswith("/srv/shop/x: ")


def test_the_reason_decides_over_a_guess() -> None:
    """A file that cannot be read for now is not a damaged one, but a folder that is missing may be explained better."""

    def read(code: int) -> None:
        try:
            raise raised(code)
        except OSError:
            raise InputError("x is not a whole Parquet file. Write it again.") from None

    assert "input/output error" in str(explained(caught(lambda: read(errno.EIO))))
    assert "not a whole Parquet file" in str(explained(caught(lambda: read(errno.ENOENT))))


@pytest.mark.parametrize("error", [KeyError("No space left on device"), ValueError("x"), FileNotFoundError("a.sql")])
def test_a_fault_is_not_explained(error: Exception) -> None:
    assert explained(error) is None


def test_an_error_that_is_its_own_reason_ends() -> None:
    error = HMambaError("x")
    error.__cause__ = error
    assert explained(error) is error


class TestSteps:
    @pytest.mark.parametrize("what", ["absent", "a file", "below a file"])
    def test_no_step_makes_the_root(self, root: Root, caplog: pytest.LogCaptureFixture, what: str) -> None:
        place = root.layout.root
        if what != "absent":
            place.parent.mkdir(exist_ok=True)
            place.touch()
        given = place / "x" if what == "below a file" else place
        words = "is not a folder" if what == "a file" else "no such folder"
        for step in (train, report):
            caplog.clear()
            assert step.main(["--root", str(given), "--day", DAY.isoformat()]) == 2
            assert words in caplog.text
        assert place.exists() == (what != "absent")
        assert not place.is_dir()

    def test_a_file_where_a_folder_should_be(self, loaded: Root) -> None:
        (loaded.layout.root / "runs").write_text("in the way")
        before = loaded.contents()
        code, _, log = loaded.step("snapshot")
        assert (code, str(loaded.layout.root / "runs") in log, "Traceback" in log) == (2, True, False), log
        assert loaded.contents() == before

    def test_a_file_where_the_folder_of_the_checks_should_be(self, loaded: Root) -> None:
        folder = loaded.layout.checks.folder
        folder.write_text("in the way")
        loaded.drop("b.csv", "user_id,item_id,event_time\nu,i,2024-01-30\n")
        code, metrics, log = loaded.step("ingest")
        assert (code, metrics["rows_loaded"], f"{folder}: it is made again" in log) == (0, 1, True), log
        assert folder.is_dir()

    def test_a_pull_that_runs_out_of_disk_changes_nothing(self, loaded: Root) -> None:
        """In a process whose files may not grow past the warehouse that is there."""
        frame = make_interactions(users=3000)
        frame.to_parquet(loaded.landing() / "big.parquet", index=False)
        before = loaded.contents()
        size = loaded.layout.warehouse.stat().st_size
        step = [sys.executable, "-m", "jobs.ingest", "--root", str(loaded.layout.root), "--day", DAY.isoformat()]
        done = subprocess.run(
            step,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
        )
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
        assert str(loaded.layout.root) in done.stderr
        assert "Raise the limit" in done.stderr
        assert loaded.contents() == before
        assert loaded.ok("ingest")["rows_read"] == len(frame)

    def test_a_failure_that_cannot_be_recorded_is_still_reported(
        self, root: Root, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root.landing()

        def full(*_: object, **__: object) -> None:
            raise raised(errno.ENOSPC)

        monkeypatch.setattr(files.json, "dumps", full)
        code, _, log = root.step("ingest")
        assert (code, "Nothing to start from" in log) == (2, True)

    def test_facts_that_cannot_be_written_fail_the_step(self, loaded: Root) -> None:
        metrics = loaded.layout.run(DAY, "manual").metrics
        metrics.parent.mkdir(parents=True)
        metrics.touch()
        code, _, log = loaded.step("ingest")
        assert (code, f"{metrics}: a file is in the place of a folder" in log) == (2, True), log


OUT_OF_MEMORY = """
import resource, sys
import duckdb, faiss, numpy as np, pyarrow as pa, torch
from hmamba.errors import InputError, explained

def reader():
    connection = duckdb.connect(config={"memory_limit": "64MB", "threads": 1, "temp_directory": ""})
    query = "SELECT list(range::VARCHAR) FROM range(20_000_000)"
    return connection.execute(query).to_arrow_reader().read_all()

def added():
    index = faiss.IndexFlatIP(1 << 16)
    index.add(np.zeros((4096, 1 << 16), "float32"))
    index.add(np.zeros((4096, 1 << 16), "float32"))

def wrapped():
    try:
        np.ones(1 << 40)
    except MemoryError:
        raise InputError("x is not a whole file. Write it again.") from None

CALLS = {
    "python": lambda: b"x" * (1 << 40),
    "numpy": lambda: np.ones(1 << 40),
    "arrow": lambda: pa.allocate_buffer(1 << 40),
    "torch": lambda: torch.ones(1 << 40),
    "faiss": added,
    "duckdb": lambda: duckdb.execute("SELECT count(DISTINCT range) FROM range(1_000_000_000)"),
    "a reader of duckdb": reader,
    "a guess": wrapped,
}
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (2 << 30)
resource.setrlimit(resource.RLIMIT_AS, (size, size))
duckdb.execute("SET memory_limit = '100GB'; SET threads = 1")
try:
    CALLS[sys.argv[1]]()
except Exception as error:
    found = explained(error)
    print(type(found).__name__, found)
"""


@pytest.mark.parametrize(
    "what", ["python", "numpy", "arrow", "torch", "faiss", "duckdb", "a reader of duckdb", "a guess"]
)
def test_a_lack_of_memory_is_said_whoever_meets_it(what: str) -> None:
    command = [sys.executable, "-c", OUT_OF_MEMORY, what]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    assert done.stdout.startswith("BusyError "), done.stdout + done.stderr
    assert "memory ran out. Give the step more" in done.stdout or "DuckDB ran out of memory" in done.stdout


@pytest.mark.parametrize(
    "text", ["Out of Memory Error: ArrowBuffer: failed to allocate 524288 bytes", "std::bad_alloc"]
)
def test_errors_of_readers_without_a_number_are_recognised(text: str) -> None:
    found = explained(OSError(text))
    assert isinstance(found, BusyError)
    assert explained(OSError("some other text")) is None


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("could not create a primitive"),
        ImportError("a.so: failed to map segment from shared object"),
        SystemError("error return without exception set"),
    ],
)
def test_a_lack_of_memory_behind_other_words_is_recognised(error: Exception) -> None:
    assert isinstance(explained(error), BusyError)
    assert explained(type(error)("some other text")) is None


@pytest.mark.parametrize(
    "name", ["ingest", "snapshot", "train", "gate", "index", "score", "publish", "refresh", "report"]
)
def test_every_step_exits_with_1_if_memory_runs_out(
    loaded: Root, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    step = importlib.import_module(f"jobs.{name}")
    monkeypatch.setattr(step, "body", lambda *_: np.ones(1 << 50))
    more = ["--shard", "0"] if name == "score" else []
    if name == "refresh":  # it looks for a table before it starts
        loaded.layout.candidates.mkdir()
        loaded.layout.latest.write_text("{}", encoding="utf-8")
    assert step.main(["--root", str(loaded.layout.root), "--day", DAY.isoformat(), *more]) == 1
    assert "memory ran out. Give the step more" in caplog.text
