"""Progress of long loops: a bar on a terminal, log lines elsewhere, nothing for short loops."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
log = logging.getLogger("hmamba")


class Progress:
    """Counts finished units. ``update`` is cheap enough to call for every batch. Shows nothing unless ``shown``."""

    def __init__(self, what: str, total: int, unit: str, *, shown: bool = True) -> None:
        self.what, self.total, self.unit = what, total, unit
        self._done = 0
        self._note = ""
        self._every_seconds, self._shown = 5.0, shown
        self._start = self._last = time.monotonic()
        self._bar: Any = None
        if shown and sys.stderr.isatty():
            with suppress(ImportError):  # without tqdm, a terminal gets log lines
                from tqdm import tqdm

                self._bar = tqdm(total=total, desc=what, unit=unit, leave=False)

    def update(self, amount: int = 1, note: str = "") -> None:
        """Add ``amount`` units; ``note`` is shown beside the count."""
        self._done += amount
        self._note = note or self._note
        if self._bar is not None:
            self._bar.update(amount)
            if note:
                self._bar.set_postfix_str(note)
            return
        now = time.monotonic()
        if self._shown and now - self._last >= self._every_seconds:
            self._last = now
            rate = self._done / max(now - self._start, 1e-9)
            tail = f", {self._note}" if self._note else ""
            speed = f"{rate:.0f} a second" if rate >= 1 else f"{60 * rate:.0f} a minute"
            log.info("%s: %d of %d %s, %s%s", self.what, self._done, self.total, self.unit, speed, tail)

    def close(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def track(items: Iterable[T], what: str, total: int, unit: str) -> Iterator[T]:
    """Yield ``items`` and show how many have been processed."""
    with Progress(what, total, unit) as progress:
        for item in items:
            yield item
            progress.update()
