"""Between nights: pull new files and update the candidates of users with new events."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

from airflow.sdk import CronDataIntervalTimetable, chain, dag

sys.path.append(str(Path(__file__).parent))  # Airflow adds only the bundle's root, and this may be in a subfolder of it

from hmamba_deliver import delivery
from hmamba_steps import (
    CANDIDATES,
    CANDIDATES_BY_DAY,
    COMMON,
    WAREHOUSE_POOL,
    StepOperator,
    common_params,
    hourly_ingest,
)

ABOUT = """
### Between nights

Every hour: pull new files, and update the candidates of users with new events with the serving model. All other
candidates stay as they are, and nothing is trained. If no user has new events, nothing is published. It is optional,
and replaces `hmamba_ingest` where it runs.

The day is the current UTC day when the run was due: later events are ignored.
"""


@dag(
    dag_id="hmamba_refresh",
    description="Pull new interactions and update the candidates of their users",
    doc_md=ABOUT,
    # Explicit for the same reason as in hmamba_retrain.
    schedule=CronDataIntervalTimetable("45 * * * *", timezone="UTC"),
    **COMMON,
    params=common_params(),
    tags=["hmamba", "recommender", "hourly"],
)
def hmamba_refresh() -> None:
    """Define the tasks and their order."""
    refresh = StepOperator(
        task_id="refresh",
        step="refresh",
        days_back=0,
        takes_turns=False,
        # It also loads the model, but a task has one pool; without this one a locked warehouse would fail another run.
        pool=WAREHOUSE_POOL,
        outlets=[CANDIDATES, CANDIDATES_BY_DAY],
        execution_timeout=timedelta(minutes=50),
        doc_md="Scores users with new events and publishes the table with their candidates replaced, with the "
        "checks of a night. Publishes nothing if no user has new events.",
    )
    chain(hourly_ingest(), refresh, *delivery(days_back=0, takes_turns=False, execution_timeout=timedelta(minutes=50)))


hmamba_refresh()
