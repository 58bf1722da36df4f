"""Markdown tables of finished runs."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import Any

from bench.protocols import CUTOFFS, RECALL
from bench.systems import HMAMBA, MERGED, Row

METRICS = (*(f"{metric}@{k}" for metric in ("hr", "ndcg", "mrr") for k in CUTOFFS), RECALL)
RATIO = "ndcg@10"


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [list(header), ["---"] * len(header), *map(list, lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _values(row: Row, place: tuple[str, str, str], metric: str) -> list[float]:
    test, group, view = place
    found = (result["measured"] for result in row.results)
    return [measured[test][group][view][metric] for measured in found if test in measured]


def _cell(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def metrics_table(
    rows: Sequence[Row], place: tuple[str, str, str], reference: str, published: Sequence[dict[str, Any]] = ()
) -> str:
    """One row for each system: mean and standard deviation of its metrics over seeds, and NDCG@10 / reference.

    Args:
        rows: the systems.
        place: test, group and view.
        reference: name of the row that NDCG@10 is divided by.
        published: published figures, each with its system and metrics; shown last.
    """
    base = next((_values(row, place, RATIO) for row in rows if row.name == reference), [])
    lines = []
    for row in rows:
        values = _values(row, place, RATIO)
        ratio = "-" if not values or not any(base) else f"{statistics.mean(values) / statistics.mean(base):.3f}"
        cells = [_cell(_values(row, place, metric)) for metric in METRICS]
        lines.append([row.label, *cells, ratio])
    for figure in published:
        shown = [f"{figure['metrics'][name]:.4f}" if name in figure["metrics"] else "-" for name in METRICS]
        lines.append([f"{figure['system']}, as published, not measured here", *shown, "-"])
    header = ["", *(name.upper().replace("RECALL", "R") for name in METRICS), f"NDCG@10 / {reference}"]
    text = table(header, lines)
    own = [row for row in rows if row.name == HMAMBA and row.results]
    for row, figure in itertools.product(own, published):
        parts = [
            f"{name.upper()} {statistics.mean(_values(row, place, name)) / value:.3f}"
            for name, value in figure["metrics"].items()
        ]
        text += f"\n\n{row.label} divided by {figure['system']} as published: {', '.join(parts)}."
    merged = [row for row in rows if row.name.endswith(MERGED) and row.results]
    for row, other in itertools.product(own, merged):
        recall = [_values(each, place, RECALL) for each in (row, other)]
        if any(recall[1]):
            share = statistics.mean(recall[0]) / statistics.mean(recall[1])
            text += f"\n\n{row.label} divided by {other.label}: R@100 {share:.3f}."
    return text


def _settings(result: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in result["settings"].items()) or "none"


def runs_table(rows: Sequence[Row]) -> str:
    """Settings and training time of each system."""
    header = ["", "seeds", "best epoch", "epochs run", "seconds to the stop", "seconds an epoch", "parameters"]
    lines = []
    for row in rows:
        trained = [result for result in row.results if "epochs" in result]
        epochs = [len(result["epochs"]) for result in trained]
        seconds = [result["seconds"] for result in trained]
        cells = [
            ", ".join(str(result["seed"]) for result in trained),
            ", ".join(str(result["best_epoch"]) for result in trained),
            ", ".join(map(str, epochs)),
            ", ".join(f"{value:.0f}" for value in seconds),
            ", ".join(f"{value / number:.1f}" for value, number in zip(seconds, epochs, strict=True)),
            f"{trained[0]['parameters']:,}" if trained else "",
        ]
        settings = _settings(row.results[0]) if row.results else row.note
        lines.append([row.name, *(cell or "-" for cell in cells), settings])
    return table([*header, "settings (HMamba's: other than the defaults)"], lines)


def origins(rows: Sequence[Row]) -> str:
    """Commit, date and machine of the runs, each combination once."""
    made: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        for result in row.results:
            names = made.setdefault((result["commit"], result["date"], result["machine"]), [])
            if row.name not in names:
                names.append(row.name)
    lines = [[", ".join(names), *place] for place, names in made.items()]
    return table(["", "commit", "date", "machine"], lines)
