"""The hourly pull of new files into the warehouse, which leaves less work for the night."""

from __future__ import annotations

import sys
from pathlib import Path

from airflow.sdk import CronDataIntervalTimetable, dag

sys.path.append(str(Path(__file__).parent))  # Airflow adds only the bundle's root, and this may be in a subfolder of it

from hmamba_steps import COMMON, common_params, hourly_ingest

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
    **COMMON,
    params=common_params(),
    tags=["hmamba", "recommender", "hourly"],
)
def hmamba_ingest() -> None:
    """Define the task."""
    hourly_ingest()


hmamba_ingest()
