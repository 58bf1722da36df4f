"""What Airflow reads from the DAG files: edges, pools, retries, timetables, params."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hmamba.steps import NIGHT, REFRESH
from tests.dags.conftest import DAGS, environment

FAILED = "report_failed_night"


def test_all_dags_load_without_errors(dagbag: Any) -> None:
    assert dagbag.import_errors == {}
    assert sorted(dagbag.dags) == ["hmamba_ingest", "hmamba_refresh", "hmamba_retrain"]


def test_edges_of_the_night(dagbag: Any) -> None:
    dag = dagbag.dags["hmamba_retrain"]
    steps = ["turn", *NIGHT]
    expected = {task: {after, FAILED} for task, after in itertools.pairwise(steps)} | {"report": set(), FAILED: set()}
    expected["snapshot"] |= {"shards"}
    expected["shards"] = {"score", FAILED}
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == expected


def test_edges_of_the_hourly_pull(dagbag: Any) -> None:
    dag = dagbag.dags["hmamba_ingest"]
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {"ingest": set()}


def test_edges_of_the_refresh(dagbag: Any) -> None:
    dag = dagbag.dags["hmamba_refresh"]
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
        REFRESH[0]: {REFRESH[1]},
        REFRESH[1]: set(),
    }
    assert {task.days_back for task in dag.tasks} == {0}


def test_only_scoring_is_mapped_and_each_shard_is_named(dagbag: Any) -> None:
    tasks = {task.task_id: task for task in dagbag.dags["hmamba_retrain"].tasks}
    assert [name for name, task in tasks.items() if task.is_mapped] == ["score"]
    assert tasks["score"].map_index_template == "shard {{ task.shards }}"
    assert [operator.task_id for operator, _ in tasks["score"].expand_input.iter_references()] == ["shards"]


@pytest.mark.parametrize("count", [1, 2, 1000, 1001, 1025, 4096])
def test_any_number_of_shards_is_mapped_within_airflows_limit(dagbag: Any, count: int) -> None:
    from airflow.configuration import conf

    listed = dagbag.dags["hmamba_retrain"].task_dict["shards"].python_callable({"shards": count})
    assert len(listed) <= conf.getint("core", "max_map_length") == 1024
    ends = [(int(first), int(last or first)) for first, _, last in (text.partition("-") for text in listed)]
    assert [shard for first, last in ends for shard in range(first, last + 1)] == list(range(count))
    if count <= 1000:
        assert listed == [str(shard) for shard in range(count)]


@pytest.mark.parametrize(
    ("dag_id", "pools"),
    [
        (
            "hmamba_retrain",
            {
                "turn": "default_pool",
                "ingest": "hmamba_warehouse",
                "snapshot": "hmamba_warehouse",
                "train": "hmamba_gpu",
                "gate": "hmamba_gpu",
                "index": "hmamba_gpu",
                "shards": "default_pool",
                "score": "hmamba_gpu",
                "publish": "default_pool",
                "report": "default_pool",
                FAILED: "default_pool",
            },
        ),
        ("hmamba_ingest", {"ingest": "hmamba_warehouse"}),
        ("hmamba_refresh", {"ingest": "hmamba_warehouse", "refresh": "hmamba_warehouse"}),
    ],
)
def test_pools(dagbag: Any, dag_id: str, pools: dict[str, str]) -> None:
    assert {task.task_id: task.pool for task in dagbag.dags[dag_id].tasks} == pools


def test_every_pool_is_defined_with_one_slot(dagbag: Any) -> None:
    defined = json.loads((DAGS / "pools.json").read_text(encoding="utf-8"))
    used = {task.pool for dag in dagbag.dags.values() for task in dag.tasks} - {"default_pool"}
    assert {name: pool["slots"] for name, pool in defined.items()} == dict.fromkeys(used, 1)


def test_pools_are_imported_as_written(metadata_database: Any, dagbag: Any) -> None:
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session

    with create_session() as session:
        pools = {pool.pool: pool.slots for pool in session.query(Pool).all()}
    assert {name: pools.get(name) for name in ("hmamba_warehouse", "hmamba_gpu")} == {
        "hmamba_warehouse": 1,
        "hmamba_gpu": 1,
    }


@pytest.mark.parametrize("dag_id", ["hmamba_retrain", "hmamba_ingest", "hmamba_refresh"])
def test_every_task_backs_off_times_out_and_explains_itself(dagbag: Any, dag_id: str) -> None:
    for task in dagbag.dags[dag_id].tasks:
        assert task.retry_exponential_backoff == 2.0, task.task_id
        assert timedelta(0) < task.retry_delay < task.max_retry_delay <= timedelta(hours=1), task.task_id
        assert timedelta(0) < task.execution_timeout <= timedelta(hours=6), task.task_id
        assert task.doc_md, task.task_id
        assert task.owner == "hmamba", task.task_id
        rule = "one_failed" if task.task_id == FAILED else "all_success"
        assert task.trigger_rule == rule, f"{task.task_id} could hide a failure before it"


@pytest.mark.parametrize(("text", "retries"), [("", 2), ("5", 5)])
def test_retries_come_from_the_environment(text: str, retries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import sys

    monkeypatch.setenv("HMAMBA_RETRIES", text)
    monkeypatch.delitem(sys.modules, "hmamba_steps", raising=False)
    assert importlib.import_module("hmamba_steps").COMMON["default_args"]["retries"] == retries


@pytest.mark.parametrize("dag_id", ["hmamba_retrain", "hmamba_ingest", "hmamba_refresh"])
def test_one_run_at_a_time_and_no_catching_up(dagbag: Any, dag_id: str) -> None:
    dag = dagbag.dags[dag_id]
    assert dag.max_active_runs == 1
    assert dag.catchup is False
    assert dag.dagrun_timeout is None or dag.dagrun_timeout < timedelta(days=1)
    assert dag.doc_md
    assert "hmamba" in dag.tags


@pytest.mark.parametrize(
    ("dag_id", "first", "width"),
    [
        ("hmamba_retrain", datetime(2024, 2, 28, 2, tzinfo=UTC), timedelta(days=1)),
        ("hmamba_ingest", datetime(2024, 2, 28, 23, 15, tzinfo=UTC), timedelta(hours=1)),
        ("hmamba_refresh", datetime(2024, 2, 28, 23, 45, tzinfo=UTC), timedelta(hours=1)),
    ],
)
def test_two_intervals_meet_without_a_gap(dagbag: Any, dag_id: str, first: datetime, width: timedelta) -> None:
    from airflow.serialization.encoders import coerce_to_core_timetable
    from airflow.timetables.base import DataInterval, TimeRestriction
    from airflow.timetables.interval import CronDataIntervalTimetable
    from pendulum import instance

    timetable = coerce_to_core_timetable(dagbag.dags[dag_id].timetable)
    assert isinstance(timetable, CronDataIntervalTimetable)
    start = instance(first)
    everything = TimeRestriction(earliest=start, latest=None, catchup=True)
    one = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=everything)
    assert (one.data_interval, one.run_after) == (DataInterval(start, start + width), start + width)
    two = timetable.next_dagrun_info(last_automated_data_interval=one.data_interval, restriction=everything)
    assert two.data_interval == DataInterval(start + width, start + 2 * width)


def test_every_step_of_a_night_needs_the_turn_and_the_wait_for_it_is_bounded(dagbag: Any) -> None:
    dag = dagbag.dags["hmamba_retrain"]
    without = {task.task_id for task in dag.tasks if not getattr(task, "takes_turns", False)}
    assert without == {"turn", "shards", "score"}
    assert "takes_turns" not in dag.task_dict["score"].partial_kwargs  # the default is true
    turn = dag.task_dict["turn"]
    assert (turn.mode, turn.timeout) == ("reschedule", dag.dagrun_timeout.total_seconds())
    assert not any(task.takes_turns for name in ("hmamba_ingest", "hmamba_refresh") for task in dagbag.dags[name].tasks)


def test_only_publishing_emits_the_asset(dagbag: Any) -> None:
    emitted = {
        (task.task_id, asset.name, asset.uri)
        for dag in dagbag.dags.values()
        for task in dag.tasks
        for asset in task.outlets
    }
    assets = [
        ("hmamba_candidates", "hmamba://nightly/candidates"),
        ("hmamba_candidates_by_day", "hmamba://nightly/candidates-by-day"),
    ]
    assert emitted == {(task, *asset) for task in ("publish", "refresh") for asset in assets}


@pytest.mark.parametrize(
    ("param", "good", "bad"),
    [
        ("day", [None, "2017-12-14"], ["yesterday", "2017-13-01", 20171214]),
        ("root", [None, "/srv/shop"], [3]),
        ("config", [None, "films"], [["films"]]),
        ("full_retrain", [True, False], ["yes", None]),
        ("any_day", [True, False], ["yes", None]),
    ],
)
def test_params_explain_and_check_themselves(dagbag: Any, param: str, good: list[Any], bad: list[Any]) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    shown = dagbag.dags["hmamba_retrain"].params.get_param(param)
    assert shown.schema["title"]
    assert shown.schema["description_md"]
    for value in good:
        assert shown.resolve(value) == value
    for value in bad:
        with pytest.raises(ParamValidationError):
            shown.resolve(value)


def test_a_deadline_and_a_notifier_come_from_the_environment(dagbag: Any) -> None:
    assert dagbag.dags["hmamba_retrain"].deadline is None
    program = (
        "import json, hmamba_retrain\n"
        "from airflow.serialization.serialized_objects import DagSerialization\n"
        "from airflow.sdk import DAG\n"
        "dag = hmamba_retrain.hmamba_retrain()\n"
        "data = DagSerialization.to_dict(dag)['dag']\n"
        "print(json.dumps([data['deadline'], data['has_on_failure_callback']], default=str))"
    )
    settings = environment({"HMAMBA_DEADLINE": "06:00", "HMAMBA_NOTIFY": "smtp:ops@example.org"})
    done = subprocess.run([sys.executable, "-c", program], env=settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    alerts, has_failure_callback = json.loads(done.stdout.splitlines()[-1])
    assert "100800" in str(alerts)  # 28 hours in seconds
    assert "hmamba_retrain.candidates_are_late" in str(alerts)
    assert has_failure_callback is True
