"""Servers that tests start for themselves: PostgreSQL and Redis, from Debian's packages."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_USER = "hmamba"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(what: str, true: Callable[[], bool], seconds: float, log: Path | None = None, pause: float = 0.5) -> None:
    """Wait until ``true`` returns true."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            end = "" if log is None else "\n" + "\n".join(log.read_text(errors="replace").splitlines()[-40:])
            raise AssertionError(f"Not within {seconds:.0f} s: {what}{end}")
        time.sleep(pause)


def _lacking(package: str) -> None:
    """Fail where the tests must run everywhere (CI), and skip elsewhere."""
    told = f"{package} is not installed: apt-get install {package}"
    if os.environ.get("HMAMBA_NEEDS_SERVERS"):
        pytest.fail(told)
    pytest.skip(told)


def postgres_programs() -> Path | None:
    """The folder of PostgreSQL's programs; None if it is not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian's, which are not in PATH
    if not folders and (found := shutil.which("initdb")):
        folders = [Path(found).resolve().parent]
    return folders[-1] if folders else None


@contextlib.contextmanager
def postgres(password: str | None = None) -> Iterator[str]:
    """Run a PostgreSQL server of its own on loopback; yields the URL of an empty database.

    Args:
        password: what its user must give; None to trust everybody.
    """
    programs, port = postgres_programs(), free_port()
    if programs is None:
        _lacking("postgresql")
    assert programs is not None
    # It refuses to run as root. Its folder must then be one that its user can reach.
    account = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="hmamba-postgres-"))
    try:
        if account:
            shutil.chown(folder, **account)
        data, secret = str(folder / "data"), folder / "password"
        initdb = [str(programs / "initdb"), "--pgdata", data, "--username", _USER, "--no-sync", "--encoding", "UTF8"]
        if password is None:
            initdb += ["--auth", "trust"]
        else:
            secret.write_text(password)
            secret.chmod(0o644)
            initdb += ["--auth", "scram-sha-256", "--pwfile", str(secret)]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **account)  # type: ignore[call-overload]
        server = [str(programs / "postgres"), "-D", data, "-p", str(port), "-k", str(folder), "-F"]
        log = folder / "server.log"
        with (
            log.open("w") as stream,
            subprocess.Popen(server, stdout=stream, stderr=stream, cwd="/", **account) as process,  # type: ignore[call-overload]
        ):
            try:
                ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
                until("PostgreSQL", lambda: subprocess.run(ready, check=False).returncode == 0, 60, log)
                secret_part = "" if password is None else f":{password}"
                yield f"postgresql://{_USER}{secret_part}@127.0.0.1:{port}/postgres"
            finally:
                process.send_signal(signal.SIGINT)  # a fast shutdown
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def redis_server(password: str = "") -> Iterator[str]:
    """Run a Redis or Valkey server of its own on loopback, without files; yields its URL."""
    program, port = shutil.which("redis-server") or shutil.which("valkey-server"), free_port()
    if program is None:
        _lacking("redis-server")
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    if password:
        command += ["--requirepass", password]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/") as process:
        try:
            until("Redis", lambda: _answers(port), 30, pause=0.05)
            yield f"redis://{f':{password}@' if password else ''}127.0.0.1:{port}/0"
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
