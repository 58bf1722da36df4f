"""Recognise the role of each column by its name and its values.

The name decides which role is possible (``visitorid``, ``user_id`` and ``CustomerKey`` are users), the values whether
the column can have it. All candidates of a role are kept, the most likely first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import duckdb
import pyarrow as pa

from hmamba.sources.times import TimeFormat, unit_of
from hmamba.statements import one

Role = Literal["user_id", "item_id", "event_time", "position", "weight", "event_type"]
ROLES: tuple[Role, ...] = ("user_id", "item_id", "event_time", "position", "weight", "event_type")
_TEXTS: tuple[Role, ...] = ("user_id", "item_id", "event_type")

# Most likely first: an account identifies a person better than a session, and a session better than a device.
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
_BESIDE_ID = "anonymous anon external internal unique masked hashed encrypted full my dim"
_NOT_OF_THE_EVENT = "birth born release released updated modified end expiry expires signup"
MOST_TYPES = 40
"""Maximum number of event types."""
_COMPLETE = 0.9
"""Minimum share of rows with a value in a user or item column; columns with more gaps come last."""
_SURE = 0.95
"""Minimum share of a column's values that must be numbers, or times."""


@dataclass(frozen=True)
class Profile:
    """Statistics of a column's values in the sampled rows.

    ``middle`` is the median of its numbers, None if there are none. ``strange`` is the first value that is neither a
    number nor a time; ``strange_values`` is the number of such values.
    """

    name: str
    type: pa.DataType
    rows: int
    present: int
    distinct_values: int
    numbers: int
    whole_numbers: int
    middle: float | None
    times: int
    offsets: int
    strange_values: int
    strange: str | None
    example: str | None

    def share(self, count: int) -> float:
        """``count`` as a share of the values that are present."""
        return count / self.present if self.present else 0.0

    @property
    def is_text(self) -> bool:
        """Whether the column is stored as text; the text may still hold numbers or times."""
        return bool(pa.types.is_string(self.type) or pa.types.is_large_string(self.type))

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers."""
        return bool(self.present) and self.whole_numbers == self.present

    @property
    def time_format(self) -> TimeFormat | None:
        """Format of the times in the column; None if it holds no readable times."""
        if pa.types.is_temporal(self.type) and not pa.types.is_time(self.type):
            return "auto"
        if self.share(self.numbers) >= _SURE and self.middle is not None:
            return unit_of(self.middle)
        return "auto" if self.share(self.times) >= _SURE else None


def profiles(connection: duckdb.DuckDBPyConnection, table: pa.Table, null_words: Sequence[str]) -> dict[str, Profile]:
    """The profile of each column of a table, by name."""
    found = {}
    for field in table.schema:
        connection.register("chunk", pa.table({"value": table[field.name]}))
        try:
            figures = one(connection, "survey/profile", {"null_words": list(null_words)})
        finally:
            connection.unregister("chunk")
        found[field.name] = Profile(name=field.name, type=field.type, **figures)
    return found


def words_of(name: str) -> list[str]:
    """The words of a column's name in lower case; handles snake case, camel case and other separators."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]


def _noun_rank(name: str, nouns: str) -> int | None:
    """Rank of a name as the id of one of ``nouns``, 0 the most likely; None if it does not match."""
    ranked = nouns.split()
    words = [word for word in words_of(name) if word not in _BESIDE_ID.split()]
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
    """Rank of a name that equals one of ``nouns`` or ends in one of ``last_words``, 0 the most likely; else None."""
    ranked, words = nouns.split(), words_of(name)
    if "".join(words) in ranked:
        return 2 * ranked.index("".join(words))
    if words and words[-1] in last_words.split():
        return 2 * ranked.index(words[-1]) + 1
    return None


def time_name_rank(name: str) -> int | None:
    """Rank of a name as that of a time, 0 the most likely; None if it does not match."""
    rank = _exact_rank(name, _TIMES, _TIMES)
    if rank is None and "".join(words_of(name)).endswith(("timestamp", "time", "date")):
        rank = 100
    return rank


def _time_rank(profile: Profile) -> int | None:
    rank = time_name_rank(profile.name)
    if rank is None:
        if not pa.types.is_temporal(profile.type) and profile.share(profile.numbers) >= _SURE:
            return None  # numbers in the range of an epoch are more likely ids
        rank = 200
    return rank + (1000 if set(words_of(profile.name)) & set(_NOT_OF_THE_EVENT.split()) else 0)


def unfit(role: Role, profile: Profile) -> str | None:
    """Why a column cannot have a role, as a phrase that follows its name; None if it can."""
    if not profile.present:
        return f"is empty in the {profile.rows:,} sampled rows"
    if role == "event_time":
        return None if profile.time_format is not None else _no_time(profile)
    if pa.types.is_nested(profile.type) or (role in _TEXTS and pa.types.is_temporal(profile.type)):
        return f"is of type {profile.type}"
    such = "" if profile.strange is None else f", such as {profile.strange!r}"
    if role in ("user_id", "item_id") and profile.share(profile.numbers) == 1 and not profile.is_whole:
        return "holds numbers that are not whole"
    if role == "position" and not profile.is_whole:
        return f"holds values that are not whole numbers{such}"
    if role == "weight" and profile.share(profile.numbers) < _SURE:
        return f"holds values that are not numbers{such}"
    if role == "event_type" and profile.distinct_values > MOST_TYPES:
        return f"holds {profile.distinct_values:,} different values; at most {MOST_TYPES} event types are supported"
    return None


def _no_time(profile: Profile) -> str:
    if profile.share(profile.numbers) >= _SURE:
        return f"holds numbers such as {profile.middle:.15g}, which are not times between 1973 and 2100 in any unit"
    if profile.strange is None:
        return f"holds numbers in {profile.share(profile.numbers):.0%} of its values and dates in the others"
    share = profile.share(profile.strange_values)
    often = "" if share == 1 else f" ({share:.1%} of its values are unreadable)"
    return f"holds {profile.strange!r}{often}, which is neither ISO 8601 nor a number"


def _rank(role: Role, profile: Profile) -> int | None:
    """Rank of a column for a role, 0 the most likely; None if it cannot have it."""
    if unfit(role, profile) is not None:
        return None
    if role in ("user_id", "item_id"):
        return _noun_rank(profile.name, _USERS if role == "user_id" else _ITEMS)
    if role == "event_time":
        return _time_rank(profile)
    if role == "position":
        return _exact_rank(profile.name, _POSITIONS, "position sequence seq")
    if role == "weight":
        return _exact_rank(profile.name, _WEIGHTS, "rating stars score quantity qty")
    return _exact_rank(profile.name, _EVENTS) if profile.is_text and profile.share(profile.numbers) < 0.5 else None


def _order(role: Role, profile: Profile) -> tuple[bool, int] | None:
    """Sort key of a column for a role, the most likely first; None if it cannot have it."""
    rank = _rank(role, profile)
    has_gaps = role in ("user_id", "item_id") and profile.present < _COMPLETE * profile.rows
    return None if rank is None else (has_gaps, rank)


def candidates(columns: Mapping[str, Profile]) -> dict[Role, list[str]]:
    """Candidate columns of each role, the most likely first; the best column of a role is not used for later roles."""
    ranked: dict[Role, list[str]] = {}
    for role in ROLES:
        orders = {name: order for name, profile in columns.items() if (order := _order(role, profile)) is not None}
        ranked[role] = sorted(orders, key=orders.__getitem__)
    taken: set[str] = set()
    for role in ROLES:
        ranked[role] = [name for name in ranked[role] if name not in taken]
        taken.update(ranked[role][:1])
    return ranked
