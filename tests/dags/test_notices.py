"""Notifications: real notifiers of Airflow's providers, with a local server in the place of the service."""

from __future__ import annotations

import json
from datetime import UTC, datetime, time, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from tests.dags import conftest  # noqa: F401 - makes the DAGs' modules importable
from tests.dags.real import web_service


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pager:ops", "'pager' is not one of apprise, slack, smtp"),
        ("apprise,smtp", "'smtp' needs an address"),
        ("[1]", "not a JSON list"),
        ('[{"to": "x"}]', "not a JSON list of objects with the key 'notifier'"),
    ],
)
def test_a_wrong_setting_is_refused_when_the_dags_are_read(
    text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hmamba_notices import notifiers

    monkeypatch.setenv("HMAMBA_NOTIFY", text)
    with pytest.raises(ValueError, match=said):
        notifiers()


def test_there_may_be_several_and_each_may_have_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    from hmamba_notices import notifiers

    assert notifiers() == []
    monkeypatch.setenv("HMAMBA_NOTIFY", "apprise, smtp:ops@example.org,slack:night")
    apprise, smtp, slack = notifiers()
    assert "apprise_conn_id" not in apprise[1]
    assert smtp[1]["to"] == "ops@example.org"
    assert slack[1]["slack_webhook_conn_id"] == "night"


@pytest.mark.parametrize("name", ["apprise", "slack", "smtp"])
def test_known_notifiers_take_their_arguments(name: str) -> None:
    import importlib

    from hmamba_notices import KNOWN

    path, key, arguments = KNOWN[name]
    module, _, notifier = path.rpartition(".")
    pytest.importorskip(module)
    getattr(importlib.import_module(module), notifier)(**arguments, **{key: "someone"})


def failed_run(sentences: dict[str, list[str]]) -> dict[str, Any]:
    """The context of Airflow's callback after a failed run."""

    def xcom_pull(task_ids: Any, key: str = "return_value") -> Any:
        if key == "failure":
            return sentences.get(task_ids[0], [None])
        return {"root": "/srv/shop", "day": "2024-05-31"}

    return {
        "dag": SimpleNamespace(dag_id="hmamba_retrain", task_ids=["turn", "ingest", "score"], get_template_env=None),
        "run_id": "scheduled__x",
        "reason": "task_failure",
        "dag_run": SimpleNamespace(run_after=datetime(2024, 6, 1, 2, tzinfo=UTC)),
        "ti": SimpleNamespace(xcom_pull=xcom_pull, log_url="http://airflow.example/log"),
    }


def test_apprise_sends_what_failed_and_why(metadata_database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import DAG
    from hmamba_notices import tell_failure

    monkeypatch.setenv("HMAMBA_NOTIFY", "apprise:ops")
    context = failed_run({"ingest": ["landing/{{ 1/0 }}.csv: row 3"], "score": ["shard 1", None, "shard 2"]})
    context["dag"] = DAG("hmamba_retrain", schedule=None)
    context["dag"].task_dict.update(dict.fromkeys(("turn", "ingest", "score")))
    with web_service() as (connection, messages):
        monkeypatch.setenv("AIRFLOW_CONN_OPS", connection)
        tell_failure(context)
    (message,) = messages
    assert message["title"] == "hmamba_retrain failed: day 2024-05-31 of /srv/shop"
    assert message["type"] == "failure"
    assert message["message"].splitlines() == [
        "ingest: landing/{{ 1/0 }}.csv: row 3",
        "score: shard 1",
        "score: shard 2",
        "Run: scheduled__x",
        "Reason: task_failure",
        "Log: http://airflow.example/log",
    ]


class Keeps:
    """A notifier of a user's own, named by its path."""

    said: ClassVar[list[str]] = []

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, context: dict[str, Any]) -> None:
        self.said.append(self.text.replace("{{ hmamba_title }}", context["hmamba_title"]))


def test_a_notifier_that_fails_does_not_silence_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from hmamba_notices import tell_failure

    own = {"notifier": f"{Keeps.__module__}.Keeps", "text": "{{ hmamba_title }}"}
    monkeypatch.setenv("HMAMBA_NOTIFY", json.dumps([{"notifier": "no.such.Notifier"}, own]))
    monkeypatch.setattr(Keeps, "said", [])
    tell_failure(failed_run({}))
    assert Keeps.said == ["hmamba_retrain failed: day 2024-05-31 of /srv/shop"]


@pytest.mark.parametrize(("kind", "messages"), [("scheduled", 1), ("backfill", 0), ("manual", 0)])
def test_only_a_scheduled_night_is_late(kind: str, messages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from hmamba_notices import tell_late

    own = {"notifier": f"{Keeps.__module__}.Keeps", "text": "{{ hmamba_title }}"}
    monkeypatch.setenv("HMAMBA_NOTIFY", json.dumps([own]))
    monkeypatch.setattr(Keeps, "said", [])
    run = {"dag_id": "hmamba_retrain", "dag_run_id": "r", "state": "running", "run_type": kind}
    tell_late({"dag_run": run, "deadline": {"deadline_time": "2024-06-01 06:00:00+00:00"}})
    assert Keeps.said == ["hmamba_retrain is late: no candidates at 2024-06-01 06:00:00+00:00"] * messages


@pytest.mark.parametrize(("text", "hours"), [("06:00", 28), ("02:30", 24.5), ("02:00", 24), ("01:00", 47), ("", None)])
def test_the_deadline_follows_the_time_at_which_the_night_is_due(
    text: str, hours: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hmamba_notices import deadline, tell_late

    monkeypatch.setenv("HMAMBA_DEADLINE", text)
    alert = deadline(time(2), tell_late)
    assert (alert and alert.interval) == (None if hours is None else timedelta(hours=hours))


@pytest.mark.parametrize("text", ["six", "6", "06:00+02:00", "24:00"])
def test_a_wrong_deadline_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from hmamba_notices import deadline, tell_late

    monkeypatch.setenv("HMAMBA_DEADLINE", text)
    with pytest.raises(ValueError, match="is not a time in UTC such as 06:00"):
        deadline(time(2), tell_late)
