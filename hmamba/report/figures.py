"""Plots as inline SVG that use the page's CSS variables as colours, so that they follow dark mode.

Matplotlib supports fixed colours only: each colour here is a placeholder, replaced by a variable in the SVG. The same
input gives the same bytes: ids are salted with the figure's name and no date is written.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

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
    "font.size": 10.0,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.titlesize": 10.0,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": INK,
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
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
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
        figure, axes = _axes(0.85 + 0.48 * len(rows))
        for place, row in enumerate(rows):
            colour = {"better": GOOD, "worse": BAD}.get(row.says, MUTED)
            # One piece per row: a continuous line would cross the labels.
            axes.plot([0, 0], [place - 0.2, place + 0.3], color=MUTED, linewidth=1, linestyle=(0, (3, 2)))
            axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            axes.plot([row.low, row.high], [place, place], "|", color=colour, markersize=8, markeredgewidth=2)
            fill = "none" if colour == MUTED else colour
            axes.plot(row.difference, place, "o", markersize=7, markeredgecolor=colour, markerfacecolor=fill)
            across = axes.get_yaxis_transform()
            axes.text(0, place - 0.42, row.label, transform=across, va="center", color=INK)
            axes.text(1, place - 0.42, row.word, transform=across, va="center", ha="right", color=colour)
        widest = max(abs(bound) for row in rows for bound in (row.low, row.high)) or 1.0
        # With a margin, and always with 0.
        axes.set_xlim(
            min(0.0, *(row.low for row in rows)) - 0.08 * widest, max(0.0, *(row.high for row in rows)) + 0.08 * widest
        )
        axes.set_ylim(len(rows) - 0.6, -0.7)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(title, loc="left")
        axes.set_xlabel("difference; right of 0 is better")
        spoken = " ".join(f"{row.label}: {row.figures}, {row.word}." for row in rows)
        return _inline(figure, name, f"{title}. {spoken}")


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
            drawn = [float("nan") if value is None else value for value in values]
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
