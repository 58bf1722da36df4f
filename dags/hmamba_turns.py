"""Turns: one run at a time on a root, the earliest day first.

``max_active_runs=1`` does not do this: a backfill has a limit of its own, and its runs would all pull first, then all
write their snapshots, and so on. ``depends_on_past`` compares logical dates, which runs by hand do not have, does not
know roots, and stops all later nights after a failed one. A pool limits tasks, not runs.

A run asks for the turn with a file in ``ROOT/.turns/``, which says whether it has the turn. A file counts only while
its DAG run is running, according to Airflow. So nothing has to be released, and a run that was killed, failed or
deleted holds nobody up.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hmamba_runs import folder_name

FOLDER = ".turns"
_TRIES, _PAUSE_SECONDS = 40, 0.25


@dataclass(frozen=True)
class Claim:
    """A run that asks for the turn, or has it.

    Attributes:
        dag_id, run_id: the DAG run.
        day: the day that it processes, such as "2024-05-31".
        due: when it was due, in UTC, ISO format; decides between runs of the same day.
        has_turn: whether it is this run's turn.
    """

    dag_id: str
    run_id: str
    day: str
    due: str
    has_turn: bool = False

    @property
    def order(self) -> tuple[str, str, str, str]:
        """Runs take turns in this order."""
        return self.day, self.due, self.dag_id, self.run_id

    @property
    def file(self) -> str:
        """Name of the claim's file. The day is its first part: ``publish`` keeps the working folders of that day."""
        return f"{self.day}.{folder_name(f'{self.dag_id}.{self.run_id}')}.json"

    def __str__(self) -> str:
        return f"{self.run_id} of {self.dag_id}, which processes {self.day}"


class TurnsBusyError(Exception):
    """Other processes keep changing the claims."""


@dataclass(frozen=True)
class Turns:
    """The claims of one root.

    Attributes:
        root: the root's folder, which exists.
        is_running: tells whether a DAG run, by DAG id and run id, is running.
    """

    root: Path
    is_running: Callable[[str, str], bool]

    def ask(self, own: Claim, before: Callable[[], tuple[str, str] | None]) -> Claim | None:
        """Claim a turn, and take it if nobody is before this run.

        Args:
            own: the claim.
            before: the newest DAG run (DAG id, run id) that is running, has an earlier logical date and processes this
                root; None if there is none. Until it has made its own claim, it is waited for: the first tasks of a
                backfill start in any order.

        Returns:
            None if it is this run's turn, or else the claim of the run to wait for.

        Raises:
            TurnsBusyError: other processes keep changing the claims; ask again.
        """
        with self._locked():
            others = self._others(own)
            waiting_for = next((other for other in others if other.has_turn), None)
            if waiting_for is None:
                waiting_for = next((other for other in others if other.order < own.order), None)
            if waiting_for is None and (earlier := before()) is not None:
                known = {(other.dag_id, other.run_id) for other in others}
                waiting_for = None if earlier in known else Claim(*earlier, day="an earlier day", due="")
            self._write(replace(own, has_turn=waiting_for is None))
            return waiting_for

    def hold(self, own: Claim) -> Claim | None:
        """Check that it is still this run's turn, and take it if it is nobody's: a task of an old run was cleared.

        Returns:
            None, or the claim of the run that has the turn.

        Raises:
            TurnsBusyError: other processes keep changing the claims; ask again.
        """
        with self._locked():
            holder = next((other for other in self._others(own) if other.has_turn), None)
            if holder is None:
                self._write(replace(own, has_turn=True))
            return holder

    @property
    def _folder(self) -> Path:
        return self.root / FOLDER

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclude other processes, which are waited for during a few seconds."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            for _ in range(_TRIES):
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(_PAUSE_SECONDS)
            else:
                raise TurnsBusyError(f"{self._folder}: other processes keep changing who has the turn.")
            yield
        finally:
            os.close(lock)

    def _others(self, own: Claim) -> list[Claim]:
        """The claims of other running runs, in order. Files of runs that are not running are deleted."""
        found = []
        for path in self._folder.glob("*.json"):
            claim = _read(path)
            if claim is None or not (path.name == own.file or self.is_running(claim.dag_id, claim.run_id)):
                path.unlink(missing_ok=True)
            elif path.name != own.file:
                found.append(claim)
        return sorted(found, key=lambda claim: claim.order)

    def _write(self, claim: Claim) -> None:
        temporary = self._folder / f"{claim.file}.new"
        temporary.write_text(json.dumps(asdict(claim)), encoding="utf-8")
        temporary.replace(self._folder / claim.file)


def _read(path: Path) -> Claim | None:
    """A claim; None if the file is damaged."""
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        claim = Claim(**values)
    except (OSError, ValueError, TypeError):
        return None
    texts = (claim.dag_id, claim.run_id, claim.day, claim.due)
    return claim if all(isinstance(text, str) for text in texts) and isinstance(claim.has_turn, bool) else None
