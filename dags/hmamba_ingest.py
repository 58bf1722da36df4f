"""The hourly pull of new files into the warehouse, which leaves less work for the night."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import CronDataIntervalTimetable, dag
from hmamba_steps import RETRYING, WAREHOUSE_POOL, StepOperator, common_params

ABOUT = """
### The hourly pull

Pulls new files into the warehouse and checks them, so that a bad file is found within the hour and not at night. It is
optional: `hmamba_retrain` pulls as well. Both use the one-slot pool `hmamba_warehouse`, so they never run together.

The day of a pull is the UTC day under way when the run was due: events of later days are left in their files for a
later pull.
"""


@dag(
    dag_id="hmamba_ingest",
    description="Pull new interactions into the warehouse",
    doc_md=ABOUT,
    # Explicit for the same reason as in hmamba_retrain.
    schedule=CronDataIntervalTimetable("15 * * * *", timezone="UTC"),
    start_date=datetime(2024, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"owner": "hmamba", **RETRYING},
    params=common_params(),
    tags=["hmamba", "recommender", "hourly"],
)
def hmamba_ingest() -> None:
    """Define the task."""
    StepOperator(
        task_id="ingest",
        step="ingest",
        days_back=0,
        pool=WAREHOUSE_POOL,
        execution_timeout=timedelta(minutes=50),
        doc_md="Pulls new files from the landing folder into the warehouse, in one transaction.",
    )


hmamba_ingest()
