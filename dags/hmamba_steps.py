"""Shared code of the DAGs: their arguments and params, and an operator that runs one step as a separate process.

Airflow and the library need not share an environment: ``HMAMBA_PYTHON`` names the interpreter that has the
library. Nothing here, and nothing in the DAG files, imports more than ``airflow.sdk`` and the standard library.

Environment, of all processes of Airflow:

- ``HMAMBA_PYTHON``: interpreter of the steps (default: Airflow's own).
- ``HMAMBA_ROOT``, ``HMAMBA_CONFIG``: defaults of the params ``root`` and ``config``.
- ``HMAMBA_RETRIES``: number of retries of a failed step (default 2).
- ``HMAMBA_NOTIFY``, ``HMAMBA_DEADLINE``: notifications of failed and late runs, see ``hmamba_notices``.
- ``HMAMBA_DELIVER``: targets of deliveries, see ``hmamba_targets``.
- ``HMAMBA_PAGES``: URL at which the root is served, see ``hmamba_lineage``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import IO, Any, NoReturn

from airflow.sdk import (
    Asset,
    BaseOperator,
    BaseSensorOperator,
    Context,
    ExceptionRetryPolicy,
    Param,
    PokeReturnValue,
    RetryAction,
    RetryRule,
)
from airflow.sdk.exceptions import AirflowTaskTimeout
from airflow.sdk.observability import stats
from hmamba_lineage import DataDocsLink, ReportLink, gauges, lineage
from hmamba_notices import FAILURE, notifiers, tell_failure
from hmamba_outcomes import FINAL, TIMED_OUT, StepFailed, StepFailedForGood, last_line, level_and_text, of_the_system
from hmamba_runs import RunError, check_conf, check_root, config_of, day_of, folder_name, folder_of, root_of
from hmamba_turns import Claim, Turns, TurnsBusyError

WAREHOUSE_POOL = "hmamba_warehouse"
GPU_POOL = "hmamba_gpu"
CANDIDATES = Asset(name="hmamba_candidates", uri="hmamba://nightly/candidates")
CANDIDATES_BY_DAY = Asset(name="hmamba_candidates_by_day", uri="hmamba://nightly/candidates-by-day")
"""The same table, with its day as partition key. A second asset, because an event with a partition key does not start
DAGs whose schedule is the asset itself."""

_PATIENCE_SECONDS = 10
COMMON = {
    "start_date": datetime(2024, 1, 1, tzinfo=UTC),
    "catchup": False,
    "max_active_runs": 1,
    "user_defined_macros": {"hmamba": {"root": root_of, "config": config_of, "day": day_of, "folder": folder_name}},
    "default_args": {
        "owner": "hmamba",
        "retries": int(os.environ.get("HMAMBA_RETRIES") or 2),
        "retry_delay": timedelta(minutes=5),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(minutes=30),
        "retry_policy": ExceptionRetryPolicy([RetryRule(StepFailedForGood, RetryAction.FAIL)]),
    },
    "on_failure_callback": tell_failure if notifiers() else None,
}
"""Arguments that all DAGs share."""


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
            description_md="Folder of the recommender on the workers. Empty: `HMAMBA_ROOT`.",
        ),
        "config": Param(
            os.environ.get("HMAMBA_CONFIG"),
            type=["null", "string"],
            title="Configuration",
            description_md="A `.toml` file or a known name. Empty: `HMAMBA_CONFIG`, else `ROOT/hmamba.toml`.",
        ),
        "any_day": Param(
            False,
            type="boolean",
            title="Any day",
            description_md="Accept a day after today, or long after the newest event, which is otherwise refused as a "
            "typing error.",
        ),
    }


class _OfARun(BaseOperator):
    """A task of a run, with the run's root, configuration, day and folder as rendered template fields.

    Args:
        days_back: days from the processed day to the day on which the run is due; unused if the param ``day`` is set.
    """

    template_fields: Sequence[str] = ("root", "day", "config", "run_folder")

    def __init__(
        self,
        *,
        days_back: int = 1,
        root: str = "{{ hmamba.root(params) }}",
        day: str = "{{ hmamba.day(params, dag_run, task.days_back) }}",
        config: str = "{{ hmamba.config(params) }}",
        run_folder: str = "{{ hmamba.folder(run_id) }}",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.days_back = days_back
        self.root = root
        self.day = day
        self.config = config
        self.run_folder = run_folder

    def check(self, context: Context) -> None:
        """Check the run's conf and its root, before anything is written.

        Raises:
            StepFailedForGood: one of them is wrong.
        """
        try:
            check_conf(context["dag_run"].conf, self.dag.params)  # the context's params include the conf
            check_root(self.root, self.config)
        except RunError as error:
            self.fail(2, str(error))

    @contextlib.contextmanager
    def reported(self, context: Context) -> Iterator[None]:
        """Keep the sentence of a failure for notifications. An error of the operating system becomes such a failure."""
        try:
            try:
                yield
            except OSError as error:
                self.fail(*of_the_system(error))
        except StepFailed as failed:
            with contextlib.suppress(Exception):  # whose own failure must not replace the step's
                context["ti"].xcom_push(FAILURE, failed.sentence)
            raise

    def fail(self, status: int, sentence: str) -> NoReturn:
        """Log a sentence and fail the task."""
        self.log.error("%s", sentence)
        raise StepFailedForGood(status, sentence) if status in FINAL else StepFailed(status, sentence)

    def claim(self, context: Context) -> tuple[Turns, Claim]:
        """The turns on the run's root, and the run's claim."""
        run, task_instance = context["dag_run"], context["ti"]

        def is_running(dag_id: str, run_id: str) -> bool:
            return bool(task_instance.get_dr_count(dag_id=dag_id, run_ids=[run_id], states=["running"]))

        due = run.run_after.astimezone(UTC).isoformat()
        return Turns(folder_of(self.root), is_running), Claim(run.dag_id, run.run_id, self.day, due)


class TurnSensor(_OfARun, BaseSensorOperator):
    """Waits until no other run of the root is under way and none of an earlier day waits, see ``hmamba_turns``."""

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Ask for the turn; the task's XCom is the run's root, day and folder."""
        with self.reported(context):
            self.check(context)
            turns, own = self.claim(context)
            try:
                other = turns.ask(own, lambda: self._before(context))
            except TurnsBusyError as error:
                self.log.info("%s", error)
                return False
        if other is not None:
            self.log.info("Waiting for the run %s. If nothing runs it any more, mark it as failed.", other)
            return False
        self.log.info("It is this run's turn: day %s of %s.", self.day, self.root)
        return PokeReturnValue(True, {"root": self.root, "day": self.day, "run_folder": self.run_folder})

    def _before(self, context: Context) -> tuple[str, str] | None:
        run = context["ti"].get_previous_dagrun(state="running")
        return None if run is None or root_of(run.conf or {}) != self.root else (run.dag_id, run.run_id)


class StepOperator(_OfARun):
    """Runs ``python -m jobs.STEP`` and returns the metrics that it prints.

    The step's standard error goes to the task's log, line by line, with the level of each line. The last line of its
    standard output is a JSON object of small metrics, which becomes the task's XCom. When the task is killed, cleared
    or times out, the step is stopped with it.

    Args:
        step: name of the step.
        switches: params that, when true, add a flag to the command.
        shards: a shard, such as "7", or a range, such as "14-15" (mapped tasks): passed as ``--shard`` or ``--shards``.
        takes_turns: whether the run must have the turn on its root.

    Raises:
        StepFailedForGood: a param or the root is wrong, or the step exited with a status of ``FINAL``. No retry.
        StepFailed: any other failure. Retried.
    """

    template_fields = (*_OfARun.template_fields, "shards")
    operator_extra_links = (ReportLink(), DataDocsLink())

    def __init__(
        self,
        *,
        step: str,
        switches: Mapping[str, str] | None = None,
        shards: str | None = None,
        takes_turns: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.switches = dict(switches or {})
        self.shards = shards
        self.takes_turns = takes_turns
        self._process: subprocess.Popen[str] | None = None
        self._metrics: dict[str, Any] = {}

    def command(self, params: Mapping[str, Any]) -> list[str]:
        """The step's command line. Call it after the template fields are rendered."""
        # -P: a folder named jobs in the worker's current folder must not shadow the library's.
        command = [os.environ.get("HMAMBA_PYTHON") or sys.executable, "-P", "-m", f"jobs.{self.step}"]
        command += ["--root", self.root, "--day", self.day, "--run-id", self.run_folder]
        if self.config:
            command += ["--config", self.config]
        if params.get("any_day"):
            command += ["--any-day"]
        if self.shards is not None:
            command += ["--shards" if "-" in self.shards else "--shard", self.shards]
        return command + [flag for param, flag in self.switches.items() if params.get(param)]

    def environment(self) -> dict[str, str]:
        """Environment variables that the step gets besides those of the worker."""
        return {}

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the step and return its metrics, which are also attached to its asset events and sent as gauges."""
        with self.reported(context):
            self.check(context)
            if self.takes_turns:
                self._check_turn(context)
            self._metrics = metrics = self.run(self.command(context["params"]))
        for name, value in gauges(metrics):
            stats.gauge(name, value, tags={"dag_id": self.dag_id})
        for asset in self.outlets:
            event = context["outlet_events"][asset]
            event.extra = metrics
            if asset == CANDIDATES_BY_DAY:
                event.add_partitions(metrics.get("night", self.day))
        return metrics

    def get_openlineage_facets_on_complete(self, _: Any) -> Any:
        """Data sets of the step. Called by the OpenLineage provider, if that is installed."""
        return lineage(self.step, folder_of(self.root), self.day, self.run_folder, self._metrics)

    get_openlineage_facets_on_failure = get_openlineage_facets_on_complete

    def _check_turn(self, context: Context) -> None:
        turns, own = self.claim(context)
        try:
            holder = turns.hold(own)
        except TurnsBusyError as error:
            self.fail(1, f"{error} A retry may succeed.")
        if holder is not None:
            self.fail(1, f"It is the turn of the run {holder}. A retry may succeed; otherwise clear this task later.")

    def run(self, command: Sequence[str]) -> dict[str, Any]:
        """Run a command, log its standard error, and return the JSON object that it prints last."""
        self.log.info("$ %s", shlex.join(command))
        with tempfile.TemporaryFile() as printed:
            try:
                level, said = self._follow(command, printed)
            except AirflowTaskTimeout:
                self.fail(TIMED_OUT, f"{self.step} was stopped after {self.execution_timeout}, its execution_timeout.")
            status = self._process.returncode
            last = last_line(printed)
        if status in FINAL or status == 1:
            if level < logging.ERROR:
                self.log.error("%s", said)
            sentence = (
                f"{self.step} ended with status {status}. {FINAL.get(status, 'A retry may succeed.')} It said: {said}"
            )
            raise (StepFailedForGood if status in FINAL else StepFailed)(status, sentence)
        if status != 0:
            how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
            self.fail(128 - status if status < 0 else status, f"{self.step} {how}. It said: {said}")
        try:
            metrics = json.loads(last)
        except json.JSONDecodeError:
            metrics = None
        if not isinstance(metrics, dict):
            self.fail(1, f"{self.step} ended well, but its last line is not a JSON object: {last!r}")
        if summary := metrics.get("summary"):
            self.log.info("%s | %s", self.step, summary)
        return metrics

    def _follow(self, command: Sequence[str], printed: IO[bytes]) -> tuple[int, str]:
        """Run ``command``, log its standard error line by line, and return the level and text of the last line."""
        level, said = logging.INFO, "nothing"
        self._process = process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # The step ends with the process of that id, even after kill -9 (hmamba/processes.py).
            env={**os.environ, **self.environment(), "PYTHONUNBUFFERED": "1", "HMAMBA_PARENT": str(os.getpid())},
        )
        try:
            for line in process.stderr:
                if line.strip():
                    level, said = level_and_text(line.rstrip(), level)
                    said = said.removeprefix(f"{self.step}: ")
                    self.log.log(level, "%s | %s", self.step, said)
            process.wait()
        finally:
            # Airflow's timeout raises inside the loop.
            self._stop(process)
        return level, said.strip()

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
        takes_turns=False,
        pool=WAREHOUSE_POOL,
        execution_timeout=timedelta(minutes=50),
        doc_md="Pulls new files from the landing folder into the warehouse, in one transaction.",
    )
