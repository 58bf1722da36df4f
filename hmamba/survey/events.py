"""Propose weights and targets for event types, by the words in their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hmamba.config import EventType
from hmamba.survey.roles import words_of


@dataclass(frozen=True)
class Meaning:
    """The proposed settings of an event type, and the reason."""

    type: EventType
    why: str


_NAMES = {
    "undone": (
        "remove removed delete deleted return returned refund refunded cancel cancelled dislike disliked unlike "
        "unliked skip skipped unsubscribe unsubscribed unfollow unfollowed unsave unfavorite unfavourite"
    ),
    "considered": (
        "cart basket add addtocart wishlist wish favorite favourite fav like liked save saved bookmark bookmarked "
        "share reserve lead checkout"
    ),
    "looked": "view viewed pageview click clicked detail details browse search pv visit visited open opened scroll",
    "shown": "impression impressions show shown display displayed exposure exposed hover",
    "consumed": (
        "purchase purchased buy bought order ordered transaction sale sold pay paid payment conversion convert rent "
        "rented watch watched play played listen listened read complete completed finish finished subscribe booking "
        "booked"
    ),
}
"""Words of each kind of event. A name with words of several kinds belongs to the first."""
_STRENGTHS = ("consumed", "considered", "unknown", "looked", "shown", "undone")


def _kind(name: str) -> str:
    words = words_of(name)
    forms = {*words, "".join(words)}
    return next((kind for kind, known in _NAMES.items() if forms & set(known.split())), "unknown")


def meanings(names: Sequence[str]) -> dict[str, Meaning]:
    """The proposed settings of each type. Types of the strongest kind present are targets."""
    kinds = {name: _kind(name) for name in names}
    strongest = next((kind for kind in _STRENGTHS if kind in kinds.values()), None)
    return {name: _meaning(kind, kind == strongest) for name, kind in kinds.items()}


def _meaning(kind: str, is_strongest: bool) -> Meaning:
    weights = {"consumed": 1.0, "considered": 0.5, "looked": 0.2, "shown": 0.1, "undone": 0.0, "unknown": 0.2}
    why = {
        "consumed": "what the model learns to predict",
        "considered": "a sign of interest, read but not predicted",
        "looked": "a weak sign of interest, read but not predicted",
        "shown": "the item was only displayed, read but not predicted",
        "undone": "undoes an earlier event: weight 0",
        "unknown": "unknown type: check its meaning",
    }[kind]
    if is_strongest and kind != "consumed":
        return Meaning(EventType(weight=1.0), "the strongest type in the data: what the model learns to predict")
    is_target = kind == "consumed"
    return Meaning(EventType(weight=weights[kind], target=is_target, seen=is_target), why)
