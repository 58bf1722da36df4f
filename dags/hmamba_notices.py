"""Notifications of failed and late runs, by the notifiers of Airflow's providers that ``HMAMBA_NOTIFY`` names.

The variable is a list separated by commas, or a JSON list for any notifier class and its arguments, which may use the
templates ``{{ hmamba_title }}`` and ``{{ hmamba_text }}``::

    HMAMBA_NOTIFY=apprise:ops,smtp:ops@example.org,slack
    HMAMBA_NOTIFY='[{"notifier": "package.module.Notifier", "text": "{{ hmamba_text }}"}]'

One message per failed run: Airflow calls a DAG's callback once, in the DAG processor.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any

from airflow.sdk import DeadlineAlert, DeadlineReference, SyncCallback

log = logging.getLogger(__name__)

FAILURE = "failure"
"""Key of the XCom that holds the sentence of a failed task."""

TITLE, TEXT = "{{ hmamba_title }}", "{{ hmamba_text }}"

KNOWN: dict[str, tuple[str, str, dict[str, str]]] = {
    "apprise": (
        "airflow.providers.apprise.notifications.apprise.AppriseNotifier",
        "apprise_conn_id",
        {"title": TITLE, "body": TEXT, "notify_type": "failure"},
    ),
    "slack": (
        "airflow.providers.slack.notifications.slack_webhook.SlackWebhookNotifier",
        "slack_webhook_conn_id",
        {"text": f"{TITLE}\n{TEXT}"},
    ),
    "smtp": (
        "airflow.providers.smtp.notifications.smtp.SmtpNotifier",
        "to",
        {"subject": TITLE, "html_content": "<pre>{{ hmamba_text | e }}</pre>"},
    ),
}
"""Class, name of the argument after the colon, and other arguments, of each notifier that has a short name."""


def notifiers() -> list[tuple[str, dict[str, Any]]]:
    """The class and arguments of each notifier of ``HMAMBA_NOTIFY``. No provider is imported.

    Raises:
        ValueError: the variable is wrong.
    """
    text = os.environ.get("HMAMBA_NOTIFY", "").strip()
    if text.startswith("["):
        try:
            return [(entry.pop("notifier"), entry) for entry in json.loads(text)]
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ValueError(f"HMAMBA_NOTIFY: {text} is not a JSON list of objects with the key 'notifier'.") from None
    found = []
    for name, _, argument in (entry.strip().partition(":") for entry in text.split(",") if entry.strip()):
        if name not in KNOWN:
            raise ValueError(f"HMAMBA_NOTIFY: '{name}' is not one of {', '.join(KNOWN)}. Name others in a JSON list.")
        path, key, arguments = KNOWN[name]
        if name == "smtp" and not argument:
            raise ValueError("HMAMBA_NOTIFY: 'smtp' needs an address, such as smtp:ops@example.org.")
        found.append((path, arguments | ({key: argument} if argument else {})))
    return found


def deadline(due: time, callback: Callable[..., None]) -> DeadlineAlert | None:
    """The alert of a nightly DAG whose run has not succeeded by ``HMAMBA_DEADLINE`` (UTC, such as 06:00).

    Without the variable there is none: with one, ``airflow dags test`` of Airflow 3.3.2 ends with a traceback after a
    night that succeeded (apache/airflow#73428).

    Args:
        due: when a run is due. Its logical date is a day earlier.
        callback: called with the context of the missed deadline; a function of the DAG file, which Airflow finds.

    Raises:
        ValueError: the variable is wrong.
    """
    text = os.environ.get("HMAMBA_DEADLINE", "").strip()
    if not text:
        return None
    try:
        latest = datetime.strptime(text, "%H:%M").time()
    except ValueError:
        raise ValueError(f"HMAMBA_DEADLINE: '{text}' is not a time in UTC such as 06:00.") from None
    wait = timedelta(hours=latest.hour - due.hour, minutes=latest.minute - due.minute) % timedelta(days=1)
    return DeadlineAlert(
        reference=DeadlineReference.DAGRUN_LOGICAL_DATE,
        interval=timedelta(days=1) + wait,
        callback=SyncCallback(callback),
        name=f"candidates by {latest:%H:%M} UTC",
    )


def tell_failure(context: Mapping[str, Any]) -> None:
    """Notify of a failed run. Airflow's callback of a DAG."""
    run = context.get("dag_run")
    task_instance = context.get("ti")
    title = f"{context['dag'].dag_id} failed"
    lines = [f"Run: {context['run_id']}", f"Reason: {context.get('reason')}"]
    if task_instance is not None:
        steps = list(context["dag"].task_ids)
        failed = {step: task_instance.xcom_pull(task_ids=[step], key=FAILURE) for step in steps}
        sentences = [f"{step}: {sentence}" for step, found in failed.items() for sentence in found if sentence]
        lines = [*sentences[:_MOST_SENTENCES], *lines, f"Log: {task_instance.log_url}"]
        turn = task_instance.xcom_pull(task_ids="turn")
        if turn:
            title += f": day {turn['day']} of {turn['root']}"
    elif run is not None:
        lines.append(f"Due: {run.run_after}")
    _tell(title, lines, context)


def tell_late(context: Mapping[str, Any]) -> None:
    """Notify of a night that has not succeeded in time. Runs by hand and backfills of old days have no deadline."""
    run = context["dag_run"]
    if run["run_type"] != "scheduled":
        return
    lines = [
        f"Run: {run['dag_run_id']}, state {run['state']}",
        "Readers still have the table of an earlier night.",
    ]
    _tell(f"{run['dag_id']} is late: no candidates at {context['deadline']['deadline_time']}", lines, context)


_MOST_SENTENCES = 10


def _tell(title: str, lines: Sequence[str], context: Mapping[str, Any]) -> None:
    """Call all notifiers, also after one that fails."""
    log.error("%s\n%s", title, "\n".join(lines))
    for path, arguments in notifiers():
        try:
            module, _, name = path.rpartition(".")
            # The message is a value of the context, not a template: a file's name may contain braces.
            words = {"hmamba_title": title, "hmamba_text": "\n".join(lines)}
            getattr(importlib.import_module(module), name)(**arguments)({**context, **words})
        except Exception:
            log.exception("HMAMBA_NOTIFY: %s failed", path)
