"""Propose a configuration for files, with the reason for each setting.

Each choice states what it is based on and names other columns that could be meant. If no column fits a required role,
there is an error and no proposal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from hmamba import clock
from hmamba.config import CandidatesConfig, Config, SourceConfig, parse
from hmamba.errors import InputError
from hmamba.recipe import Recipe
from hmamba.sources.discover import SourceFile
from hmamba.statements import statement
from hmamba.storage.layout import Layout
from hmamba.survey.catalogue import CatalogueFound, find_catalogue
from hmamba.survey.choose import choose, interactions
from hmamba.survey.events import Meaning, meanings
from hmamba.survey.groups import Group, describe, files_of, gather, group, needs_links, pattern_of
from hmamba.survey.measure import REPEATS_FROM, Figures, items, measure, repeats, typical_user
from hmamba.survey.roles import MOST_TYPES, ROLES, Role
from hmamba.survey.sample import samples_of, spread
from hmamba.text import counted, short
from hmamba.warehouse.connection import in_memory

_LEAST_K, _MOST_K = 10, 100
_MOST_BESIDE = 20
_UNITS = {"epoch_s": "seconds", "epoch_ms": "milliseconds", "epoch_us": "microseconds", "epoch_ns": "nanoseconds"}
_WORDS: dict[Role, str] = {
    "user_id": "user",
    "item_id": "item",
    "event_time": "time",
    "position": "order",
    "weight": "weight",
    "event_type": "event type",
}
_DEFAULTS = Config()


@dataclass(frozen=True)
class Choice:
    """One line of the proposal: its subject, the finding behind it, and the setting if there is one."""

    what: str
    seen: str
    key: str | None = None
    value: Any = None


@dataclass(frozen=True)
class Proposal:
    """A proposed configuration.

    ``choices`` are in the order of the configuration; ``types`` are the proposed event types; ``ratings`` are the
    bounds of the ratings, if there are any; ``remarks`` are messages for the user; ``day`` is the UTC day of the first
    night.
    """

    choices: tuple[Choice, ...]
    types: Mapping[str, Meaning]
    ratings: tuple[float, float] | None
    remarks: tuple[str, ...]
    day: date

    def values(self) -> dict[str, Any]:
        """The settings, nested as in TOML."""
        result: dict[str, Any] = {}
        for choice in self.choices:
            if choice.key is not None:
                place = result
                *sections, key = choice.key.split(".")
                for section in sections:
                    place = place.setdefault(section, {})
                place[key] = choice.value
        if self.types:
            result["events"] = {name: meaning.type.model_dump() for name, meaning in self.types.items()}
        return result

    def config(self) -> Config:
        """The proposal as a configuration."""
        return parse(self.values(), "the proposal")


def propose(layout: Layout, places: Sequence[str], given: Mapping[Role, str]) -> Proposal:
    """Examine files and propose a configuration for them. Writes nothing under the root.

    Args:
        layout: the root that the configuration is for.
        places: files, folders and globs.
        given: known columns, by role.

    Raises:
        InputError: there is nothing to read, or no column for a required role; the message names the columns.
    """
    paths, null_words = gather(places), _DEFAULTS.source.null_words
    with in_memory() as connection:
        connection.execute(statement("ingest/set_time_zone"), {"zone": "UTC"})
        groups, unreadable = group(connection, describe(paths, layout.root), null_words)
        if not groups:
            raise InputError(f"--from {' '.join(places)}: nothing can be read. {' '.join(unreadable)}")
        events, others = interactions(groups, given)
        source = choose(events, given)
        with samples_of(spread(events.files)) as samples:
            measured = measure(connection, events.files, samples, source)
        figures = measured.figures
        beside, _ = group(connection, _beside(events, paths, layout), null_words)
        catalogue, doubts = find_catalogue(connection, [*others, *beside], source)
        types = {} if source.columns.event_type is None else meanings(list(figures.types)[:MOST_TYPES])
        targets = [name for name, meaning in types.items() if meaning.type.target] if types else None
        repeated = repeats(connection, targets)
        found, typical = items(connection, targets), typical_user(connection, targets)
    return Proposal(
        choices=(
            *_source(layout, events, places, source, figures),
            *_catalogue(layout, catalogue),
            *_oldest(figures),
            *_published(figures, found, repeated, targets),
            _training(figures, typical, exclude_seen=repeated < REPEATS_FROM),
        ),
        types=types,
        ratings=figures.weights if _is_rating(source.columns.weight) else None,
        remarks=(
            *doubts,
            *_remarks(events, others, catalogue, source, figures, [*unreadable, *measured.problems]),
        ),
        day=clock.now().date() if figures.newest is None else figures.newest.date(),
    )


def _beside(events: Group, paths: Sequence[Path], layout: Layout) -> list[SourceFile]:
    """Data files beside the interactions that were not given; the catalogue may be among them."""
    folder = events.files[0].path.parent
    near = [path for path in files_of(folder)[0] if path.parent == folder and path not in set(paths)]
    return describe(near[:_MOST_BESIDE], layout.root)


def _is_rating(column: str | None) -> bool:
    return column is not None and any(word in column.lower() for word in ("rating", "star", "overall", "score"))


def _source(
    layout: Layout, events: Group, places: Sequence[str], source: SourceConfig, figures: Figures
) -> Iterator[Choice]:
    about = "" if figures.exact else "about "
    looked = "all of them read" if figures.whole else f"{figures.looked:,} of them read"
    count = len(events.files)
    seen = f"{about}{counted(figures.total, 'row')} in {counted(count, 'file')}, {looked}"
    pattern = pattern_of(events.files, layout.root, places)
    yield Choice("events", f"{seen}; nothing is copied", "source.path", pattern)
    if needs_links(pattern, layout.root):
        yield Choice("links", "some of the files are links to other folders", "source.follow_links", True)
    columns = source.columns.by_role
    for role in (role for role in ROLES if role in columns):
        yield Choice(_WORDS[role], _seen(role, events, source, figures), f"source.columns.{role}", columns[role])
        if role == "event_time":
            yield from _reading_of_times(events, source)


def _reading_of_times(events: Group, source: SourceConfig) -> Iterator[Choice]:
    column = source.columns.event_time
    if source.time_format != "auto":
        seen = f"numbers such as {events.columns[column].example}: {_UNITS[source.time_format]} since 1970"
        yield Choice("unit of time", seen, "source.time_format", source.time_format)
    elif not _has_offset(events, column):
        seen = "times carry no offset: read as UTC. If they are local, set the zone, such as Europe/Paris"
        yield Choice("time zone", seen, "source.timezone", "UTC")


def _has_offset(events: Group, column: str) -> bool:
    profile = events.columns[column]
    return getattr(profile.type, "tz", None) is not None or profile.share(profile.offsets) > 0.5


def _seen(role: Role, events: Group, source: SourceConfig, figures: Figures) -> str:
    if role in ("user_id", "item_id"):
        held = counted(figures.users, "user") if role == "user_id" else counted(figures.items, "item")
        seen = f"{held}{'' if figures.whole else ' in the rows read'}"
    elif role == "event_time" and figures.oldest is not None and figures.newest is not None:
        seen = f"{figures.oldest:%Y-%m-%d} to {figures.newest:%Y-%m-%d}{'' if figures.whole else ' as far as read'}"
    elif role == "weight" and figures.weights is not None:
        seen = "from {:g} to {:g}".format(*figures.weights)
    elif role == "event_type":
        seen = ", ".join(f"{name} {count:,}" for name, count in list(figures.types.items())[:5])
    else:
        seen = "whole numbers; there is no time"
    alternatives = [name for name in events.roles[role] if name not in source.columns.wanted]
    if alternatives:
        seen += f"; could also be {' or '.join(map(repr, alternatives[:3]))}"
    return seen


def _catalogue(layout: Layout, found: CatalogueFound | None) -> Iterator[Choice]:
    if found is None:
        yield Choice("catalogue", "none found: items are shown by their ids")
        return
    seen = f"names {found.match:.0%} of the items"
    yield Choice("catalogue", seen, "catalogue.path", pattern_of(found.group.files, layout.root))
    yield Choice("its item", "the same ids as in the events", "catalogue.item_id", found.item_id)
    if found.title is not None:
        yield Choice("title", f"such as {_example(found, found.title)}", "catalogue.title", found.title)
    if found.category_path:
        examples = [_example(found, name) for name in found.category_path]
        seen = f"such as {' > '.join(examples)}"
        if found.joined_by is not None:
            seen += f" (joined by {found.joined_by!r}: read as one category)"
        yield Choice("categories", seen, "catalogue.category_path", list(found.category_path))
    if found.attributes:
        shown = ", ".join(f"{name} {_example(found, name)}" for name in found.attributes)
        yield Choice(
            "attributes", f"values that items share, such as {shown}", "catalogue.attributes", list(found.attributes)
        )


def _example(found: CatalogueFound, column: str) -> str:
    example = found.group.columns[column].example or ""
    return short(example, 40)


def _oldest(figures: Figures) -> Iterator[Choice]:
    if figures.before and figures.oldest is not None:
        seen = f"{figures.before:,} events are older than {_DEFAULTS.quality.min_time:%Y}, where the default begins"
        start = figures.oldest.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
        yield Choice("oldest", seen, "quality.min_time", start)


def _published(figures: Figures, found: int, repeated: float, targets: Sequence[str] | None) -> Iterator[Choice]:
    events = "events" if targets is None else f"events of type {' or '.join(targets)}"
    yield Choice("items a user", *_items_a_user(found, events))
    again = repeated >= REPEATS_FROM
    verdict = "items are consumed repeatedly" if again else "items are consumed once"
    seen = f"{repeated:.1%} of {events} repeat an item of their user: {verdict}"
    if not figures.whole:
        seen += ". Whole histories repeat more often than a sample: check"
    yield Choice("seen items", seen, "candidates.exclude_seen", not again)


def _items_a_user(found: int, events: str) -> tuple[str, str, int]:
    """Reason, setting and number of items to publish for each user, if ``found`` items have events."""
    k = max(1, min(_MOST_K, max(_LEAST_K, found // 10), found))
    share = "all of them" if k == found else f"a tenth, from {_LEAST_K} to {_MOST_K}"
    return f"{counted(found, 'item')} with {events}: {share}", "candidates.k", k


def _training(figures: Figures, typical: float, *, exclude_seen: bool) -> Choice:
    """The recipe, which is no setting: each training derives it from the events that it has."""
    config = Config(candidates=CandidatesConfig(exclude_seen=exclude_seen))
    recipe = Recipe.of(config, figures.total, figures.items, typical)
    source = "the data" if figures.whole else "the rows read; each training uses all of its events"
    return Choice("training", f"{recipe} (settings from {source})")


def _remarks(
    events: Group,
    others: Sequence[Group],
    catalogue: CatalogueFound | None,
    source: SourceConfig,
    figures: Figures,
    unreadable: Sequence[str],
) -> Iterator[str]:
    for other in others:
        if other.is_events and (catalogue is None or not set(catalogue.group.files) <= set(other.files)):
            yield f"{other.shown} could be interactions too. {events.shown} is larger and was chosen."
    yield from (f"Left out: {sentence}" for sentence in unreadable)
    if figures.at_zero:
        yield f"{figures.at_zero:,} events are of 1970-01-01, usually a time that was never set: they are refused."
    if figures.after:
        yield f"{figures.after:,} events are later than tomorrow: they are refused."
    left = [name for name in events.roles["weight"] if source.columns.weight is None]
    if left:
        yield f"Column {left[0]!r} could be the weight, but lacks a number in some rows, which would be refused."
    if not figures.whole and not source.columns.by_position and events.files[0].kind != "parquet":
        yield "The newest event is that of a sample. If the export ends later, set --day to its last day."
