"""Which model version serves, from which night on: ``models/champion.json``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from hmamba.errors import InputError
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json, write_json


@dataclass(frozen=True)
class Promotion:
    """One promotion: a version serves from the night of ``day`` on."""

    version: str
    day: date


def promotions(layout: Layout) -> list[Promotion]:
    """All promotions, oldest first.

    Raises:
        InputError: champion.json is damaged.
    """
    if not layout.storage.exists(layout.champion):
        return []
    try:
        history = read_json(layout.storage.local_path(layout.champion))["history"]
        return [Promotion(entry["version"], date.fromisoformat(entry["day"])) for entry in history]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{layout.champion} does not list promotions ({error!r}). Restore it, or remove it to start from nothing."
        ) from error


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
        promoted: the version that serves from that night on, or None if the gate promoted nobody.

    Returns:
        Whether champion.json now says of that night what the gate has decided.
    """
    past = promotions(layout)
    decided = [] if promoted is None else [Promotion(promoted, day)]
    if [one for one in past if one.day == day] == decided:
        return True
    if past and past[-1].day > day:
        return False
    history = [entry for entry in _history(layout) if date.fromisoformat(entry["day"]) < day]
    if promoted is not None:
        history.append({"version": promoted, "day": day.isoformat(), "promoted_at": datetime.now(UTC).isoformat()})
    _write_history(layout, history)
    return True


def take_back(layout: Layout, day: date) -> list[Promotion]:
    """Take back the promotions of nights after ``day``; returns them, oldest first."""
    gone = [one for one in promotions(layout) if one.day > day]
    if gone:
        _write_history(layout, [entry for entry in _history(layout) if date.fromisoformat(entry["day"]) <= day])
    return gone


def _history(layout: Layout) -> list[dict[str, Any]]:
    if not layout.storage.exists(layout.champion):
        return []
    return list(read_json(layout.storage.local_path(layout.champion))["history"])


def _write_history(layout: Layout, history: list[dict[str, Any]]) -> None:
    if history:
        with layout.storage.write_file(layout.champion) as path:
            write_json(path, {"version": history[-1]["version"], "history": history})
    else:
        layout.storage.delete(layout.champion)
