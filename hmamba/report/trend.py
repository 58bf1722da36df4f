"""The page of all nights: how figures developed, and links to each night's report.

It is made from the documents that the nights have left, so each figure is the one that its night recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

from markupsafe import Markup

import hmamba
from hmamba.columns import BASELINES
from hmamba.report import figures
from hmamba.report.figures import Line
from hmamba.report.history import Night, nights
from hmamba.report.judged import NAMES, SAYS
from hmamba.report.neighbours import reported_days
from hmamba.report.words import environment
from hmamba.storage.base import write_text
from hmamba.storage.layout import Layout
from hmamba.text import metric_name, sentence, signed

VERDICTS = {
    "promoted": "new model promoted",
    "not promoted": "model kept",
    "baseline": "baseline published",
    "refused": "stopped by the gate",
    "failed": "failed",
    "unknown": "unknown",
}
"""The verdict of a night, as the page writes it."""

TONES = {"promoted": "good", "baseline": "warn", "refused": "bad", "failed": "bad"}
_BASELINE_COLOURS = {"popularity": 9, "most_bought": 3}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ``report``: address of the night's report, relative to the page; None if it is gone. ``reruns``: number of other
    runs of the day.
    """

    night: Night
    report: str | None
    reruns: int

    @property
    def verdict(self) -> str:
        """What the night came to."""
        word = VERDICTS[self.night.verdict]
        return f"{word}, rolled back" if self.night.rolled_back else word

    @property
    def tone(self) -> str:
        """The colour of the verdict."""
        return "muted" if self.night.rolled_back else TONES.get(self.night.verdict, "calm")

    @property
    def reason(self) -> str:
        """Why a night did not publish a model; empty if it did."""
        return sentence(self.night.reason) if self.tone in ("bad", "warn") else ""

    @property
    def difference(self) -> str:
        """The comparison that decided, with its interval; empty if nothing was compared."""
        one = self.night.compared
        if one is None:
            return ""
        other = NAMES.get(one.other, one.other)
        return f"{signed(one.difference)} against {other} ({signed(one.low)} to {signed(one.high)}): {SAYS[one.says]}"


def write_trend(layout: Layout) -> Path:
    """Write the page of all nights, atomically replacing an earlier one."""
    write_text(layout.storage, layout.all_reports, render(nights(layout), reported_days(layout)))
    return layout.all_reports


def render(found: Sequence[Night], reports: Collection[date]) -> str:
    """The whole page.

    Args:
        found: all nights, in the order of :func:`hmamba.report.history.nights`.
        reports: days of which there is a report.
    """
    rows = _rows(found, reports)
    return (
        environment()
        .get_template("trend.html")
        .render(rows=rows[::-1], latest=rows[-1] if rows else None, plots=_plots(rows), version=hmamba.__version__)
    )


def _rows(found: Sequence[Night], reports: Collection[date]) -> list[Row]:
    """One row a day: the run that published, or else the last one; a rolled-back run only if there is no other."""
    by_day: dict[date, list[Night]] = {}
    for night in found:
        by_day.setdefault(night.day, []).append(night)
    rows = []
    for day, of_day in by_day.items():
        standing = [night for night in of_day if not night.rolled_back] or of_day
        rows.append(Row(standing[-1], f"{day}/index.html" if day in reports else None, len(of_day) - 1))
    return rows


def _of_baseline(name: str, night: Night) -> float | None:
    return night.baselines.get(name)


def _plots(rows: Sequence[Row]) -> list[Markup]:
    """The figures over nights; one without any value is left out. A change of ``gate.metric`` begins a new plot."""
    last = [row for row in rows if not row.night.rolled_back]
    metric = next((row.night.metric for row in reversed(last) if row.night.value is not None), None)
    if not last:
        return []
    days = [row.night.day for row in last]

    def of_metric(value: Callable[[Night], float | None]) -> list[float | None]:
        return [value(row.night) if row.night.metric == metric else None for row in last]

    plots = []
    if metric is not None:
        served = Line(
            "what served, with 95 % interval",
            5,
            of_metric(lambda night: night.value),
            [row.night.interval if row.night.metric == metric else None for row in last],
        )
        baselines = [
            Line(BASELINES[name], colour, of_metric(partial(_of_baseline, name)), dashed=True)
            for name, colour in _BASELINE_COLOURS.items()
        ]
        lines = [served, *(line for line in baselines if any(value is not None for value in line.values))]
        plots.append(figures.trend("trend-metric", metric_name(metric), days, lines, ".4f", 0.0))
        ratio = Line("ratio", 5, of_metric(lambda night: night.ratio))
        if any(value is not None for value in ratio.values):
            title = f"{metric_name(metric)}: times that of the best baseline"
            plots.append(figures.trend("trend-ratio", title, days, [ratio], ".2f", 1.0))
    amounts: tuple[tuple[str, str, int, Callable[[Night], float | None]], ...] = (
        ("users", "users with recommendations", 3, lambda night: night.users),
        ("rows", "rows published", 4, lambda night: night.rows),
        ("time", "minutes of all steps", 6, lambda night: None if night.seconds is None else night.seconds / 60),
    )
    for name, title, colour, value in amounts:
        values = [value(row.night) for row in last]
        if any(one is not None for one in values):
            spoken = ",.1f" if name == "time" else ",.0f"
            plots.append(figures.trend(f"trend-{name}", title, days, [Line(title, colour, values)], spoken, 0.0))
    return plots
