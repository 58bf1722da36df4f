"""What types of events usually mean, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hmamba.config import EventType
from hmamba.survey.roles import words_of


@dataclass(frozen=True)
class Meaning:
    """What a type is proposed to mean, and why."""

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
    "wanted": (
        "purchase purchased buy bought order ordered transaction sale sold pay paid payment conversion convert rent "
        "rented watch watched play played listen listened read complete completed finish finished subscribe booking "
        "booked"
    ),
}
"""Words of each kind. A name with words of several kinds is of the first."""
_STRENGTHS = ("wanted", "considered", "unknown", "looked", "shown", "undone")


def _kind(name: str) -> str:
    words = words_of(name)
    said = {*words, "".join(words)}
    return next((kind for kind, known in _NAMES.items() if said & set(known.split())), "unknown")


def meanings(names: Sequence[str]) -> dict[str, Meaning]:
    """What each type is proposed to mean. Those of the strongest kind that there is are targets."""
    kinds = {name: _kind(name) for name in names}
    strongest = next((kind for kind in _STRENGTHS if kind in kinds.values()), None)
    return {name: _meaning(kind, kind == strongest) for name, kind in kinds.items()}


def _meaning(kind: str, is_strongest: bool) -> Meaning:
    weights = {"wanted": 1.0, "considered": 0.5, "looked": 0.2, "shown": 0.1, "undone": 0.0, "unknown": 0.2}
    why = {
        "wanted": "what the model learns to predict",
        "considered": "a sign of interest, read but not predicted",
        "looked": "a weak sign of interest, read but not predicted",
        "shown": "the item was only displayed, read but not predicted",
        "undone": "undoes an earlier event: weight 0",
        "unknown": "unknown type: check its meaning",
    }[kind]
    if is_strongest and kind != "wanted":
        return Meaning(EventType(weight=1.0), "the strongest type that there is: what the model learns to predict")
    wanted = kind == "wanted"
    return Meaning(EventType(weight=weights[kind], target=wanted, seen=wanted), why)
