"""The night: pull, check, fine-tune, evaluate, score all users, publish, report."""

from __future__ import annotations

import sys
from datetime import time, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import CronDataIntervalTimetable, Param, chain, dag, task

sys.path.append(str(Path(__file__).parent))  # Airflow adds only the bundle's root, and this may be in a subfolder of it

from hmamba_deliver import delivery
from hmamba_notices import deadline, tell_late
from hmamba_runs import ranges
from hmamba_steps import (
    CANDIDATES,
    CANDIDATES_BY_DAY,
    COMMON,
    GPU_POOL,
    WAREHOUSE_POOL,
    StepOperator,
    TurnSensor,
    common_params,
)

ABOUT = """
### The nightly recommender

Every night at 02:00 UTC, for the day that ended at midnight: pull new interactions into the warehouse, check them,
write a snapshot, fine-tune the champion, evaluate the challenger, score all users and publish the candidates.

* **By hand**: *Trigger*, and fill in the form. `day` reprocesses one day, `full_retrain` trains from scratch.
* **Runs of one root take turns**, the earliest day first. The log of `turn` says for which run it waits.
* **When a task fails**, its log ends with a sentence that says what to fix. Fix it, then *Clear* the task: steps are
  idempotent, and finished work is kept. Until `publish` has run, readers have last night's table.
  `report_failed_night` writes `reports/DAY/index.html`; the run still fails.
* **Candidates are published every night.** If the challenger is not promoted, it is kept and reported, and the
  champion's candidates are published.

More in docs/operations.md.
"""


DUE = time(2)
NIGHT_TIMEOUT = timedelta(hours=20)
"""Longest time of a run, waiting for its turn included. Below a day, so that a night that hangs costs one night."""


def candidates_are_late(context: dict[str, Any]) -> None:
    """Airflow's callback of a missed deadline. In this file, because Airflow finds it by the file of the DAG."""
    tell_late(context)


@dag(
    dag_id="hmamba_retrain",
    description="Pull, check, fine-tune, evaluate, score, publish, report",
    doc_md=ABOUT,
    # Not a bare cron string: that is a CronTriggerTimetable, whose interval has no width. Here the interval ends when
    # the run is due, so the day that it processes does not depend on when, or how often, the run starts.
    schedule=CronDataIntervalTimetable(f"{DUE.minute} {DUE.hour} * * *", timezone="UTC"),
    **COMMON,
    dagrun_timeout=NIGHT_TIMEOUT,
    deadline=deadline(DUE, candidates_are_late),
    params={
        **common_params(),
        "full_retrain": Param(
            False,
            type="boolean",
            title="Full retrain",
            description_md="Train from scratch, not from the champion. Slower; the gate evaluates it as usual.",
        ),
    },
    tags=["hmamba", "recommender", "nightly"],
)
def hmamba_retrain() -> None:
    """Define the tasks and their order."""
    turn = TurnSensor(
        task_id="turn",
        mode="reschedule",
        poke_interval=60,
        timeout=NIGHT_TIMEOUT,
        execution_timeout=timedelta(minutes=5),
        doc_md="Checks the params and the root, then waits until no other run of this root is under way and none of an "
        "earlier day waits. Its log names the run that it waits for.",
    )
    ingest = StepOperator(
        task_id="ingest",
        step="ingest",
        pool=WAREHOUSE_POOL,
        execution_timeout=timedelta(hours=1),
        doc_md="Pulls new files from the landing folder into the warehouse, in one transaction. Rows that break a "
        "rule go to quarantine; a batch that breaks one stops the run with the warehouse unchanged.",
    )
    snapshot = StepOperator(
        task_id="snapshot",
        step="snapshot",
        pool=WAREHOUSE_POOL,
        execution_timeout=timedelta(hours=1),
        doc_md="Writes every user's history up to midnight after the day, in hashed shards. Later steps do not "
        "read the warehouse.",
    )
    train = StepOperator(
        task_id="train",
        step="train",
        switches={"full_retrain": "--full-retrain"},
        pool=GPU_POOL,
        execution_timeout=timedelta(hours=6),
        doc_md="Fine-tunes from the champion, or trains from scratch. A killed try resumes from its last checkpoint.",
    )
    gate = StepOperator(
        task_id="gate",
        step="gate",
        pool=GPU_POOL,
        execution_timeout=timedelta(hours=1),
        doc_md="Evaluates challenger, champion and baselines on the same held-out newest events, and decides what "
        "serves. A challenger that is not promoted is a result, not a failure.",
    )
    index = StepOperator(
        task_id="index",
        step="index",
        pool=GPU_POOL,
        execution_timeout=timedelta(minutes=30),
        doc_md="Writes the serving model's item points and the FAISS index over them.",
    )

    @task(
        execution_timeout=timedelta(minutes=5),
        doc_md="Lists the snapshot's shards, so that scoring has one task for each. Over 1,000 shards a task scores a "
        "few of them, since Airflow limits how many tasks are mapped (`core.max_map_length`).",
    )
    def shards(metrics: dict[str, Any]) -> list[str]:
        return ranges(metrics["shards"])

    listed = shards(snapshot.output)
    score = StepOperator.partial(
        task_id="score",
        step="score",
        pool=GPU_POOL,
        execution_timeout=timedelta(hours=1),
        map_index_template="shard {{ task.shards }}",
        doc_md="Encodes the users of one shard, or of a few, and finds their candidates.",
    ).expand(shards=listed)
    publish = StepOperator(
        task_id="publish",
        step="publish",
        outlets=[CANDIDATES, CANDIDATES_BY_DAY],
        execution_timeout=timedelta(minutes=30),
        doc_md="Checks all candidates, then makes them visible at once. Emits the asset `hmamba_candidates`, which "
        "carries the figures of the table.",
    )
    report = StepOperator(
        task_id="report",
        step="report",
        execution_timeout=timedelta(minutes=15),
        doc_md="Writes `reports/DAY/index.html`. It runs after `publish` alone, promoted or not, so that a failed "
        "night is a failed run.",
    )
    # A second leaf beside `report`. When a step fails, `report` is `upstream_failed`, which fails the run also if
    # this one succeeds.
    failed_report = StepOperator(
        task_id="report_failed_night",
        step="report",
        trigger_rule="one_failed",
        execution_timeout=timedelta(minutes=15),
        doc_md="Writes the report of a night with a failed step: which one, why, and what was done before. It does not "
        "wait for shards that are still being scored. Skipped if no step fails. The run stays failed.",
    )
    chain(turn, ingest, snapshot, train, gate, index, score, publish, report)
    # Beside the report: a target that is down must not keep the night from its report, and fails the run as well.
    for deliver in delivery(execution_timeout=timedelta(hours=2)):
        chain(publish, deliver)
    chain([turn, ingest, snapshot, listed, train, gate, index, score, publish], failed_report)


hmamba_retrain()
