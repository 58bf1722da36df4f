"""The text of a proposed ``hmamba.toml``: each value with a comment that says what it rests on."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from hmamba.survey.propose import Choice, Proposal

_WIDTH = 118
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml(proposal: Proposal) -> str:
    """The proposal as TOML: chosen values are active, everything else stays at its default."""
    lines = [
        "# Proposed by `hmamba init --from`: each line says what was seen. Change what is wrong.",
        "# All other settings and their defaults: docs/configuration.md, or `hmamba init` of another folder.",
    ]
    sections: dict[str, list[Choice]] = {}
    for choice in proposal.choices:
        if choice.key is not None:
            sections.setdefault(choice.key.rpartition(".")[0], []).append(choice)
    for name, choices in sections.items():
        lines += ["", f"[{name}]"]
        for choice in choices:
            key = str(choice.key).rpartition(".")[2]
            lines += [*_comment(f"{choice.what}: {choice.seen}"), f"{key} = {shown(choice.value)}"]
        if name == "source.columns":
            lines += _events(proposal)
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    plain = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return textwrap.wrap(plain, _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _events(proposal: Proposal) -> Iterator[str]:
    if proposal.ratings is not None:
        low, high = proposal.ratings
        liked = math.ceil(low + 0.75 * (high - low))
        yield ""
        yield "[events]"
        yield from _comment(
            f"weights are ratings from {low:g} to {high:g}. Without the # below, ratings under {liked:g} are read, but "
            "only the others are what the model learns to predict."
        )
        yield f"# min_weight_as_target = {liked:g}"
    for name, meaning in proposal.types.items():
        yield ""
        yield f"[events.{name if _BARE.fullmatch(name) else shown(name)}]"
        yield from _comment(meaning.why)
        kind = meaning.type
        yield f"weight = {shown(kind.weight)}"
        yield f"target = {shown(kind.target)}"
        yield f"seen = {shown(kind.seen)}"


def shown(value: Any) -> str:
    """A value as TOML spells it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
