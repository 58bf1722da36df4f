"""Plots as inline SVG that use the page's CSS variables as colours, so that they follow dark mode.

A plot is 317 units wide and its text 11 units high, so that the text has at least 10 CSS pixels on a phone.

Matplotlib supports fixed colours only: each colour here is a placeholder, replaced by a variable in the SVG. The same
input gives the same bytes: ids are salted with the figure's name and no date is written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hmamba.report.judged import Contrast
from hmamba.text import counted

INK, MUTED, LINE = "#010101", "#020202", "#030303"
GOOD, BAD = "#050001", "#050002"
SERIES = tuple(f"#04000{place}" for place in range(1, 10))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
    **{colour: f"var(--c{place})" for place, colour in enumerate(SERIES, start=1)},
}
_STYLE: dict[Any, object] = {
    "svg.fonttype": "none",
    "font.size": 11.0,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.titlesize": 11.0,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
    "legend.fontsize": 11.0,
    "xtick.labelsize": 11.0,
    "ytick.labelsize": 11.0,
    "grid.color": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "text.parse_math": False,
    "axes.formatter.useoffset": False,
}


def curve(name: str, title: str, epochs: Sequence[int], values: Sequence[float], best: str) -> Markup:
    """Line plot over epochs with the best point marked.

    Args:
        name: unique on the page; becomes part of the ids.
        title: drawn above the plot.
        epochs: N epoch numbers.
        values: N values.
        best: ``"min"`` or ``"max"``: which value is marked.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure, axes = _axes(2.3)
        axes.plot(epochs, values, color=SERIES[4], linewidth=2, marker="o", markersize=3.5)
        place = values.index(min(values) if best == "min" else max(values))
        axes.plot([epochs[place]], [values[place]], "o", color=SERIES[5], markersize=7)
        axes.annotate(
            f"{values[place]:.4g}",
            (epochs[place], values[place]),
            textcoords="offset points",
            xytext=(0, -15 if best == "min" else 8),
            ha="center",
            color=INK,
        )
        axes.margins(x=0.1, y=0.28)
        axes.set_title(title, loc="left")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if len(epochs) == 1:
            axes.set_xticks(epochs)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="y", linewidth=0.8)
        word = "lowest" if best == "min" else "highest"
        spoken = (
            f"{title} over {counted(len(values), 'epoch')}: from {values[0]:.4g} to {values[-1]:.4g}, "
            f"{word} {values[place]:.4g} at epoch {epochs[place]}."
        )
        return _inline(figure, name, spoken)


def bars(name: str, title: str, rows: Sequence[tuple[str, float, int]]) -> Markup:
    """Horizontal bars, each labelled with its value.

    Args:
        name: unique on the page; becomes part of the ids.
        title: drawn above the plot.
        rows: label, value and palette index (from 1), from top to bottom.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure, axes = _axes(0.62 + 0.34 * len(rows))
        widest = max((value for _, value, _ in rows), default=0.0) or 1.0
        for row, (_, value, colour) in enumerate(rows):
            axes.barh(row, value, color=SERIES[colour - 1], height=0.62)
            axes.text(value + widest * 0.02, row, f"{value:.4f}", va="center", color=INK)
        axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(0, widest * 1.25)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        axes.set_title(title, loc="left")
        spoken = f"{title}: " + ", ".join(f"{label} {value:.4f}" for label, value, _ in rows) + "."
        return _inline(figure, name, spoken)


def forest(name: str, title: str, rows: Sequence[Contrast]) -> Markup:
    """Forest plot: differences with their intervals, and a line at 0.

    An undecided row has a hollow marker, so that it does not differ by colour alone.

    Args:
        name: unique on the page; becomes part of the ids.
        title: drawn above the plot.
        rows: from top to bottom, at least one.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure, axes = _axes(0.85 + 0.62 * len(rows))
        for place, row in enumerate(rows):
            colour = {"better": GOOD, "worse": BAD}.get(row.says, MUTED)
            # One piece per row: a continuous line would cross the labels.
            axes.plot([0, 0], [place - 0.18, place + 0.24], color=MUTED, linewidth=1, linestyle=(0, (3, 2)))
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([row.low, row.high], [place, place], "|", color=colour, markersize=8, markeredgewidth=2)
            fill = "none" if colour == MUTED else colour
            axes.plot(row.difference, place, "o", markersize=7, markeredgecolor=colour, markerfacecolor=fill)
            across = axes.get_yaxis_transform()
            axes.text(0, place - 0.64, row.label, transform=across, va="center", color=INK)
            axes.text(0, place - 0.33, row.word, transform=across, va="center", color=colour)
        widest = max(abs(bound) for row in rows for bound in (row.low, row.high)) or 1.0
        # With a margin, and always with 0.
        axes.set_xlim(
            min(0.0, *(row.low for row in rows)) - 0.08 * widest, max(0.0, *(row.high for row in rows)) + 0.08 * widest
        )
        axes.set_ylim(len(rows) - 0.7, -0.85)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(title, loc="left")
        axes.set_xlabel("difference; right of 0 is better")
        spoken = " ".join(f"{row.label}: {row.figures}, {row.word}." for row in rows)
        return _inline(figure, name, f"{title}. {spoken}")


@dataclass(frozen=True)
class Line:
    """One line of :func:`trend`.

    Attributes:
        label: in the legend.
        colour: palette index, from 1.
        values: N values; None leaves a gap.
        intervals: N bounds, drawn as bars; None leaves a gap. Empty without bars.
        dashed: whether the line is a reference and not what the plot is about.
    """

    label: str
    colour: int
    values: Sequence[float | None]
    intervals: Sequence[tuple[float, float] | None] = ()
    dashed: bool = False


def trend(name: str, title: str, days: Sequence[date], rows: Sequence[Line], form: str, floor: float) -> Markup:
    """Line plot over days, a point for each.

    Args:
        name: unique on the page; becomes part of the ids.
        title: drawn above the plot.
        days: N days, ascending, at least one.
        rows: the lines; at least one with a value.
        form: format of the values in words, such as ``,.0f``.
        floor: a value that the axis always includes.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure, axes = _axes(2.9)
        places = [day.toordinal() for day in days]
        for row in rows:
            colour = SERIES[row.colour - 1]
            drawn = [_or_gap(value) for value in row.values]
            if row.intervals:
                low, high = zip(*(bounds or (float("nan"),) * 2 for bounds in row.intervals), strict=True)
                axes.vlines(places, low, high, color=colour, linewidth=1.2)
            axes.plot(
                places, drawn, "--" if row.dashed else "-", color=colour, linewidth=1.5 if row.dashed else 2,
                marker=None if row.dashed and len(days) > 1 else "o", markersize=4, label=row.label,
            )  # fmt: skip
        axes.set_xticks(*_date_ticks(days))
        lowest, highest = axes.get_ylim()
        lowest, highest = min(lowest, floor), max(highest, floor)
        axes.set_ylim(lowest, highest + 0.06 * (highest - lowest))
        axes.tick_params("x", pad=8)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.grid(axis="y", linewidth=0.8)
        axes.set_title(title, loc="left")
        if len(rows) > 1:
            figure.legend(loc="outside lower left", frameon=False, labelcolor=INK)
        return _inline(
            figure,
            name,
            f"{title}, {days[0]} to {days[-1]}: " + "; ".join(_told(row, form) for row in rows) + ".",
        )


def _date_ticks(days: Sequence[date]) -> tuple[list[int], list[str]]:
    """Places and labels of at most four days, evenly spaced; a year is named where it begins."""
    first, last = days[0].toordinal(), days[-1].toordinal()
    steps = min(3, last - first) or 1
    places = sorted({first + round((last - first) * step / steps) for step in range(steps + 1)})
    shown = [date.fromordinal(place) for place in places]
    before = [None, *shown[:-1]]
    labels = [
        f"{day.day} {day:%b}" + ("" if last is not None and last.year == day.year else f"\n{day.year}")
        for last, day in zip(before, shown, strict=True)
    ]
    return places, labels


def _or_gap(value: float | None) -> float:
    return float("nan") if value is None else value


def _told(row: Line, form: str) -> str:
    """The first, last, smallest and largest value of a line."""
    known = [value for value in row.values if value is not None]
    if not known:
        return f"{row.label} none"
    ends = f"from {known[0]:{form}} to {known[-1]:{form}}"
    return f"{row.label} {ends}, between {min(known):{form}} and {max(known):{form}}"


def lines(name: str, title: str, labels: Sequence[str], rows: Sequence[tuple[str, Sequence[float | None]]]) -> Markup:
    """Line plot of several series over the same positions, with a legend.

    Args:
        name: unique on the page; becomes part of the ids.
        title: drawn above the plot.
        labels: N positions, from left to right.
        rows: label and N values of each line; None leaves a gap.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(8.8, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for row, (label, values) in enumerate(rows):
            style = ("-", "--", ":")[row // len(SERIES) % 3]
            drawn = [_or_gap(value) for value in values]
            axes.plot(
                range(len(labels)), drawn, style, color=SERIES[row % len(SERIES)], marker="o", markersize=4, label=label
            )
        axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right")
        axes.set_title(title, loc="left")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="y", linewidth=0.8)
        figure.legend(loc="outside lower left", ncols=2, frameon=False, labelcolor=INK)
        spoken = f"{title}, {labels[0]} to {labels[-1]}: " + "; ".join(
            f"{label} {', '.join('none' if value is None else f'{value:.4f}' for value in values)}"
            for label, values in rows
        )
        return _inline(figure, name, f"{spoken}.")


def _axes(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, height), layout="constrained")
    return figure, figure.add_subplot()


def _inline(figure: Figure, name: str, spoken: str) -> Markup:
    """Inline SVG with prefixed ids and CSS colours, without metadata or fixed size. ``spoken`` is its ARIA label."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # A style element inside an inline SVG is not scoped: it would apply to the whole page.
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]*)"', text)
    assert box is not None  # matplotlib always writes one
    opening = f'<svg class="plot" role="img" aria-label="{escape(spoken)}" viewBox="{box.group(1)}">'
    text = re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return Markup(re.sub(r"\n\s*", "\n", text).strip())
