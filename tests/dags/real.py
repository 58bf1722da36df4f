"""A real Airflow for tests: PostgreSQL, LocalExecutor, and each service a process of its own."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import secrets
import signal
import socketserver
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from tests.servers import free_port, until

SERVICES = ("api-server", "scheduler", "dag-processor")


@contextlib.contextmanager
def web_service() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A web service that Apprise notifies; yields the value of ``AIRFLOW_CONN_OPS``, and the messages as they come."""
    messages: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = {"path": f"json://127.0.0.1:{server.server_address[1]}", "tag": "all"}
        yield json.dumps({"conn_type": "apprise", "extra": {"config": place}}), messages
        server.shutdown()


class Airflow:
    """Airflow's services on one machine. Each is the leader of a process group, as of a container."""

    def __init__(self, home: Path, dags: Path, database: str, more: dict[str, str]) -> None:
        self.home, self.database, self.port = home, database, free_port()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "HMAMBA_"))}
        self.environment = {
            **inherited,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{self.port}",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{self.port}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30",
            "NO_COLOR": "1",
            "USER": getpass.getuser(),
            **more,
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: list[subprocess.Popen[bytes]] = []

    def command(self, *arguments: str) -> str:
        """Run one command of Airflow; returns its output."""
        done = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"airflow {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, service: str) -> None:
        with (self.home / f"{service}.log").open("ab") as log:
            self.running[service] = subprocess.Popen(
                [sys.executable, "-m", "airflow", service],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, service: str) -> None:
        """Kill a service without a warning; its child processes go on."""
        process = self.running.pop(service)
        process.kill()
        process.wait()
        self._ended.append(process)

    def stop(self, service: str, seconds: float) -> None:
        """Stop a service and its processes as ``docker stop`` does, with tini's TINI_KILL_PROCESS_GROUP."""
        process = self.running.pop(service)
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(seconds)

    @contextlib.contextmanager
    def up(self, pools: Path) -> Iterator[Airflow]:
        """Run all services."""
        self.command("db", "migrate")
        self.command("pools", "import", str(pools))
        try:
            for service in SERVICES:
                self.start(service)
            until("the API server", self._healthy, 120, self.home / "api-server.log")
            yield self
        finally:
            for process in (*self.running.values(), *self._ended):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _healthy(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.api("GET", "monitor/health"))
        return False

    def api(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call the public REST API."""
        base = f"http://127.0.0.1:{self.port}"
        with urllib.request.urlopen(f"{base}/auth/token", timeout=30) as answer:
            token = json.load(answer)["access_token"]
        request = urllib.request.Request(
            f"{base}/api/v2/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def runs(self) -> dict[str, dict[str, Any]]:
        """All runs of the nightly DAG by run id, in the order in which they were made."""
        found = self.api("GET", "dags/hmamba_retrain/dagRuns?order_by=id&limit=100")["dag_runs"]
        return {run["dag_run_id"]: run for run in found}

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        quoted = urllib.request.quote(run_id)  # type: ignore[attr-defined]
        return list(self.api("GET", f"dags/hmamba_retrain/dagRuns/{quoted}/taskInstances")["task_instances"])

    def states(self, run_id: str) -> dict[str, set[str]]:
        """States of the tasks of a run; a mapped task has one for each shard."""
        found: dict[str, set[str]] = {}
        for task in self.tasks(run_id):
            found.setdefault(task["task_id"], set()).add(str(task["state"]))
        return found

    def errors(self, run_id: str) -> list[str]:
        """The errors in the logs of a run's tasks, for the message of a failed test."""
        logs = (self.home / "logs" / "dag_id=hmamba_retrain" / f"run_id={run_id}").rglob("*.log")
        lines = (line for log in sorted(logs) for line in log.read_text(errors="replace").splitlines())
        return [line[:2000] for line in lines if '"level":"error"' in line or '"level": "error"' in line]
