"""Render a gathered night as a page and write it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from markupsafe import Markup

import hmamba
from hmamba.columns import BASELINES
from hmamba.config import ReportConfig
from hmamba.report import figures
from hmamba.report.examples import NEW_DAYS
from hmamba.report.gather import Night, gather
from hmamba.report.judged import NAMES, contrasts, depth_of_candidates, judged_on, metric_of, rare_items
from hmamba.report.learnt import VALIDATION, finite, what_serves_knows
from hmamba.report.neighbours import link_neighbours, links_of
from hmamba.report.plainly import changed, compared_with, groups, plainly
from hmamba.report.rules import rule_rows, ruled_metric, ruled_users
from hmamba.report.summary import ingest_warnings, summarise
from hmamba.report.trend import write_trend
from hmamba.report.words import environment
from hmamba.storage.base import write_text
from hmamba.storage.layout import Layout
from hmamba.text import metric_name, relative

_COLOURS = {"challenger": 6, "champion": 5, "most_bought": 3, "popularity": 9}
_FAMILIES = ("ndcg", "hr", "mrr", "recall", "coverage")


def write_report(layout: Layout, day: date, run_id: str, config: ReportConfig | None = None) -> Path:
    """Write the report of one run, atomically replacing an earlier one of the same day, and the page of all nights.

    The links of neighbouring reports are corrected.

    Args:
        layout: the root.
        day: the night's day.
        run_id: the run.
        config: what to show; None for the defaults.

    Returns:
        The page's path.

    Raises:
        ConfigError: the run id cannot be a folder's name.
    """
    target = layout.report(day)
    with layout.storage.lock(layout.reports):
        write_text(layout.storage, target, render(gather(layout, day, run_id, config)))
        link_neighbours(layout, day)
        write_trend(layout)
    return target


def render(night: Night) -> str:
    """The whole page. It loads no other resource and runs no script."""
    return (
        environment()
        .get_template("night.html")
        .render(
            night=night,
            new_days=NEW_DAYS,
            links=links_of(night.day, night.reports),
            summary=summarise(night),
            names=NAMES,
            colours=_COLOURS,
            baselines=BASELINES,
            ingest_warnings=ingest_warnings(night),
            judged_on=judged_on(night.verdict) if night.verdict else [],
            depth_of_candidates=depth_of_candidates(night.verdict) if night.verdict else "",
            rare_items=rare_items(night.verdict) if night.verdict else "",
            contrasts=contrasts(night),
            groups=groups(night),
            groups_are_of=compared_with(night),
            plainly=plainly(night),
            changed=changed(night.changes),
            rule_rows=rule_rows(night),
            ruled_users=ruled_users(night),
            ruled_metric=ruled_metric(night),
            forest=_forest(night),
            what_serves_knows=what_serves_knows(night),
            epochs=_epoch_plots(night),
            comparison=_comparison(night),
            metric_plots=_metric_plots(night),
            longest=max((cost.seconds for cost in night.costs), default=0.0) or 1.0,
            largest=max((cost.peak_bytes for cost in night.costs), default=0) or 1,
            version=hmamba.__version__,
        )
    )


def _epoch_plots(night: Night) -> list[Markup]:
    """Loss and the validation metrics by epoch."""
    if night.training is None:
        return []
    epochs = night.training.epochs
    plots = []
    for key, title in {"loss": "training loss", **VALIDATION}.items():
        points = [(epoch.epoch, float(getattr(epoch, key))) for epoch in epochs if finite(getattr(epoch, key))]
        if points:
            xs, ys = [x for x, _ in points], [y for _, y in points]
            plots.append(figures.curve(f"curve-{key}", title, xs, ys, "min" if key == "loss" else "max"))
    return plots


def _forest(night: Night) -> Markup | None:
    """All comparisons with their intervals; None if nothing was compared."""
    rows = contrasts(night)
    title = f"{metric_of(night)}: difference and 95 % interval"
    return figures.forest("forest", title, rows) if rows else None


def _comparison(night: Night) -> list[dict[str, Any]]:
    """Rows of the metrics table: a value per system, and the first system's relative difference from each other."""
    if not night.models:
        return []
    judged = night.models[0]
    keys = sorted(night.metrics[judged], key=_metric_order)
    return [
        {
            "metric": metric_name(key),
            "deciding": night.verdict is not None and key == night.verdict.metric,
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
    """One plot per family of metrics, at the cutoff of the deciding metric; of recall among all candidates.

    A family without that cutoff is shown at its smallest one, as where recall among all candidates decides.
    """
    if night.verdict is None or not night.models:
        return []
    cutoff, measured = night.verdict.metric.partition("@")[2], night.metrics[night.models[0]]
    plots = []
    for family in _FAMILIES:
        keys = sorted((key for key in measured if key.startswith(f"{family}@")), key=_metric_order)
        wanted = f"{family}@{night.verdict.k if family == 'recall' else cutoff}"
        key = wanted if wanted in keys else next(iter(keys), "")
        rows = [
            (NAMES[name], float(night.metrics[name][key]), _COLOURS[name])
            for name in night.models
            if night.metrics[name].get(key) is not None
        ]
        if rows:
            plots.append(figures.bars(f"bars-{family}", metric_name(key), rows))
    return plots
