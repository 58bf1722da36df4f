"""Choose the interactions among groups of files, and the column of each role."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from hmamba.config import InteractionColumns, SourceConfig
from hmamba.errors import ConfigError, InputError
from hmamba.quality.row_rules import shown
from hmamba.sources.files import FilePart
from hmamba.survey.groups import MOST_EMPTY, Group
from hmamba.survey.roles import ROLES, Role, candidates, time_name_rank, unfit
from hmamba.survey.sample import first_malformed

_NEEDED: dict[Role, str] = {"user_id": "the user", "item_id": "the item", "event_time": "the time of the event"}
_NUMBER = re.compile(r"\d+(\.\d+)?")
_READABLE_TIMES = (
    "Times are read as ISO 8601 text (2024-05-31, 2024-05-31T18:30:00Z), as timestamps or dates of Parquet, or as "
    "numbers of seconds, milliseconds, microseconds or nanoseconds since 1970. Write them so, or give a column that "
    "orders each user's events: --column position=NAME."
)


def parse_given(texts: Sequence[str]) -> dict[Role, str]:
    """Parse the values of ``--column``, each ``ROLE=NAME``.

    Raises:
        ConfigError: a value does not have this form, or its role is unknown.
    """
    given: dict[Role, str] = {}
    for text in texts:
        name, equals, column = text.partition("=")
        role = next((role for role in ROLES if role == name), None)
        if role is None or not equals or not column:
            raise ConfigError(f"--column {text}: write ROLE=NAME, with a role of {', '.join(ROLES)}.")
        given[role] = column
    return given


def interactions(groups: Sequence[Group], given: Mapping[Role, str]) -> tuple[Group, list[Group]]:
    """The largest group of files that can be interactions, and the other groups.

    Raises:
        InputError: there is none; the message names what the most likely group lacks, and its columns.
    """
    known = [_with(one, given) for one in groups if one.head.num_rows]
    if not known:
        raise _without_rows(groups[0])
    fitting = [one for one in known if one.is_events and set(given.values()) <= set(one.columns)]
    if fitting:
        chosen = fitting[0]
        return chosen, [one for one in known if one is not chosen]
    best = max(known, key=lambda one: sum(bool(one.roles[role]) for role in _NEEDED))
    raise InputError(_nothing_fits(best, given))


def _with(one: Group, given: Mapping[Role, str]) -> Group:
    """The group with the given columns first in their roles, if it has them."""
    own = {role: column for role, column in given.items() if column in one.columns}
    free = {name: profile for name, profile in one.columns.items() if name not in own.values()}
    roles = candidates(free)
    for role, column in own.items():
        roles[role] = [column, *roles[role]]
    return dataclasses.replace(one, roles=roles)


def _without_rows(one: Group) -> InputError:
    for file in one.files[:MOST_EMPTY]:
        malformed = first_malformed(file)
        if malformed is not None:
            line, text = malformed
            reason = f"{file.name}: none of its rows can be read, such as line {line}: {shown(text)}."
            return InputError(f"{reason} {FilePart.of(file, '').cure(text) or 'Write it again.'}")
    return InputError(f"{one.shown} {'holds' if len(one.files) == 1 else 'hold'} no rows. Give files with events.")


def _nothing_fits(one: Group, given: Mapping[Role, str]) -> str:
    has = f"It has the columns {', '.join(map(repr, one.columns))}."
    unknown = [column for column in given.values() if column not in one.columns]
    if unknown:
        return f"{one.files[0].name} has no column {unknown[0]!r}. {has} Correct --column."
    values = [name for name in one.columns if _NUMBER.fullmatch(name)]
    if values:
        has += f" {values[0]!r} looks like a value: if the first line is no header, write the columns' names above it."
    role = next(role for role in _NEEDED if not one.roles[role])
    cure = f"Say which it is with --column {role}=NAME, or start with `hmamba init ROOT` and set source.columns.{role}."
    if role == "event_time":
        taken = {*one.roles["user_id"][:1], *one.roles["item_id"][:1]}
        others = [profile for profile in one.columns.values() if profile.name not in taken]
        reasons = {
            profile.name: reason
            for profile in others
            if time_name_rank(profile.name) is not None and (reason := unfit(role, profile))
        }
        has += "".join(f" {name!r} {reason}." for name, reason in reasons.items())
        cure += " Without any time, give a column that orders each user's events: --column position=NAME."
        if reasons and not any(profile.time_format for profile in others):
            cure = _READABLE_TIMES
    return f"{one.files[0].name}: no column looks like {_NEEDED[role]}. {has} {cure}"


def choose(one: Group, given: Mapping[Role, str]) -> SourceConfig:
    """Settings with the most likely column of each role, without the path. A position is used only without a time.

    Raises:
        InputError: a given column cannot have its role.
    """
    for role, column in given.items():
        reason = unfit(role, one.columns[column])
        if reason is not None:
            cure = _READABLE_TIMES if role == "event_time" else "Name another column with --column, or leave it out."
            raise InputError(f"{one.files[0].name}: column {column!r} {reason}. {cure}")
    chosen = {role: names[0] for role, names in one.roles.items() if names}
    if "event_time" in chosen and ("event_time" in given or "position" not in given):
        chosen.pop("position", None)
        time_format = one.columns[chosen["event_time"]].time_format
        assert time_format is not None  # candidates and given columns are readable times
    else:
        chosen.pop("event_time", None)
        time_format = "auto"
    if "weight" in chosen and "weight" not in given:
        weight = one.columns[chosen["weight"]]
        if weight.numbers < 0.99 * weight.rows:
            del chosen["weight"]  # rows without a number would be refused
    return SourceConfig(columns=InteractionColumns(**chosen), time_format=time_format)
