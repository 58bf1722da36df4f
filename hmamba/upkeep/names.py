"""Find and replace the ids of users in texts, such as messages in reports and metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from markupsafe import escape

from hmamba.quality.row_rules import shown
from hmamba.storage.local import digest

SUFFIXES = (".json", ".html", ".md", ".txt")
"""Files that are texts."""

_FORGOTTEN = "(forgotten)"
_CHECKSUM = "checksum"
_MARKUP = re.compile(r"(<style>.*?</style>|<[^>]*>)", re.DOTALL)


class Names:
    """Finds the ids of users in texts.

    A short id or a small number, such as 12, occurs in every text. It is only recognised in quotes, as messages write
    ids; other ids are recognised wherever no letter, digit, dash or underscore touches them. Tags and styles of pages,
    and keys and values of documents that are nothing but an id, such as the name of a step, stay as they are.
    """

    def __init__(self, users: Iterable[str]) -> None:
        self._ids = frozenset(users)
        long: set[str] = set()
        short: set[str] = set()
        for text in {text for user in self._ids for text in (user, shown(user)[1:-1])}:
            kind = long if len(text) >= 6 or (len(text) >= 4 and not text.isdigit()) else short
            kind |= {re.escape(text), re.escape(escape(text))}
        parts = []
        if long:
            parts.append(rf"(?<![\w-])(?:{'|'.join(long)})(?![\w-])")
        if short:
            parts.append(rf"(?:(?<=[\"'`])|(?<=&\#3[94];))(?:{'|'.join(short)})(?=[\"'`\\]|&\#3[94];)")
        self._pattern = re.compile("|".join(parts)) if parts else None

    def among(self, text: str) -> bool:
        """Whether a text names one of the users."""
        return self._pattern is not None and self._pattern.search(text) is not None

    def removed(self, text: str) -> str:
        """The text with each such id replaced."""
        return text if self._pattern is None else self._pattern.sub(_FORGOTTEN, text)

    def are_in(self, path: Path) -> bool:
        """Whether a text file names one of the users."""
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".html":
            return any(map(self.among, _MARKUP.split(text)[::2]))
        if path.suffix == ".json":
            with suppress(ValueError):
                return any(one in self._ids or self.among(one) for one in _strings(json.loads(text)))
        return self.among(text)

    def rewritten(self, path: Path) -> str:
        """A text file without these ids. A document gets a new checksum."""
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".html":
            parts = _MARKUP.split(text)
            parts[::2] = map(self.removed, parts[::2])
            return "".join(parts)
        if path.suffix != ".json":
            return self.removed(text)
        try:
            value = json.loads(text)
        except ValueError:
            return self.removed(text)
        value = self._within(value)
        if isinstance(value, dict) and _CHECKSUM in value:
            del value[_CHECKSUM]
            value[_CHECKSUM] = digest(value)
        return json.dumps(value, indent=2) + "\n"

    def _within(self, value: Any) -> Any:
        if isinstance(value, str):
            return value if value in self._ids else self.removed(value)
        if isinstance(value, list):
            return [self._within(one) for one in value]
        if isinstance(value, dict):
            return {key: self._within(one) for key, one in value.items()}
        return value


def _strings(value: Any) -> Iterator[str]:
    """All texts in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from _strings(one)
