"""What a DAG run means: its root, its configuration, its day, its folder. Pure functions, without Airflow.

A param that is empty in the trigger form has its default: ``HMAMBA_ROOT`` and ``HMAMBA_CONFIG`` of the process that
runs the task.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import Any

MOST_TASKS = 1000
"""Most instances of a mapped task. Airflow's limit ``core.max_map_length`` is 1024 by default."""

_RUN_ID_LENGTH = 128
_OF_A_ROOT = ("hmamba.toml", "landing", "warehouse.duckdb")


class RunError(Exception):
    """A param is wrong, or the root is. A retry fails in the same way."""


def root_of(params: Mapping[str, Any]) -> str:
    """The root of a run; "" if there is none."""
    return params.get("root") or os.environ.get("HMAMBA_ROOT") or ""


def config_of(params: Mapping[str, Any]) -> str:
    """The configuration of a run; "" for ``ROOT/hmamba.toml``."""
    return params.get("config") or os.environ.get("HMAMBA_CONFIG") or ""


def day_of(params: Mapping[str, Any], run: Any, days_back: int) -> str:
    """The UTC day of a run, such as "2017-12-14". It does not change when a task is cleared.

    It is the param ``day``, or else the day ``days_back`` days before the run was due: 1 for the last full day at that
    time, 0 for the day in progress. A logical date that a person chose names an earlier day. The trigger form sends
    the present time as the logical date, the command line and the API send none; all three mean the same day.

    Args:
        params: the params of the run.
        run: the DAG run, with ``run_type``, ``run_after`` and ``logical_date``.
        days_back: see above.
    """
    if params.get("day"):
        return date.fromisoformat(params["day"]).isoformat()
    day = run.run_after.astimezone(UTC).date() - timedelta(days=days_back)
    if run.run_type == "manual" and run.logical_date is not None:
        day = min(day, run.logical_date.astimezone(UTC).date())
    return day.isoformat()


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


def ranges(shards: int) -> list[str]:
    """Split the shards of a snapshot into ranges for mapped tasks, one shard each if Airflow allows so many tasks.

    Returns:
        At most ``MOST_TASKS`` ranges such as "7", or "14-15" if there are more shards; together they cover all shards.
    """
    size = max(1, -(-shards // MOST_TASKS))
    pairs = ((first, min(first + size, shards) - 1) for first in range(0, shards, size))
    return [str(first) if first == last else f"{first}-{last}" for first, last in pairs]


def check_conf(conf: Mapping[str, Any] | None, known: Iterable[str]) -> None:
    """Check the keys of a run's conf. Airflow itself accepts any key, so a mistyped ``dya`` would process another day.

    Raises:
        RunError: a key is not a param.
    """
    names = sorted(known)
    for key in sorted(set(conf or ()) - set(names)):
        close = difflib.get_close_matches(key, names, 1)
        hint = f"Did you mean '{close[0]}'?" if close else f"The params are {', '.join(names)}."
        raise RunError(f"The run's conf has the key '{key}', which is not a param. {hint} Trigger a new run.")


def folder_of(root: str) -> Path:
    """The folder of a root, which may be a ``file://`` URI."""
    return Path(root.removeprefix("file://"))


def check_root(root: str, config: str) -> None:
    """Check that a folder is a recommender's root, before anything is written to it.

    Raises:
        RunError: it is not.
    """
    if not root:
        raise RunError("No root: give the param 'root', or set HMAMBA_ROOT for all of Airflow's processes.")
    folder = folder_of(root)
    if not folder.is_absolute():
        raise RunError(f"The root '{root}' is a relative path. Give an absolute path, as the workers see it.")
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist on this worker"
        raise RunError(f"The root {root} {what}. Correct the param 'root', or mount what holds it.")
    inside = {path.name for path in folder.iterdir()}
    if not inside.intersection(_OF_A_ROOT) and (inside or not config):
        raise RunError(
            f"The root {root} holds none of {', '.join(_OF_A_ROOT)}, so it is not a recommender's folder. Correct the "
            f"param 'root', or start one with: hmamba init {root} --from FILES"
        )
