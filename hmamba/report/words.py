"""Filters of the report's templates: numbers and names as the pages write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hmamba.text import counted, metric_name, sentence, short, signed


def seconds(amount: float) -> str:
    """A duration: seconds below a minute, else minutes and seconds."""
    return f"{amount:.1f} s" if amount < 60 else f"{int(amount // 60)} min {int(amount % 60):02d} s"


FILTERS: dict[str, Callable[..., Any]] = {
    "counted": counted,
    "count": lambda number: f"{number:,}",
    "metric": metric_name,
    "percent": lambda share: f"{share * 100:.1f}\N{NO-BREAK SPACE}%",
    "seconds": seconds,
    "sentence": sentence,
    "short": short,
    "signed": signed,
    "size": lambda amount: f"{amount / 2**20:,.0f} MB",
}
"""Filters by name."""
