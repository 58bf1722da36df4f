"""Between nights: pull new files and renew the candidates of users with new events."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronDataIntervalTimetable, chain, dag
from hmamba_steps import CANDIDATES, RETRYING, WAREHOUSE_POOL, StepOperator, common_params

ABOUT = """
### Between nights

Every hour: pull what has landed, and give users with new events new candidates by the model that serves. Everybody
else's stay as they are, nothing is trained, and if nobody has new events nothing is published. It is optional, and
takes the place of `hmamba_ingest` where it runs.

The day is the UTC day under way when the run was due: later events are not seen.
"""


@dag(
    dag_id="hmamba_refresh",
    description="Pull new interactions and renew the candidates of users who have some",
    doc_md=ABOUT,
    # Explicit for the same reason as in hmamba_retrain.
    schedule=CronDataIntervalTimetable("45 * * * *", timezone="UTC"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "hmamba", **RETRYING},
    params=common_params(),
    tags=["hmamba", "recommender", "hourly"],
)
def hmamba_refresh() -> None:
    """Wire the two steps."""
    ingest = StepOperator(
        task_id="ingest",
        step="ingest",
        days_back=0,
        pool=WAREHOUSE_POOL,
        execution_timeout=timedelta(minutes=50),
        doc_md="Pulls new files from the landing folder into the warehouse, in one transaction.",
    )
    refresh = StepOperator(
        task_id="refresh",
        step="refresh",
        days_back=0,
        # It loads the model as well, but a task has one pool, and a locked warehouse would end another run for good.
        pool=WAREHOUSE_POOL,
        outlets=[CANDIDATES],
        execution_timeout=timedelta(minutes=50),
        doc_md="Scores users with new events and publishes the table with their candidates replaced, checked as a "
        "night's is. Publishes nothing if there are none.",
    )
    chain(ingest, refresh)


hmamba_refresh()
