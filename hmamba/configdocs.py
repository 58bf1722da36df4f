"""The reference of all settings, from the models that check them.

``python -m hmamba.configdocs > docs/configuration.md`` writes the reference.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Union

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from hmamba.config import Config, DeliverConfig, EventsConfig, EventType, Section, TargetConfig, named_configs

_INTRODUCTION = """\
# Configuration

A configuration is a TOML file. `--config` takes its path, or the name of a configuration of the package ({named}).
Without `--config`, the file `hmamba.toml` of the root is used; without that file, the defaults below.
`hmamba init ROOT` writes a commented file to edit; `hmamba init ROOT --from FILES` inspects files and proposes values
for them.

An unknown key, a wrong type or a value out of range stops a step before it does anything, with exit status 2 and an
error that names the key.

This page is generated: `python -m hmamba.configdocs > docs/configuration.md`.

## The settings that people change

Most recommenders need only these settings, which have a ★ in the tables below. `hmamba init ROOT --from FILES` proposes
values for most of them.
"""

MOST_CHANGED = (
    "source.path",
    "source.time_format",
    "source.columns.user_id",
    "source.columns.item_id",
    "source.columns.event_time",
    "source.columns.weight",
    "catalogue.path",
    "warehouse.memory_limit",
    "candidates.k",
    "candidates.exclude_seen",
)
"""Dotted names of the settings that the reference shows first."""

_NAMED: dict[type[Section], tuple[str, type[Section]]] = {
    EventsConfig: ("TYPE", EventType),
    DeliverConfig: ("TARGET", TargetConfig),
}
"""Sections with tables whose names are the user's own: what stands for such a name, and the settings of a table."""


@dataclass(frozen=True)
class Setting:
    """One key of one section."""

    name: str
    type: str
    default: Any
    meaning: str


@dataclass(frozen=True)
class SettingGroup:
    """A TOML table with settings of its own."""

    name: str
    meaning: str
    settings: tuple[Setting, ...]


def groups() -> Iterator[SettingGroup]:
    """Every section of the configuration in the file's order, nested ones after their parent."""
    yield from _walk(Config, "")


def _walk(model: type[Section], name: str) -> Iterator[SettingGroup]:
    own, nested = [], []
    for key, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            nested.append((f"{name}.{key}".lstrip("."), annotation))
        else:
            own.append(Setting(key, _type(field), field.default, field.description or ""))
    if own:
        yield SettingGroup(name, " ".join((model.__doc__ or "").split()), tuple(own))
    for path, annotation in nested:
        yield from _walk(annotation, path)
    if model in _NAMED:
        any_name, table = _NAMED[model]
        yield from _walk(table, f"{name}.{any_name}")


def _type(field: FieldInfo) -> str:
    bounds = []
    for bound in field.metadata:
        for kind, sign, key in ((Ge, "≥", "ge"), (Gt, ">", "gt"), (Le, "≤", "le"), (Lt, "<", "lt")):
            if isinstance(bound, kind):
                bounds.append(f"{sign} {getattr(bound, key):g}")
    return ", ".join([_spell(field.annotation), *bounds])


def _spell(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(toml_value(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_spell(part) for part in arguments if part is not type(None)) + ", may be absent"
    if origin is tuple:
        return f"list of {_spell(arguments[0])}s"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", datetime: "time"}
    return names[annotation]


def toml_value(value: Any) -> str:
    """A value as TOML spells it. JSON's strings, numbers, booleans and lists are TOML's, too."""
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def markdown() -> str:
    """The reference: every key with its type, default and meaning."""
    named = ", ".join(f"`{name}`" for name in named_configs())
    every = {f"{group.name}.{setting.name}": setting for group in groups() for setting in group.settings}
    parts = [_INTRODUCTION.format(named=named), _table((f"`{name}`", every[name]) for name in MOST_CHANGED)]
    for group in groups():
        marks = {setting.name: " ★" * (f"{group.name}.{setting.name}" in MOST_CHANGED) for setting in group.settings}
        table = _table((f"`{setting.name}`{marks[setting.name]}", setting) for setting in group.settings)
        parts.append(f"## `[{group.name}]`\n\n{group.meaning}\n\n{table}")
    return "\n".join(parts)


def _table(rows: Iterable[tuple[str, Setting]]) -> str:
    """A Markdown table of settings, each with what its first cell shows."""
    lines = [
        f"| {shown} | {setting.type.replace('|', chr(92) + '|')} | {_shown(setting.default)} | {setting.meaning} |"
        for shown, setting in rows
    ]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *lines]) + "\n"


def _shown(default: Any) -> str:
    return "absent" if default is None else f"`{toml_value(default)}`"


def starter() -> str:
    """A commented ``hmamba.toml``: the columns are set, everything else stands at its default behind a ``#``."""
    lines = [
        "# Settings of this recommender. A line behind a # shows a default: remove the # to change it.",
        "# Unknown keys are errors: a misspelt key is reported before anything runs.",
    ]
    any_names = tuple(any_name for any_name, _ in _NAMED.values())
    for group in groups():
        example = "# " if group.name.endswith(any_names) else ""
        lines += ["", f"# {group.meaning}", f"{example}[{group.name}]"]
        for setting in group.settings:
            active = group.name == "source.columns" and setting.default is not None
            value = "" if setting.default is None else f" {toml_value(setting.default)}"
            meaning = setting.meaning or ("absent" if setting.default is None else "")
            comment = f"  # {meaning}" if meaning else ""
            lines.append(f"{'' if active else example or '#'}{setting.name} ={value}{comment}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
