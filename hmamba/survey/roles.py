"""Which column is what, by the names that exports use and by what the values are like.

A name says what a column may be (``visitorid``, ``user_id`` and ``CustomerKey`` are users), its values whether it can
be. Where several columns can be the same thing, all are kept, the likeliest first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import duckdb
import pyarrow as pa

from hmamba.warehouse.tables import one

Role = Literal["user_id", "item_id", "event_time", "position", "weight", "event_type"]
ROLES: tuple[Role, ...] = ("user_id", "item_id", "event_time", "position", "weight", "event_type")
TimeFormat = Literal["auto", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns"]

# Likeliest first: an account identifies a person better than a session does, a session better than a device.
_USERS = (
    "user customer client member household visitor reviewer buyer shopper cust uid subscriber person profile player "
    "listener viewer reader guest patron consumer student learner account session cookie device browser"
)
_ITEMS = (
    "item product article sku asin stock movie film book isbn song track artist album video game app course news post "
    "content business venue poi place location restaurant hotel listing property recipe show anime beer iid pid "
    "document doc resource offer ad job material good merchant shop store"
)
_POSITIONS = "position pos sequence seq order step index idx rank"
_WEIGHTS = (
    "rating star overall score stars weight quantity qty count plays playcount listens listencount units confidence "
    "strength preference"
)
_EVENTS = "event eventtype eventname action actiontype behavior behaviortype behaviour behaviourtype interaction " + (
    "interactiontype activity activitytype feedback type kind verb"
)
_TIMES = (
    "eventtimestamp eventtime timestamp unixreviewtime unixtimestamp unixtime epoch ts datetime time occurredat at "
    "date day created when"
)
_ID_WORDS = "identifier number uuid guid hash code key ids id num nr no sk pk fk idx"
_BESIDE_ID = {
    "anonymous",
    "anon",
    "external",
    "internal",
    "unique",
    "masked",
    "hashed",
    "encrypted",
    "full",
    "my",
    "dim",
}
_NOT_OF_THE_EVENT = {
    "birth",
    "born",
    "release",
    "released",
    "updated",
    "modified",
    "end",
    "expiry",
    "expires",
    "signup",
}
_MOST_TYPES = 40
_SURE = 0.95
"""Share of a column's values that have to be of a kind."""


@dataclass(frozen=True)
class Profile:
    """What the values of a column are like; counts are of the rows looked at. Numbers are None where there are none."""

    name: str
    type: pa.DataType
    rows: int
    present: int
    distinct_values: int
    numbers: int
    whole_numbers: int
    smallest: float | None
    middle: float | None
    largest: float | None
    times: int
    offsets: int
    length: float | None
    example: str | None

    def share(self, count: int) -> float:
        """Share of the values that are there."""
        return count / self.present if self.present else 0.0

    @property
    def is_text(self) -> bool:
        """Whether the file keeps the column as text; what the text holds is another matter."""
        return bool(pa.types.is_string(self.type) or pa.types.is_large_string(self.type))

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers."""
        return bool(self.present) and self.whole_numbers == self.present

    @property
    def time_format(self) -> TimeFormat | None:
        """How a time is written in the column; None if it holds none that can be read."""
        if pa.types.is_temporal(self.type) and not pa.types.is_time(self.type):
            return "auto"
        if self.share(self.numbers) >= _SURE and self.middle is not None:
            return unit_of(self.middle)
        return "auto" if self.share(self.times) >= _SURE else None


def unit_of(number: float) -> TimeFormat | None:
    """The unit in which a number is a moment between 1973 and 2100."""
    units: tuple[TimeFormat, ...] = ("epoch_s", "epoch_ms", "epoch_us", "epoch_ns")
    for power, unit in enumerate(units):
        if 1e8 <= number / 1000**power <= 4.2e9:
            return unit
    return None


def profiles(connection: duckdb.DuckDBPyConnection, table: pa.Table, null_words: Sequence[str]) -> dict[str, Profile]:
    """The profile of each column of a table, by its name."""
    return {field.name: _profile(connection, table, field, null_words) for field in table.schema}


def _profile(
    connection: duckdb.DuckDBPyConnection, table: pa.Table, field: pa.Field, null_words: Sequence[str]
) -> Profile:
    connection.register("chunk", pa.table({"value": table[field.name]}))
    try:
        return Profile(
            name=field.name, type=field.type, **one(connection, "survey/profile", {"null_words": list(null_words)})
        )
    finally:
        connection.unregister("chunk")


def words_of(name: str) -> list[str]:
    """The words of a column's name in lower case, whatever convention joins them."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]


def _noun_rank(name: str, nouns: str) -> int | None:
    """How likely a name is that of the id of one of ``nouns``, 0 the likeliest; None if it is another thing's."""
    ranked = nouns.split()
    words = [word for word in words_of(name) if word not in _BESIDE_ID]
    kept = [word for word in words if word not in _ID_WORDS.split()]
    compact = "".join(kept)
    bare = len(kept) == len(words)
    candidates = [(compact, bare)]
    for ending in _ID_WORDS.split():
        if compact.endswith(ending):
            candidates.append((compact.removesuffix(ending), False))
    for noun, is_bare in candidates:
        for form in (noun, noun.removesuffix("s"), noun.removeprefix("parent")):
            if form in ranked:
                return 4 * ranked.index(form) + 2 * is_bare + (form != noun)
    return None


def _exact_rank(name: str, nouns: str, last_words: str = "") -> int | None:
    """How likely a name is one of ``nouns`` as it stands, or ends in one of ``last_words``; 0 is the likeliest."""
    ranked, words = nouns.split(), words_of(name)
    if "".join(words) in ranked:
        return 2 * ranked.index("".join(words))
    if words and words[-1] in last_words.split():
        return 2 * ranked.index(words[-1]) + 1
    return None


def _time_rank(profile: Profile) -> int | None:
    words = set(words_of(profile.name))
    if profile.time_format is None:
        return None
    rank = _exact_rank(profile.name, _TIMES, _TIMES)
    is_time = pa.types.is_temporal(profile.type) or profile.share(profile.numbers) < _SURE
    if rank is None:
        compact = "".join(words_of(profile.name))
        named = any(compact.endswith(word) for word in ("timestamp", "time", "date"))
        rank = 100 if named else 200
        if not named and not is_time:
            return None  # a number that could be an epoch is more likely an id
    return rank + (1000 if words & _NOT_OF_THE_EVENT else 0)


def _rank(role: Role, profile: Profile) -> int | None:
    """How likely a column plays a role, 0 the likeliest; None if it cannot."""
    if not profile.present:
        return None
    if role in ("user_id", "item_id"):
        if pa.types.is_nested(profile.type) or pa.types.is_temporal(profile.type):
            return None
        if profile.share(profile.numbers) == 1 and not profile.is_whole:
            return None
        return _noun_rank(profile.name, _USERS if role == "user_id" else _ITEMS)
    if role == "event_time":
        return _time_rank(profile)
    if role == "position":
        return _exact_rank(profile.name, _POSITIONS, "position sequence seq") if profile.is_whole else None
    if role == "weight":
        fits = profile.share(profile.numbers) >= _SURE and not pa.types.is_temporal(profile.type)
        return _exact_rank(profile.name, _WEIGHTS, "rating stars score quantity qty") if fits else None
    fits = profile.is_text and profile.distinct_values <= _MOST_TYPES and profile.share(profile.numbers) < 0.5
    return _exact_rank(profile.name, _EVENTS) if fits else None


def candidates(columns: Mapping[str, Profile]) -> dict[Role, list[str]]:
    """Columns that can play each role, the likeliest first; a column plays one role only."""
    ranked: dict[Role, list[str]] = {}
    for role in ROLES:
        ranks = {name: rank for name, profile in columns.items() if (rank := _rank(role, profile)) is not None}
        ranked[role] = sorted(ranks, key=lambda name, ranks=ranks: ranks[name])  # type: ignore[misc]
    taken: set[str] = set()
    for role in ROLES:
        ranked[role] = [name for name in ranked[role] if name not in taken]
        taken.update(ranked[role][:1])
    return ranked
