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


_UNDONE = "remove removed delete deleted return returned refund refunded cancel cancelled dislike disliked skip skipped"
_WANTED = (
    "purchase purchased buy bought order ordered transaction checkout sale sold pay paid payment conversion convert "
    "rent rented watch watched play played listen listened read complete completed finish finished subscribe booking "
    "booked"
)
_CONSIDERED = (
    "cart basket add addtocart wishlist wish favorite favourite fav like liked save saved bookmark bookmarked share "
    "reserve lead"
)
_LOOKED = (
    "view viewed pageview click clicked impression impressions detail details browse show shown display hover search "
    "pv visit visited open opened scroll"
)


def _has(words: Sequence[str], known: str) -> bool:
    return bool({*words, "".join(words)} & set(known.split()))


def _kind(name: str) -> str:
    """undone, wanted, considered, looked or unknown."""
    words = words_of(name)
    if _has(words, _UNDONE):
        return "undone"
    if _has(words, _CONSIDERED):
        return "considered"
    if _has(words, _LOOKED):
        return "looked"
    return "wanted" if _has(words, _WANTED) else "unknown"


def meanings(names: Sequence[str]) -> dict[str, Meaning]:
    """What each type is proposed to mean. At least one is a target: the strongest kind that there is."""
    kinds = {name: _kind(name) for name in names}
    strongest = next(kind for kind in ("wanted", "considered", "unknown", "looked", "undone") if kind in kinds.values())
    return {name: _meaning(kind, kind == strongest) for name, kind in kinds.items()}


def _meaning(kind: str, is_strongest: bool) -> Meaning:
    weights = {"wanted": 1.0, "considered": 0.5, "looked": 0.2, "undone": 0.0, "unknown": 0.2}
    why = {
        "wanted": "what the model learns to predict",
        "considered": "a sign of interest, read but not predicted",
        "looked": "a weak sign of interest, read but not predicted",
        "undone": "takes something back or away: read without weight",
        "unknown": "the name says nothing: check what it means",
    }[kind]
    if is_strongest and kind != "wanted":
        return Meaning(EventType(weight=1.0), "the strongest type that there is: what the model learns to predict")
    wanted = kind == "wanted"
    return Meaning(EventType(weight=weights[kind], target=wanted, seen=wanted), why)
