"""Which model version serves, from which night on: ``models/champion.json``."""

from __future__ import annotations

from datetime import UTC, date, datetime

from hmamba.contracts.models import Promotion, Promotions
from hmamba.storage.layout import Layout


def promotions(layout: Layout) -> tuple[Promotion, ...]:
    """All promotions, oldest first.

    Raises:
        InputError: champion.json is damaged.
    """
    found = Promotions.read_if_exists(layout.champion, layout.storage)
    return () if found is None else found.history


def champion_before(layout: Layout, day: date) -> str | None:
    """The version that served before the night of ``day``; running a night again meets the same one."""
    earlier = [one for one in promotions(layout) if one.day < day]
    return earlier[-1].version if earlier else None


def record_decision(layout: Layout, day: date, promoted: str | None) -> bool:
    """Enter the gate's decision on the night of ``day`` into the promotions.

    The last decision on a day counts: it replaces, or takes back, what an earlier run of that day promoted. Promotions
    before the newest one stay as they are, because later models descend from them and were judged against them.

    Args:
        layout: the root.
        day: the night.
        promoted: the version that serves from that night on, or None if the gate promoted none.

    Returns:
        Whether champion.json now says of that night what the gate has decided.
    """
    past = promotions(layout)
    if [one.version for one in past if one.day == day] == ([] if promoted is None else [promoted]):
        return True
    if past and past[-1].day > day:
        return False
    history = tuple(one for one in past if one.day < day)
    if promoted is not None:
        history += (Promotion(version=promoted, day=day, promoted_at=datetime.now(UTC)),)
    _write(layout, history)
    return True


def take_back(layout: Layout, day: date) -> tuple[Promotion, ...]:
    """Take back the promotions of nights after ``day``; returns them, oldest first."""
    past = promotions(layout)
    gone = tuple(one for one in past if one.day > day)
    if gone:
        _write(layout, tuple(one for one in past if one.day <= day))
    return gone


def _write(layout: Layout, history: tuple[Promotion, ...]) -> None:
    if history:
        Promotions(version=history[-1].version, history=history).write(layout.champion, layout.storage)
    else:
        layout.storage.delete(layout.champion)
