"""What ranks the items of a night: recorded with its candidates, so that none of an earlier attempt are published."""

from __future__ import annotations

from pathlib import Path

from hmamba.contracts.contents import Contents
from hmamba.contracts.models import IndexDescription
from hmamba.contracts.steps import IndexMetrics
from hmamba.contracts.verdict import read_serving
from hmamba.errors import InputError
from hmamba.evaluation.gate import is_baseline
from hmamba.storage.local import digest
from hmamba.storage.run_layout import RunLayout


def served_by(run: RunLayout) -> str:
    """Digest of the model and its index, or of the baseline and its candidate items; no large file is read.

    Raises:
        InputError: the gate or the index step has not run, or what it wrote is damaged.
    """
    version = read_serving(run)
    if is_baseline(version):
        return digest([version, _index(run, version).points.sha256])
    model = Contents.read(run.model_contents, run.storage).digest
    return digest([version, model, IndexDescription.read(run.index_description, run.storage).sha256])


def item_points(run: RunLayout) -> Path:
    """Local file of the item points, verified.

    Raises:
        InputError: the index step has not run since the gate, or the file is damaged.
    """
    points = _index(run, read_serving(run)).points
    return points.verified(run.storage.local_path(run.item_points), IndexDescription.CURE)


def _index(run: RunLayout, version: str) -> IndexMetrics:
    metrics = IndexMetrics.read(run.step_metrics("index"), run.storage)
    if metrics.model_version != version:
        raise InputError(
            f"{run.step_metrics('index')} is of {metrics.model_version}, but {version} serves. {IndexDescription.CURE}"
        )
    return metrics
