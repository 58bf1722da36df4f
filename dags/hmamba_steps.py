"""Shared code of the DAGs: an operator that runs one step of the library as a separate process.

Airflow and the library need not share an environment: ``HMAMBA_PYTHON`` names the interpreter that has the
library. Nothing here, and nothing in the DAG files, imports more than ``airflow.sdk`` and the standard library.

Environment, read where Airflow parses and runs the DAGs:

- ``HMAMBA_PYTHON``: interpreter of the steps (default: Airflow's own).
- ``HMAMBA_ROOT``, ``HMAMBA_CONFIG``: defaults of the params ``root`` and ``config``.
- ``HMAMBA_RETRIES``: number of retries of a failed step (default 2).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import IO, Any

from airflow.sdk import Asset, BaseOperator, Context, Param
from airflow.sdk.exceptions import AirflowException, AirflowFailException

WAREHOUSE_POOL = "hmamba_warehouse"
GPU_POOL = "hmamba_gpu"
CANDIDATES = Asset(name="hmamba_candidates", uri="hmamba://nightly/candidates")

COMMON = {
    "start_date": datetime(2024, 1, 1, tzinfo=UTC),
    "catchup": False,
    "max_active_runs": 1,
    "default_args": {
        "owner": "hmamba",
        "retries": int(os.environ.get("HMAMBA_RETRIES", "2")),
        "retry_delay": timedelta(minutes=5),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=30),
    },
}
"""Arguments that all DAGs share."""

FINAL = {
    2: "A setting or a file is wrong: fix it, then clear this task.",
    3: "The data or the candidates broke a rule: see the Data Docs under ROOT/gx, then clear this task.",
}
"""Exit statuses that a retry cannot change: the task fails at once. All others (1, or a signal such as the kernel's
when memory runs out) are retried."""

MOST_TASKS = 1000
"""Most instances of a mapped task. Airflow's limit ``core.max_map_length`` is 1024 by default."""

_RUN_ID_LENGTH = 128
_PATIENCE_SECONDS = 10


def common_params() -> dict[str, Param]:
    """The params that all DAGs show in Airflow's trigger form."""
    return {
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Day",
            description_md="UTC day to process, such as `2017-12-14`. Empty: the day of this run's schedule.",
        ),
        "root": Param(
            os.environ.get("HMAMBA_ROOT"),
            type=["null", "string"],
            title="Root",
            description_md="Folder of the recommender on the workers. Default: `HMAMBA_ROOT`.",
        ),
        "config": Param(
            os.environ.get("HMAMBA_CONFIG"),
            type=["null", "string"],
            title="Configuration",
            description_md="A `.toml` file or a known name. Default: `HMAMBA_CONFIG`, else `ROOT/hmamba.toml`.",
        ),
        "any_day": Param(
            False,
            type="boolean",
            title="Any day",
            description_md="Accept a day after today, or long after the newest event, which is otherwise refused as a "
            "typing error.",
        ),
    }


def ranges(shards: int) -> list[str]:
    """Split the shards of a snapshot into ranges for mapped tasks, one shard each if Airflow allows so many tasks.

    Returns:
        At most ``MOST_TASKS`` ranges such as "7", or "14-15" if there are more shards; together they cover all shards.
    """
    size = max(1, -(-shards // MOST_TASKS))
    pairs = ((first, min(first + size, shards) - 1) for first in range(0, shards, size))
    return [str(first) if first == last else f"{first}-{last}" for first, last in pairs]


def folder_name(run_id: str) -> str:
    """Turn an Airflow run id into a run id of the steps, which is a folder's name.

    Equal ids give equal names and different ids different names: if characters had to be replaced or cut, a digest of
    the id is appended.
    """
    name = re.sub(r"[^A-Za-z0-9._+-]", "-", run_id)
    if not name[:1].isalnum():
        name = f"run{name}"
    if name == run_id and len(name) <= _RUN_ID_LENGTH:
        return name
    mark = hashlib.sha256(run_id.encode()).hexdigest()[:8]
    return f"{name[: _RUN_ID_LENGTH - len(mark) - 1]}-{mark}"


def day_to_process(chosen: str | None, interval_end: datetime | None, run_after: datetime, days_back: int) -> date:
    """The UTC day of a run.

    Args:
        chosen: the param ``day``, which takes precedence.
        interval_end: end of the run's data interval; None for some runs triggered by hand or by an asset.
        run_after: when the run was due, used without an interval. It does not change when a task is cleared.
        days_back: 1 for the last full day at that time, 0 for the day in progress.
    """
    if chosen:
        return date.fromisoformat(chosen)
    return ((interval_end or run_after).astimezone(UTC) - timedelta(days=days_back)).date()


def _last_line(stream: IO[bytes]) -> str:
    stream.seek(0)
    lines = stream.read().decode(errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "")


class StepOperator(BaseOperator):
    """Runs ``python -m jobs.STEP`` and returns the metrics that it prints.

    The step's standard error goes to the task's log, line by line. The last line of its standard output is a JSON
    object of small metrics, which becomes the task's XCom. When the task is killed, cleared or times out, the step is
    stopped with it.

    Args:
        step: name of the step.
        days_back: days from the processed day to the end of the run's interval; unused if the param ``day`` is set.
        switches: params that, when true, add a flag to the command.
        shards: a shard, such as "7", or a range, such as "14-15" (mapped tasks): passed as ``--shard`` or ``--shards``.

    Raises:
        AirflowFailException: the step exited with a status of ``FINAL``, or there is no root. No retry.
        AirflowException: any other failure. Retried.
    """

    def __init__(
        self,
        *,
        step: str,
        days_back: int = 1,
        switches: Mapping[str, str] | None = None,
        shards: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.days_back = days_back
        self.switches = dict(switches or {})
        self.shards = shards
        self._process: subprocess.Popen[str] | None = None

    def command(self, context: Context) -> list[str]:
        """The step's command line for one task of one run."""
        params, run = context["params"], context["dag_run"]
        if not params.get("root"):
            raise AirflowFailException(
                "No root: give the param 'root', or set HMAMBA_ROOT where Airflow parses its DAGs and restart it."
            )
        day = day_to_process(params.get("day"), run.data_interval_end, run.run_after, self.days_back)
        # -P: a folder named jobs in the worker's current folder must not shadow the library's.
        command = [os.environ.get("HMAMBA_PYTHON") or sys.executable, "-P", "-m", f"jobs.{self.step}"]
        command += ["--root", params["root"], "--day", day.isoformat(), "--run-id", folder_name(run.run_id)]
        if params.get("config"):
            command += ["--config", params["config"]]
        if params.get("any_day"):
            command += ["--any-day"]
        if self.shards is not None:
            command += ["--shards" if "-" in self.shards else "--shard", self.shards]
        return command + [flag for param, flag in self.switches.items() if params.get(param)]

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the step and return its metrics, which are also attached to its asset events."""
        metrics = self.run(self.command(context))
        for asset in self.outlets:
            context["outlet_events"][asset].extra = metrics
        return metrics

    def run(self, command: Sequence[str]) -> dict[str, Any]:
        """Run a command, log its standard error, and return the JSON object that it prints last."""
        self.log.info("$ %s", shlex.join(command))
        with tempfile.TemporaryFile() as printed:
            said = self._follow(command, printed)
            status = self._process.returncode
            last = _last_line(printed)
        if status in FINAL:
            raise AirflowFailException(f"{self.step} ended with status {status}. {FINAL[status]} It said: {said}")
        if status != 0:
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            raise AirflowException(f"{self.step} {how}. It said: {said}")
        try:
            metrics = json.loads(last)
        except json.JSONDecodeError:
            metrics = None
        if not isinstance(metrics, dict):
            raise AirflowException(f"{self.step} ended well, but its last line is not a JSON object: {last!r}")
        return metrics

    def _follow(self, command: Sequence[str], printed: IO[bytes]) -> str:
        """Run ``command``, log its standard error line by line, and return the last line."""
        said = "nothing"
        self._process = process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # The step ends with the process of that id, even after kill -9 (hmamba/processes.py).
            env={**os.environ, "PYTHONUNBUFFERED": "1", "HMAMBA_PARENT": str(os.getpid())},
        )
        try:
            for line in process.stderr:
                if line.strip():
                    said = line.strip()
                    self.log.info("%s | %s", self.step, line.rstrip())
            process.wait()
        finally:
            # Airflow's timeout raises inside the loop.
            self._stop(process)
        return said

    def _stop(self, process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stderr.close()

    def on_kill(self) -> None:
        """End the step when Airflow ends the task; ``_follow`` then returns."""
        if self._process is not None and self._process.poll() is None:
            self.log.info("Stopping %s.", self.step)
            self._process.terminate()


def hourly_ingest() -> StepOperator:
    """The pull of a DAG that runs every hour, for the day in progress."""
    return StepOperator(
        task_id="ingest",
        step="ingest",
        days_back=0,
        pool=WAREHOUSE_POOL,
        execution_timeout=timedelta(minutes=50),
        doc_md="Pulls new files from the landing folder into the warehouse, in one transaction.",
    )
