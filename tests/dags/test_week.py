"""A week of nights on a real Airflow: each ends as docs/operations.md says. Run by ``make test-airflow`` (minutes)."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import hmamba
from hmamba.steps import NIGHT
from hmamba.storage.layout import Layout
from tests.dags.conftest import DAGS, SMALL
from tests.dags.real import Airflow, web_service
from tests.jobs.commands.call import call
from tests.servers import postgres, until
from tests.synthetic import make_interactions, write_landing

pytestmark = [pytest.mark.week, pytest.mark.airflow, pytest.mark.timeout(1500)]

NIGHT_SECONDS = 240
"""A night takes about 60 s; the machine may be busy."""

MORE = """
[rank]
model = "none"

[quality]
max_staleness_days = 1.0

[keep]
runs = 1
"""

QUICKER = {
    "hmamba_steps.py": [
        ('"catchup": False', '"catchup": True'),
        ("datetime(2024, 1, 1, tzinfo=UTC)", "datetime.fromisoformat(os.environ['WEEK_STARTS'])"),
        ('"retry_delay": timedelta(minutes=5)', '"retry_delay": timedelta(seconds=5)'),
    ],
    "hmamba_retrain.py": [("poke_interval=60", "poke_interval=20")],
}
"""Edits of the DAG files: past nights are scheduled one after another, and nothing waits for minutes."""


class Week:
    """The days of the week, the feed, and the notifications."""

    def __init__(self, layout: Layout, messages: list[dict[str, Any]]) -> None:
        self.layout, self.messages = layout, messages
        self.today = datetime.now(UTC).date()
        self.events = make_interactions(days=30, start=self.today - timedelta(days=30))

    def day(self, back: int) -> date:
        return self.today - timedelta(days=back)

    def deliver(self, back: int, first: int | None = None) -> None:
        """Put the events of the day so many days ago, or from ``first`` to it, into the landing folder."""
        start, end = pd.Timestamp(self.day(first or back)), pd.Timestamp(self.day(back - 1))
        when = self.events["event_time"]
        write_landing(self.layout.root, self.events[(when >= start) & (when < end)], f"{self.day(back)}.parquet")

    @property
    def published(self) -> Any:
        return json.loads(self.layout.latest.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    with web_service() as service:
        yield service


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory, service: tuple[str, list[dict[str, Any]]]) -> Week:
    layout = Layout.at(tmp_path_factory.mktemp("week") / "shop")
    layout.root.mkdir()
    layout.config.write_text(SMALL.format(epochs=2) + MORE, encoding="utf-8")
    return Week(layout, service[1])


@pytest.fixture(scope="module")
def airflow(
    week: Week, service: tuple[str, list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Airflow]:
    home = tmp_path_factory.mktemp("home")
    folder = home / "dags" / "teams" / "shop"
    shutil.copytree(DAGS, folder)
    for name, edits in QUICKER.items():
        text = (folder / name).read_text(encoding="utf-8")
        for old, new in edits:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        (folder / name).write_text(text, encoding="utf-8")
    settings = {
        "AIRFLOW_CONN_OPS": service[0],
        "HMAMBA_DEADLINE": "02:00",  # past for every night of the week
        "HMAMBA_NOTIFY": "apprise:ops",
        "HMAMBA_RETRIES": "2",
        "HMAMBA_ROOT": str(week.layout.root),
        "WEEK_STARTS": f"{week.day(4)}T00:00:00+00:00",
    }
    with postgres() as url:
        database = url.replace("postgresql:", "postgresql+psycopg2:")
        with Airflow(home, home / "dags", database, settings).up(folder / "pools.json") as running:
            yield running


def scheduled(airflow: Airflow, number: int) -> str:
    """Run id of the scheduled night so many after the first, waiting until it exists."""
    found: list[str] = []

    def exists() -> bool:
        found[:] = [run_id for run_id, run in airflow.runs().items() if run["run_type"] == "scheduled"]
        return len(found) > number

    until(f"scheduled night {number}", exists, NIGHT_SECONDS, airflow.home / "scheduler.log")
    return found[number]


def ended(airflow: Airflow, run_id: str, nights: int = 1) -> str:
    """State of a run, waiting until it has ended."""
    log = airflow.home / "scheduler.log"
    until(
        f"the end of {run_id}: {airflow.states(run_id)}",
        lambda: airflow.runs()[run_id]["state"] in ("success", "failed"),
        NIGHT_SECONDS * nights,
        log,
    )
    return str(airflow.runs()[run_id]["state"])


def running_step(airflow: Airflow, run_id: str, task: str) -> int:
    """Process id of the step that a task runs, waiting until there is one."""
    found: list[int] = []

    def runs() -> bool:
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().split(b"\0")
            except OSError:
                continue
            if f"jobs.{task}".encode() in words and str(airflow.environment["HMAMBA_ROOT"]).encode() in words:
                found.append(int(entry.parent.name))
                return True
        return False

    until(f"{task} of {run_id}", runs, NIGHT_SECONDS, airflow.home / "scheduler.log")
    return found[0]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_1_a_scheduled_night(airflow: Airflow, week: Week) -> None:
    week.deliver(5, first=30)
    for back in (4, 3, 1):
        week.deliver(back)
    until("the DAGs", lambda: len(airflow.api("GET", "dags")["dags"]) == 3, 120, airflow.home / "dag-processor.log")
    airflow.command("dags", "unpause", "hmamba_retrain")
    run_id = scheduled(airflow, 0)
    assert ended(airflow, run_id) == "success", (airflow.states(run_id), airflow.errors(run_id))
    assert airflow.states(run_id)["report_failed_night"] == {"skipped"}
    assert week.published["day"] == week.day(4).isoformat()
    assert week.layout.report(week.day(4)).is_file()


def test_2_a_scheduler_that_is_killed(airflow: Airflow, week: Week) -> None:
    """The first try of a step outlives the scheduler, held still, until the next scheduler starts a second one."""
    from hmamba_runs import folder_name

    run_id = scheduled(airflow, 1)
    first = running_step(airflow, run_id, "train")
    lock = week.layout.run(week.day(3), folder_name(run_id)).folder / ".lock"
    until("its lock", lambda: f'"process": {first},' in lock.read_text(), 60)
    os.kill(first, signal.SIGSTOP)
    airflow.kill("scheduler")
    assert alive(first)
    airflow.start("scheduler")
    until("the end of the first try", lambda: not alive(first), NIGHT_SECONDS, airflow.home / "scheduler.log")
    assert ended(airflow, run_id, nights=2) == "success", (airflow.states(run_id), airflow.errors(run_id))
    (train,) = [task for task in airflow.tasks(run_id) if task["task_id"] == "train"]
    assert train["try_number"] == 2
    assert week.published["day"] == week.day(3).isoformat()


def test_3_a_dead_feed(airflow: Airflow, week: Week) -> None:
    run_id = scheduled(airflow, 2)
    assert ended(airflow, run_id) == "failed"
    states = airflow.states(run_id)
    assert states["ingest"] == {"failed"}
    assert states["report_failed_night"] == {"success"}
    (ingest,) = [task for task in airflow.tasks(run_id) if task["task_id"] == "ingest"]
    assert ingest["try_number"] == 1, "a broken rule is not retried"
    assert week.published["day"] == week.day(3).isoformat()
    until("a notification", lambda: any("failed" in message["title"] for message in week.messages), 60)
    failed = [message for message in week.messages if "failed" in message["title"]]
    assert [message["title"] for message in failed] == [
        f"hmamba_retrain failed: day {week.day(2)} of {week.layout.root}"
    ]
    assert failed[0]["message"].startswith("ingest: ingest ended with status 3.")


def test_4_a_stop_within_the_grace_period(airflow: Airflow, week: Week) -> None:
    """The step is stopped and its task retried, after a restart; the feed is back."""
    run_id = scheduled(airflow, 3)
    step = running_step(airflow, run_id, "train")
    started = time.monotonic()
    airflow.stop("scheduler", 60)
    assert not alive(step)
    print(f"stopped in {time.monotonic() - started:.1f} s")
    airflow.start("scheduler")
    assert ended(airflow, run_id, nights=2) == "success", (airflow.states(run_id), airflow.errors(run_id))
    assert week.published["day"] == week.day(1).isoformat()


def test_5_each_scheduled_night_was_late(airflow: Airflow, week: Week) -> None:
    until("4 messages", lambda: len({m["title"] for m in week.messages if "is late" in m["title"]}) == 4, 60)


def test_6_a_backfill_and_a_run_by_hand_take_turns(airflow: Airflow, week: Week) -> None:
    """Without --max-active-runs all three days are active at once; a fourth run is triggered meanwhile."""
    week.deliver(2)
    airflow.command(
        *("backfill", "create", "--dag-id", "hmamba_retrain", "--reprocess-behavior", "completed"),
        *("--from-date", week.day(4).isoformat(), "--to-date", week.day(1).isoformat()),
    )
    made = airflow.api(
        "POST",
        "dags/hmamba_retrain/dagRuns",
        {"logical_date": datetime.now(UTC).isoformat(), "conf": {"root": ""}},
    )
    backfilled = [run_id for run_id, run in airflow.runs().items() if run["run_type"] == "backfill"]
    assert len(backfilled) == 3
    for run_id in (*backfilled, made["dag_run_id"]):
        assert ended(airflow, run_id, nights=4) == "success", (airflow.states(run_id), airflow.errors(run_id))

    spans = sorted(span(airflow, run_id) for run_id in (*backfilled, made["dag_run_id"]))
    for (_, end, _), (start, _, _) in itertools.pairwise(spans):
        assert end <= start, spans
    days = [day for _, _, day in spans]
    backfill_days = [day for day in days if day != week.day(1).isoformat()]
    assert backfill_days == [week.day(back).isoformat() for back in (4, 3, 2)]
    assert sorted(days)[-1] == week.day(1).isoformat()
    assert week.published["day"] == week.day(1).isoformat()
    assert [day for day, _ in week.layout.run_days][-1] == week.day(1)


def span(airflow: Airflow, run_id: str) -> tuple[str, str, str]:
    """When the first step of a run began and its last one ended, each in its last try, and the run's day."""
    steps = [task for task in airflow.tasks(run_id) if task["task_id"] in NIGHT]
    day = next(task["rendered_fields"]["day"] for task in steps if task["task_id"] == "ingest")
    return min(task["start_date"] for task in steps), max(task["end_date"] for task in steps), day


def users(week: Week) -> set[str]:
    """Users of the table that readers have."""
    parts = [week.layout.root / file["path"] for file in week.published["files"]]
    return set(pd.concat([pd.read_parquet(part) for part in parts]).user_id)


def test_7_a_rollback_and_a_forgotten_user(airflow: Airflow, week: Week) -> None:
    """The next night starts from the champion of the rollback, without the user."""
    from hmamba_runs import folder_name

    root, user = str(week.layout.root), "user-003"
    assert user in users(week)
    assert call("rollback", "--root", root, "--to", week.day(2).isoformat()) == 0
    assert week.published["day"] == week.day(2).isoformat()
    champion = json.loads(week.layout.champion.read_text(encoding="utf-8"))["version"]
    assert call("forget", user, "--root", root) == 0
    assert week.published["day"] == week.day(2).isoformat()
    assert user not in users(week)
    made = airflow.api(
        "POST", "dags/hmamba_retrain/dagRuns", {"logical_date": None, "conf": {"day": week.day(1).isoformat()}}
    )
    run_id = made["dag_run_id"]
    assert ended(airflow, run_id) == "success", (airflow.states(run_id), airflow.errors(run_id))
    assert week.published["day"] == week.day(1).isoformat()
    assert user not in users(week)
    night = next(one for one in hmamba.open(root).history() if one.run_id == folder_name(run_id))
    assert json.loads(week.layout.run(night.day, night.run_id).verdict.read_text())["champion"] == champion


def test_8_a_wrong_run_is_refused_before_anything_is_made(airflow: Airflow, week: Week, tmp_path: Path) -> None:
    wrong = [{"dya": "2024-05-31"}, {"root": str(tmp_path)}, {"root": "/nowhere/shop"}]
    before = sorted(week.layout.runs.iterdir())
    for conf in wrong:
        airflow.command("dags", "trigger", "hmamba_retrain", "--conf", json.dumps(conf))
    made = [run_id for run_id, run in airflow.runs().items() if run["run_type"] == "manual"][-len(wrong) :]
    for run_id in made:
        assert ended(airflow, run_id) == "failed"
        assert airflow.states(run_id)["turn"] == {"failed"}
    assert sorted(week.layout.runs.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


def test_9_upkeep_keeps_the_nights(airflow: Airflow, week: Week) -> None:
    airflow.command("db", "clean", "--clean-before-timestamp", "2020-01-01", "--skip-archive", "--yes")
    assert week.published["day"] == week.day(1).isoformat()
