"""The command that explains one item for one user, in words."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from hmamba.text import counted, printable, short
from jobs.commands.options import AsJson, Root, print_json

if TYPE_CHECKING:
    from hmamba.candidates.explanation import Explanation, Part, Source


def explain(
    user: Annotated[str, typer.Argument(help="The user's id, as in the source files.")],
    item: Annotated[str, typer.Argument(help="The item's id, as in the source files.")],
    root: Root,
    as_json: AsJson = False,
) -> None:
    """Explain why an item is in a user's list, or is not: place, score, and what adds to the score.

    Reads the model, the index and the snapshot of the night that published the newest table.

    Example: `hmamba explain 2375 1082185 --root demo`
    """
    from hmamba.candidates.explain import explain as find
    from hmamba.storage.layout import Layout

    found = find(Layout.existing(root), user, item)
    if as_json:
        print_json(asdict(found))
        return
    for line in words(found):
        typer.echo(line)


def words(found: Explanation) -> list[str]:
    """An explanation as lines of text."""
    title = f" ({_name(found.title)})" if found.title else ""
    lines = [
        f"User {_name(found.user)}, item {_name(found.item_id)}{title}: day {found.day}, "
        f"model_version {found.model_version}"
    ]
    if found.rank is not None:
        lines.append(f"In the list: rank {found.rank:,} of at most {found.k:,}.")
    else:
        lines.append(f"Not in the list. {found.why_not}")
    if found.score is not None and found.place is not None:
        lines.append(f"Score {found.score:.4f}, place {found.place:,} of {counted(found.places, 'item')} by score.")
    lines.append(_taken(found))
    if found.parts:
        lines.append("What adds to the score, compared with an item drawn at random from all events:")
        width = max(len(part.because) for part in found.parts)
        lines += [_part(part, width) for part in found.parts]
        lines.append(f"  added to the user's mean base score, {found.mean:.4f}")
    elif found.score is not None:
        lines.append(_without_parts(found))
    if found.note is not None:
        lines.append(f"Note: {found.note}")
    return lines


def _name(text: str) -> str:
    return printable(short(text))


def _taken(found: Explanation) -> str:
    if not found.times_taken:
        return "The user's history does not contain the item."
    newest = "" if found.last_taken is None else f", the newest of {found.last_taken:%Y-%m-%d}"
    return f"The user's history contains {counted(found.times_taken, 'event')} with the item{newest}."


def _part(part: Part, width: int) -> str:
    behind = f": {', '.join(map(_source, part.sources))}" if part.sources else ""
    return f"  {part.value:+8.4f}  {part.because:<{width}}  {part.evidence}{behind}"


def _source(source: Source) -> str:
    return f"{_name(source.title or source.item_id)} ({source.share:.0%})"


def _without_parts(found: Explanation) -> str:
    if found.model_version.startswith("baseline-"):
        return "A baseline serves. It ranks by popularity; most_bought by the user's own count before that."
    return "The user has no usable history, so the list has popular items (users.segments)."
