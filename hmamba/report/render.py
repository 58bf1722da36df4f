"""Turn a gathered night into the page and put it in place."""

from __future__ import annotations

import math
import re
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import hmamba
from hmamba.files import atomic_file
from hmamba.layout import Layout
from hmamba.report import figures
from hmamba.report.gather import Night, gather
from hmamba.report.summary import relative, summarise, transitions
from hmamba.report.text import printable, short

NAMES = {
    "challenger": "new model",
    "champion": "champion",
    "most_bought": "what the user had most",
    "popularity": "popularity",
}
_COLOURS = {"challenger": 6, "champion": 5, "most_bought": 3, "popularity": 9}
_FAMILIES = ("ndcg", "hr", "mrr", "coverage")


def write_report(layout: Layout, day: date, run_id: str) -> Path:
    """Write the report of one run, replacing an earlier one of the same day in one step.

    Returns:
        The page's path.

    Raises:
        InputError: a file of the run that should be JSON is not.
    """
    page = render(gather(layout, day, run_id))
    target = layout.report(day)
    with atomic_file(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return target


def render(night: Night) -> str:
    """The whole page. It loads nothing from anywhere and runs no script."""
    environment = Environment(
        loader=PackageLoader("hmamba.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters |= {
        "count": lambda number: f"{number:,}",
        "percent": lambda share: f"{share * 100:.1f} %",
        "seconds": _seconds,
        "short": short,
        "sentence": _sentence,
        "size": lambda amount: f"{amount / 2**20:,.0f} MB",
        "transitions": transitions,
    }
    return environment.get_template("template.html").render(
        night=night,
        summary=summarise(night),
        names=NAMES,
        colours=_COLOURS,
        epochs=_epoch_plots(night),
        comparison=_comparison(night),
        metric_plots=_metric_plots(night),
        widest_category=max(
            (max(row.of_recommendations, row.of_events) for row in night.candidates.categories), default=1.0
        )
        if night.candidates
        else 1.0,
        longest=max((cost.seconds for cost in night.costs), default=0.0) or 1.0,
        largest=max((cost.peak_bytes for cost in night.costs), default=0) or 1,
        version=hmamba.__version__,
    )


def _printable(value: Any) -> Any:
    """Clean text of characters that escaping leaves in. Markup is this package's own."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _sentence(text: str) -> str:
    """A reason as a sentence; metrics keep to capitals, as everywhere on the page."""
    text = re.sub(r"\b(hr|ndcg|mrr)@", lambda match: match[0].upper(), text)
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _epoch_plots(night: Night) -> list[Markup]:
    """Loss and the validation metrics by epoch."""
    if night.training is None:
        return []
    epochs = night.training.epochs
    plots = []
    measured = dict.fromkeys(key for epoch in epochs for key in epoch if "@" in key)
    for key in ("loss", *measured):
        points = [(int(epoch["epoch"]), float(epoch[key])) for epoch in epochs if _finite(epoch.get(key))]
        if points:
            title = "training loss" if key == "loss" else f"validation {key.upper()}"
            name = "curve-" + re.sub(r"\W", "-", key)
            xs, ys = [x for x, _ in points], [y for _, y in points]
            plots.append(figures.curve(name, title, xs, ys, "min" if key == "loss" else "max"))
    return plots


def _comparison(night: Night) -> list[dict[str, Any]]:
    """Rows of the metrics table: the judged model's figure, and each other's with how the first compares to it."""
    if not night.models:
        return []
    judged = night.models[0]
    keys = sorted(night.metrics[judged], key=_metric_order)
    return [
        {
            "metric": key.upper().replace("COVERAGE", "coverage"),
            "deciding": key == (night.verdict or {}).get("metric"),
            "cells": [
                {
                    "value": night.metrics[name].get(key),
                    "difference": relative(night.metrics[judged][key], night.metrics[name].get(key, 0.0))
                    if name != judged
                    else "",
                }
                for name in night.models
            ],
        }
        for key in keys
    ]


def _metric_order(key: str) -> tuple[int, int, str]:
    family, _, cutoff = key.partition("@")
    place = _FAMILIES.index(family) if family in _FAMILIES else len(_FAMILIES)
    return place, int(cutoff) if cutoff.isdigit() else 0, key


def _metric_plots(night: Night) -> list[Markup]:
    """One plot a family of metrics, at the cutoff of the metric that decides."""
    cutoff = str((night.verdict or {}).get("metric", "")).partition("@")[2]
    plots = []
    for family in _FAMILIES:
        key = f"{family}@{cutoff}"
        rows = [
            (NAMES[name], float(night.metrics[name][key]), _COLOURS[name])
            for name in night.models
            if night.metrics[name].get(key) is not None
        ]
        if rows:
            title = f"{family.upper() if family != 'coverage' else family}@{cutoff}"
            plots.append(figures.bars(f"bars-{family}", title, rows))
    return plots
