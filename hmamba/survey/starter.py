"""Write a proposal as the text of ``hmamba.toml``; a comment above each value states the reason."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator

from hmamba.configdocs import toml_value
from hmamba.survey.propose import Choice, Proposal

_WIDTH = 118
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml(proposal: Proposal) -> str:
    """The proposal as TOML with the chosen settings; all others keep their defaults."""
    lines = [
        "# Proposed by `hmamba init --from`. The comment above each setting is its reason. Correct what is wrong.",
        "# All other settings and their defaults: docs/configuration.md, or `hmamba init` in another folder.",
    ]
    sections: dict[str, list[Choice]] = {}
    for choice in proposal.choices:
        if choice.key is not None:
            sections.setdefault(choice.key.rpartition(".")[0], []).append(choice)
    for name, choices in sections.items():
        lines += ["", f"[{name}]"]
        for choice in choices:
            key = str(choice.key).rpartition(".")[2]
            lines += [*_comment(f"{choice.what}: {choice.seen}"), f"{key} = {toml_value(choice.value)}"]
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
            f"The weights are ratings from {low:g} to {high:g}. With the setting below, the model reads ratings under "
            f"{liked:g} but does not learn to predict them. Remove the # to use it."
        )
        yield f"# min_weight_as_target = {liked:g}"
    for name, meaning in proposal.types.items():
        yield ""
        yield f"[events.{name if _BARE.fullmatch(name) else toml_value(name)}]"
        yield from _comment(meaning.why)
        kind = meaning.type
        yield f"weight = {toml_value(kind.weight)}"
        yield f"target = {toml_value(kind.target)}"
        yield f"seen = {toml_value(kind.seen)}"
