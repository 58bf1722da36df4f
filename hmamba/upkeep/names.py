"""Find and replace the ids of users in texts, such as messages in reports and metrics."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hmamba.storage.local import digest

SUFFIXES = (".json", ".html", ".md", ".txt")
"""Files that are texts."""

_FORGOTTEN = "(forgotten)"
_CHECKSUM = "checksum"


class Names:
    """Finds the ids of users in texts.

    A short id or a small number, such as 12, occurs in every text. It is only recognised in quotes, as messages write
    ids; other ids are recognised wherever no letter, digit, dash or underscore touches them.
    """

    def __init__(self, users: Iterable[str]) -> None:
        parts = []
        for form in {form for user in users for form in (user, html.escape(user))}:
            text = re.escape(form)
            if len(form) >= 6 or (len(form) >= 4 and not form.isdigit()):
                parts.append(rf"(?<![\w-]){text}(?![\w-])")
            else:
                parts.append(rf"(?:(?<=[\"'`])|(?<=&\#3[94];)|(?<=&quot;)){text}(?=[\"'`\\]|&\#3[94];|&quot;)")
        self._pattern = re.compile("|".join(parts)) if parts else None

    def among(self, text: str) -> bool:
        """Whether a text names one of the users."""
        return self._pattern is not None and self._pattern.search(text) is not None

    def removed(self, text: str) -> str:
        """The text with each such id replaced."""
        return text if self._pattern is None else self._pattern.sub(_FORGOTTEN, text)

    def are_in(self, path: Path) -> bool:
        """Whether a text file names one of the users."""
        return self.among(path.read_text(encoding="utf-8", errors="replace"))

    def rewritten(self, path: Path) -> str:
        """A text file without these ids. A document gets a new checksum."""
        text = path.read_text(encoding="utf-8", errors="replace")
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
            return self.removed(value)
        if isinstance(value, list):
            return [self._within(one) for one in value]
        if isinstance(value, dict):
            return {self.removed(key): self._within(one) for key, one in value.items()}
        return value
