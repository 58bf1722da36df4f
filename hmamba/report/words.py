"""The report's templates and their filters: numbers and names as the pages write them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment

from hmamba.pages import templates
from hmamba.report.learnt import early_stopping, ranker, recipe, score_term
from hmamba.text import counted, metric_name, sentence, short, signed


def seconds(amount: float) -> str:
    """A duration: seconds below a minute, else minutes and seconds."""
    return f"{amount:.1f} s" if amount < 60 else f"{int(amount // 60)} min {int(amount % 60):02d} s"


FILTERS: dict[str, Callable[..., Any]] = {
    "counted": counted,
    "early_stopping": early_stopping,
    "ranker": ranker,
    "recipe": recipe,
    "score_term": score_term,
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


@cache
def environment() -> Environment:
    """The templates of the report, compiled once."""
    found = templates("hmamba.report")
    found.filters |= FILTERS
    return found
