"""How a step ends, and what it says: exit statuses, the exceptions that end its task, and the lines of its log."""

from __future__ import annotations

import errno
import logging
import re
from typing import IO

FINAL = {
    2: "A setting or a file is wrong: fix it, then clear this task.",
    3: "The data or the candidates broke a rule: see the Data Docs, then clear this task.",
}
"""Exit statuses that a retry cannot change: the task fails at once. All others (1, or a signal such as the kernel's
when memory runs out) are retried."""

TIMED_OUT = 124
"""Exit status of a step that ran longer than its task's ``execution_timeout``, as of timeout(1)."""

_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)", re.DOTALL)
_TRACEBACK = "Traceback (most recent call last):"


class StepFailed(SystemExit):
    """A step failed. Airflow logs its exit status; for any other exception it would log a traceback of this file.

    The sentence of the step, which is the last line of its log, is the text of the exception, for notifications.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(status)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


class StepFailedForGood(StepFailed):
    """A step failed with a status of ``FINAL``."""


def of_the_system(error: OSError) -> tuple[int, str]:
    """Exit status and sentence for an error of the operating system outside of a step."""
    place = error.filename or "a file"
    if isinstance(error, FileNotFoundError | PermissionError) or error.errno == errno.EROFS:
        return 2, f"{place}: {error.strerror}. Correct the path or its permissions, then clear this task."
    return 1, f"{place}: {error.strerror or error}. A retry may succeed."


def level_and_text(line: str, before: int) -> tuple[int, str]:
    """Level and text of a line of a step's log, without its time, which Airflow adds.

    A line without a level, such as one of a traceback or of a library in C, has the level of the line before if that
    was an error, which a traceback is; otherwise it is information.
    """
    found = _LINE.fullmatch(line)
    if found:
        return logging.getLevelNamesMapping()[found[1]], found[2]
    is_error = line == _TRACEBACK or before >= logging.ERROR
    return logging.ERROR if is_error else logging.INFO, line


def last_line(stream: IO[bytes]) -> str:
    """The last line of a stream that is not blank; "" if there is none."""
    stream.seek(0)
    lines = stream.read().decode(errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "")
