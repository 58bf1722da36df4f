"""Guards: figures of a table before it is published that are no errors in themselves, with bounds that a shop sets.

Two of them compare the table with the one before. Users are in shards by a hash of their id that depends on the number
of shards only, so parts of two tables that can share users are compared with each other and with no others: memory is
bounded by a shard, or, where the number of shards has changed, by DuckDB's limit.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from math import gcd
from pathlib import Path

import duckdb

from hmamba.config import GuardsConfig
from hmamba.contracts.guards import GUARDS, GuardName, GuardResult
from hmamba.errors import BusyError, explained
from hmamba.quality.expectations import Figure
from hmamba.statements import one, rows
from hmamba.text import printable, short

log = logging.getLogger("hmamba")

FIRST = 10
"""Number of items of each user's list that the guards look at."""

_COMPARING = ("churn", "users_lost")
_LEAST = ("coverage",)


@dataclass(frozen=True)
class Earlier:
    """The table that a new one is compared with.

    Attributes:
        day: its night.
        k: maximum number of rows of each user.
        parts: its files, in the order of the shards.
    """

    day: date
    k: int
    parts: tuple[Path, ...]


@dataclass(frozen=True)
class Guarding:
    """What a table is judged with.

    Attributes:
        config: the bounds.
        earlier: the table before, or why there is none to compare with.
        accepted: guards that do not stop this table.
        is_refresh: whether the table is that of a night with the rows of some users replaced.
        accept: shell command that accepts the guards named after it.
        then: what to do after that, in words.
    """

    config: GuardsConfig
    earlier: Earlier | str
    accepted: frozenset[GuardName] = frozenset()
    is_refresh: bool = False
    accept: str = ""
    then: str = ""

    def bounds(self, name: GuardName) -> tuple[float | None, float | None]:
        """The bound beyond which a guard warns, and the one beyond which it stops the night; None for no bound."""
        settings = self.config
        warn, stop = {
            "churn": (settings.warn_churn, settings.max_churn),
            "top_item": (settings.warn_top_item, settings.max_top_item),
            "coverage": (settings.warn_coverage, settings.min_coverage),
            "users_lost": (settings.warn_users_lost, settings.max_users_lost),
        }[name]
        if warn is not None and stop is not None:  # a default may be beyond the bound that stops
            warn = max(warn, stop) if name in _LEAST else min(warn, stop)
        return warn, stop

    def how_to_accept(self, broken: Sequence[Figure]) -> str:
        """How to publish a table that guards have stopped; empty if none of them is a guard."""
        names = [figure.name for figure in broken if figure.name in GUARDS]
        if not names:
            return ""
        settings = " and ".join(str(figure.broken_setting) for figure in broken if figure.name in GUARDS)
        return (
            f" If this table is what you want, let it through once: {self.accept} {' '.join(names)}, then {self.then}. "
            f"Otherwise find out what has changed, or change {settings}."
        )


@dataclass
class Guarded:
    """What was measured: figures to check, in words as well, and why a guard was skipped."""

    figures: list[Figure] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)
    skipped: dict[GuardName, str] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each guard that was skipped."""
        return tuple(f"{name} is not judged: {why}." for name, why in self.skipped.items())

    def in_words(self, figure: Figure) -> str:
        """A figure beyond its bound: the sentence of a guard, or the figure of another rule."""
        if figure.name not in self.words:
            return str(figure)
        bound = figure.least if figure.name in _LEAST else figure.most
        return f"{self.words[figure.name]}, {_side(figure.name)} than {figure.broken_setting} = {bound:g}"

    def results(self, guarding: Guarding, warned: frozenset[str]) -> dict[str, GuardResult]:
        """The results of a table that no guard stops, for the step metrics; warnings are logged."""
        found: dict[str, GuardResult] = {}
        for name, note in zip(self.skipped, self.notes, strict=True):
            warn, stop = guarding.bounds(name)
            found[name] = GuardResult(value=None, warn=warn, stop=stop, outcome="skipped", detail=note)
        for figure in self.figures:
            result = self._result(figure, guarding, figure.name in warned)
            if result.warning:
                log.warning("publish: %s", result.warning)
            found[figure.name] = result
        return {name: found[name] for name in GUARDS if name in found}

    def _result(self, figure: Figure, guarding: Guarding, is_warned: bool) -> GuardResult:
        (name,) = (name for name in GUARDS if name == figure.name)
        warn, stop = guarding.bounds(name)
        against = guarding.earlier.day if name in _COMPARING and isinstance(guarding.earlier, Earlier) else None
        beyond = stop is not None and (figure.value < stop if name in _LEAST else figure.value > stop)
        words = self.words[name]
        detail = f"{words[:1].upper()}{words[1:]}"
        if beyond:  # otherwise it would have stopped the night
            detail += f", {_side(name)} than {_stop_setting(name)} = {stop:g}, which was accepted for this table"
        elif is_warned:
            detail += f", {_side(name)} than publish.guards.warn_{name} = {warn:g}"
        return GuardResult(
            value=figure.value,
            warn=warn,
            stop=stop,
            against=against,
            outcome="accepted" if beyond else "warned" if is_warned else "passed",
            detail=f"{detail}.",
        )


def measure(
    connection: duckdb.DuckDBPyConnection,
    parts: Sequence[Path],
    k: int,
    users: int,
    distinct_items: int,
    guarding: Guarding,
) -> Guarded:
    """Measure the guards that have a bound.

    Args:
        connection: has the table ``eligible_items``, see sql/quality.sql.
        parts: the new table, one file for each shard, in their order.
        k: maximum number of rows of each user.
        users: number of users in the table.
        distinct_items: number of items in the table.
        guarding: bounds, and the table before.
    """
    guarded, first = Guarded(), min(k, FIRST)
    wanted = [name for name in GUARDS if guarding.bounds(name) != (None, None)]
    for name in wanted:
        match name:
            case "churn":
                found = _churn(connection, parts, first, guarding)
            case "users_lost":
                found = _users_lost(connection, parts, guarding)
            case "top_item":
                found = _top_item(connection, parts, users, first)
            case "coverage":
                found = _coverage(connection, distinct_items)
        if isinstance(found, str):
            guarded.skipped[name] = found
        else:
            value, words = found
            guarded.figures.append(_figure(name, value, guarding))
            guarded.words[name] = words
    for note in guarded.notes:
        log.info("publish: %s", note)
    return guarded


def _figure(name: GuardName, value: float, guarding: Guarding) -> Figure:
    """A guard with its bounds. One that was accepted warns in the place of stopping."""
    warn, stop = guarding.bounds(name)
    setting, is_least = _stop_setting(name), name in _LEAST
    warn_setting = f"publish.guards.warn_{name}"
    if name in guarding.accepted:
        if warn is None:
            warn, warn_setting = stop, setting
        stop = None
    return Figure(
        name,
        value,
        least=stop if is_least else None,
        most=None if is_least else stop,
        meaning=_MEANINGS[name] + ("; accepted for this table" if name in guarding.accepted else ""),
        unit="share",
        least_setting=setting if is_least and stop is not None else None,
        most_setting=setting if not is_least and stop is not None else None,
        warn_least=warn if is_least else None,
        warn_most=None if is_least else warn,
        warn_setting=None if warn is None else warn_setting,
    )


_MEANINGS: dict[GuardName, str] = {
    "churn": f"the first {FIRST} items of each user that were not among them in the table before, of all of them",
    "top_item": f"users with the most recommended item among their first {FIRST}, of all users",
    "coverage": "items in the table, of all items that may be recommended",
    "users_lost": "users of the table before without rows, of all users of that table",
}


def _stop_setting(name: GuardName) -> str:
    return f"publish.guards.{'min' if name in _LEAST else 'max'}_{name}"


def _side(name: str) -> str:
    return "less" if name in _LEAST else "more"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


_Found = tuple[float, str] | str
"""A figure and what it says; or why there is none."""


def _churn(connection: duckdb.DuckDBPyConnection, parts: Sequence[Path], first: int, guarding: Guarding) -> _Found:
    if guarding.is_refresh:
        return "a refresh changes only the users with new events"
    if isinstance(guarding.earlier, str):
        return guarding.earlier
    before = guarding.earlier
    if min(before.k, FIRST) != first:
        return f"candidates.k was {before.k} on {before.day}, so that the first {first} items cannot be compared"
    counts = _compared(connection, "guards/churn", parts, before, {"first": first})
    if isinstance(counts, str):
        return counts
    if not counts["entries"]:
        return f"no user is also in the table of {before.day}"
    share = counts["new_entries"] / counts["entries"]
    return share, (
        f"{_percent(share)} of the first {first} items of {counts['users']:,} users were not among their first {first} "
        f"in the table of {before.day} (churn)"
    )


def _users_lost(connection: duckdb.DuckDBPyConnection, parts: Sequence[Path], guarding: Guarding) -> _Found:
    if isinstance(guarding.earlier, str):
        return guarding.earlier
    counts = _compared(connection, "guards/users_lost", parts, guarding.earlier, {})
    if isinstance(counts, str):
        return counts
    lost, before = counts["users_lost"], counts["users_before"]
    if not before:
        return f"the table of {guarding.earlier.day} is empty"
    return lost / before, (
        f"{lost:,} of {before:,} users of the table of {guarding.earlier.day} have no rows ({_percent(lost / before)}, "
        "users_lost)"
    )


def _compared(
    connection: duckdb.DuckDBPyConnection, name: str, parts: Sequence[Path], before: Earlier, bound: dict[str, int]
) -> Counter[str] | str:
    """Sums of a statement over the groups of parts that can share users; or why the earlier table cannot be read."""
    counts: Counter[str] = Counter()
    try:
        for now, earlier in aligned(parts, before.parts):
            counts.update(one(connection, name, {"parts": now, "earlier": earlier, **bound}))
    except duckdb.Error as error:  # the parts of the new table have been read before
        if isinstance(explained(error), BusyError):
            raise
        log.warning("publish: the table of %s cannot be compared: %s", before.day, error)
        return f"the table of {before.day} cannot be read"
    return counts


def aligned(parts: Sequence[Path], earlier: Sequence[Path]) -> Iterator[tuple[list[str], list[str]]]:
    """Groups of files of two tables, so that a user is in one group only.

    The shard of a user is a hash modulo the number of shards, so shards share users only if their numbers agree modulo
    the greatest common divisor of the numbers of shards.
    """
    step = gcd(len(parts), len(earlier))
    for start in range(step):
        yield list(map(str, parts[start::step])), list(map(str, earlier[start::step]))


def _top_item(connection: duckdb.DuckDBPyConnection, parts: Sequence[Path], users: int, first: int) -> _Found:
    found = rows(connection, "guards/top_item", {"parts": list(map(str, parts)), "first": first})
    if not found:
        return "the table has no rows"
    share = found[0]["users"] / users
    return share, (
        f"{_percent(share)} of users have the item {short(printable(found[0]['item_id']))!r} among their first {first} "
        "(top_item)"
    )


def _coverage(connection: duckdb.DuckDBPyConnection, distinct_items: int) -> _Found:
    eligible = one(connection, "guards/eligible")["items"]
    if not eligible:
        return "no item may be recommended"
    share = distinct_items / eligible
    return share, (
        f"{distinct_items:,} of {eligible:,} items that may be recommended are in the table ({_percent(share)}, "
        "coverage)"
    )
