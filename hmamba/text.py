"""Text formatting, and cleaning of text from data: escape sequences and bidirectional overrides are replaced."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LONGEST = 100
_SPACES = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_METRICS = re.compile(r"\b(hr|ndcg|mrr)@")
_TINY = 0.001  # of a metric; relative to a smaller value, noise is hundreds of percent
_LARGEST = 3.0  # relative difference that is still shown as a percentage


def printable(text: str) -> str:
    """``text`` on one line, with control and bidirectional-override characters replaced by U+FFFD."""
    return _CONTROLS.sub("\ufffd", _SPACES.sub(" ", text))


def escaped(text: str) -> str:
    """``text`` on one line, with control, bidirectional-override and unencodable characters as backslash escapes."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def for_log(text: str) -> str:
    """A message for a log or a terminal: lines after the first are indented, so that none passes for another message.

    All characters of a line are as in :func:`escaped`.
    """
    return "\n    ".join(escaped(line) for line in text.split("\n"))


class LogFormatter(logging.Formatter):
    """Format log records with :func:`for_log`, because messages quote names and values from data."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        """The line of a record, without its traceback."""
        return for_log(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """The traceback of a record."""
        return for_log(super().formatException(ei))


def log_handler() -> logging.Handler:
    """A handler that writes to standard error with :class:`LogFormatter`: time, level and message."""
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter("%(asctime)s %(levelname)s %(message)s"))
    return handler


def short(text: str, longest: int = LONGEST) -> str:
    """``text`` cut to ``longest`` characters, the last of them an ellipsis."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def listed(names: Sequence[str], most: int = 20) -> str:
    """The first ``most`` names from data in quotes, printable and cut, and the number of the others."""
    shown = ", ".join(repr(short(printable(name))) for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def counted(number: int, thing: str) -> str:
    """``counted(1, "row")`` is "1 row", ``counted(1200, "row")`` is "1,200 rows"."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def signed(value: float) -> str:
    """A difference with its sign and four decimals; six where four would be zeros, and no sign on 0."""
    text = f"{value:+.4f}" if abs(value) >= 0.00005 else f"{value:+.6f}"
    return "0.0000" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def relative(value: float, reference: float) -> str:
    """Relative difference of ``value`` from ``reference``, such as "+3.1 %".

    Empty where a percentage misleads: the reference is tiny, or the difference is more than three times the reference.
    """
    return "" if reference < _TINY else percent(value / reference - 1)


def percent(share: float) -> str:
    """A relative difference with its sign, such as "+3.1 %"; no sign on 0, and empty above 300 %."""
    if abs(share) > _LARGEST:
        return ""
    text = f"{share * 100:+.1f}"
    text = "0.0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
    return f"{text}\N{NO-BREAK SPACE}%"


def near(path: Path) -> str:
    """A path relative to the working folder if it is inside it, absolute otherwise."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def metric_name(key: str) -> str:
    """A metric's key as the page writes it: NDCG@10, but recall@10 and coverage@10."""
    return key if key.startswith(("recall", "coverage")) else key.upper()


def sentence(text: str) -> str:
    """``text`` as a sentence, with metric names in capitals; empty for empty text."""
    text = _METRICS.sub(lambda match: match[0].upper(), text).strip()
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
