"""What an explanation says, and why an item is not in a list."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from hmamba.contracts.manifest import Manifest
from hmamba.index.base import RealArray
from hmamba.sequences.histories import Histories, IntArray

SAME = 1e-3
"""Scores that differ less are the same, computed in another order."""


@dataclass(frozen=True)
class Source:
    """An item of the history, and its share of a kind of evidence."""

    item_id: str
    title: str | None
    share: float


@dataclass(frozen=True)
class Part:
    """A part of a score.

    Attributes:
        because: kind of evidence, as in the column ``because``; ranker for the correction by trees.
        evidence: the same in words.
        value: what it adds, in logits.
        sources: items of the history behind it, the largest share first; of more than a few the largest.
    """

    because: str
    evidence: str
    value: float
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """Why an item is in a user's list, or is not.

    Attributes:
        user, item_id, title: the user and the item.
        day: the night's day.
        model_version: what ranks the user's items.
        k: most rows of a user.
        rank: published rank; None if the item is not in the list.
        place: place of the item by score among all items that the user may get, from 1; None for an item that they may
            not get.
        places: number of these items.
        score: the score; None for an item without one.
        mean: the user's mean base score over all events, to which the parts are added; None without parts.
        parts: what adds to the score, the largest first; empty where popularity or a baseline ranks the items.
        times_taken, last_taken: number of events of the user with the item, and the newest time (naive UTC; None if
            there is none, or events have no times).
        why_not: why the item is not in the list, a sentence; None if it is.
        note: what else a reader of the explanation must know, a sentence; None if nothing.
    """

    user: str
    item_id: str
    title: str | None
    day: str
    model_version: str
    k: int
    rank: int | None
    place: int | None
    places: int
    score: float | None
    mean: float | None = None
    parts: tuple[Part, ...] = ()
    times_taken: int = 0
    last_taken: datetime | None = None
    why_not: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class RankedItems:
    """What ranks an item for the user.

    Attributes:
        version: as the column model_version.
        items, scores: all items that the user may get, best first, and their scores.
        mean, parts: as in :class:`Explanation`.
        refused: why the item has no score, a sentence; None if it has one.
        is_new: whether the item is a new item.
    """

    version: str
    items: IntArray
    scores: RealArray
    mean: float | None = None
    parts: tuple[Part, ...] = ()
    refused: str | None = None
    is_new: bool = False


def explanation_of(
    manifest: Manifest,
    user: str,
    item: str,
    title: str | None,
    number: int,
    history: Histories,
    rows: dict[str, tuple[int, float]],
    found: RankedItems,
    is_ruled: bool,
) -> Explanation:
    """Put together what was found, and say why the item is not in the list."""
    taken = np.flatnonzero(history.items == number)
    newest = int(history.times[taken[-1]]) if len(taken) else None
    rank, published = rows.get(item, (None, None))
    place = np.flatnonzero(found.items == number)
    score = float(found.scores[place[0]]) if len(place) else None
    note = None
    if published is not None and (score is None or abs(published - score) > SAME * (1 + abs(score))):
        if is_ruled:
            note = f"The published score is {published:.4f}: rules (rules.toml) have changed it."
        elif manifest.refresh is not None:
            note = f"The published score is {published:.4f}: a refresh has read newer events than this explanation."
        else:
            note = f"The published score is {published:.4f}."
    elif published is not None and found.is_new and place[0] >= manifest.k:
        note = "Its score is not among the best: a share of the places is for new items (candidates.new_items)."
    why_not = None
    if rank is None:
        why_not = found.refused or _left_out(manifest, history, taken, place, rows, found, is_ruled)
    return Explanation(
        user=user,
        item_id=item,
        title=title,
        day=manifest.day.isoformat(),
        model_version=found.version,
        k=manifest.k,
        rank=rank,
        place=int(place[0]) + 1 if len(place) else None,
        places=len(found.items),
        score=score,
        mean=found.mean,
        parts=found.parts,
        times_taken=len(taken),
        last_taken=None if newest is None else datetime.fromtimestamp(newest / 1e6, UTC).replace(tzinfo=None),
        why_not=why_not,
        note=note,
    )


def _left_out(
    manifest: Manifest,
    history: Histories,
    taken: IntArray,
    place: IntArray,
    rows: dict[str, tuple[int, float]],
    found: RankedItems,
    is_ruled: bool,
) -> str:
    """Why an item that can be recommended is not in the user's list."""
    if not len(place):
        seen = np.ones(len(taken), dtype=bool) if history.seen is None else history.seen[taken]
        if manifest.exclude_seen and seen.any():
            return "The user has seen the item, and candidates.exclude_seen = true."
        return "The item has no score for this user."
    if place[0] >= manifest.k:
        last = min((score for _, score in rows.values()), default=float(found.scores[manifest.k - 1]))
        return (
            f"By score it is in place {int(place[0]) + 1:,} of {len(found.items):,}, and the list ends with "
            f"{manifest.k:,} items, the last with a score of {last:.4f}."
        )
    if is_ruled:
        return (
            f"By score it is in place {int(place[0]) + 1:,}, but rules (rules.toml) have left it out, or put other "
            "items before it."
        )
    if manifest.refresh is not None:
        return "A refresh has changed the user's list since the night that this explanation is of."
    return (
        f"By score it is in place {int(place[0]) + 1:,}, but other items have taken the last places of the list: new "
        "items have a share of it (candidates.new_items)."
    )
