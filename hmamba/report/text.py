"""Text that came from data, made safe: on a terminal an escape sequence acts, on a page an override misleads."""

from __future__ import annotations

import re

LONGEST = 100
_SPACES = re.compile(r"[\t\n\v\f\r\x85\u2028\u2029]+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def printable(text: str) -> str:
    """``text`` on one line, its control and bidirectional-override characters replaced by U+FFFD."""
    return _CONTROLS.sub("\ufffd", _SPACES.sub(" ", text))


def short(text: str, longest: int = LONGEST) -> str:
    """``text`` cut to ``longest`` characters, the last of them an ellipsis."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
