"""The model versions of a root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from hmamba.contracts.models import ModelMetrics, Promotion
from hmamba.errors import InputError
from hmamba.models import files, promotions
from hmamba.models.verify import verified
from hmamba.storage.layout import Layout
from hmamba.upkeep.sizes import size_of


@dataclass(frozen=True)
class Version:
    """One model version.

    Attributes:
        version: its name.
        day: the night that trained it; None if that cannot be read.
        parent: the version that it was fine-tuned from; None if it was trained from scratch.
        promoted_at: when it was promoted last; None if it never was, or the promotion has been taken back.
        serves: whether it is the champion.
        metric: the gate's deciding metric; None before the first verdict.
        value: its mean over the evaluated users; None likewise.
        bytes: size on disk.
        pruned: whether it has been deleted but for its metrics.
        damage: why it cannot be loaded; None if it can, or was pruned.
    """

    version: str
    day: date | None
    parent: str | None
    promoted_at: datetime | None
    serves: bool
    metric: str | None
    value: float | None
    bytes: int
    pruned: bool
    damage: str | None


def versions(layout: Layout) -> list[Version]:
    """All versions, the oldest day first; the champion also if it is missing from the disk.

    Raises:
        InputError: the list of promotions is damaged.
    """
    history = promotions.promotions(layout)
    promoted = {one.version: one for one in history}
    champion = history[-1].version if history else None
    stored = [path.name for path in layout.storage.find(layout.models, "*/")]
    missing = [champion] if champion is not None and champion not in stored else []
    found = [_version(layout, name, promoted, champion) for name in [*stored, *missing]]
    return sorted(found, key=lambda one: (one.day or date.min, one.version))


def _version(layout: Layout, name: str, promoted: Mapping[str, Promotion], champion: str | None) -> Version:
    damage = metrics = provenance = None
    pruned = layout.is_pruned(name)
    try:
        provenance = verified(layout, name)
        metrics = files.read_metrics(layout, name)
    except InputError as error:
        damage = str(error)
    if metrics is None:
        metrics = _metrics_of_damaged(layout, name)
    gate = metrics.gate if metrics is not None else None
    return Version(
        version=name,
        day=_day(name) if provenance is None else provenance.day,
        parent=None if provenance is None else provenance.parent,
        promoted_at=promoted[name].promoted_at if name in promoted else None,
        serves=name == champion,
        metric=None if gate is None else gate.metric,
        value=None if gate is None else gate.metrics.get("challenger", {}).get(gate.metric),
        bytes=size_of(layout.storage.local_path(layout.model(name))),
        pruned=pruned,
        damage=None if pruned else damage,
    )


def _metrics_of_damaged(layout: Layout, name: str) -> ModelMetrics | None:
    """The metrics of a version of which another file is damaged."""
    try:
        return files.read_metrics(layout, name)
    except InputError:
        return None


def _day(name: str) -> date | None:
    """The day in the name of a version."""
    try:
        return date.fromisoformat(name[:8])
    except ValueError:
        return None
