"""The command ``hmamba init``: a new root with default settings, or with settings proposed from files."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hmamba.config import load, named_text
from hmamba.configdocs import starter, toml_value
from hmamba.errors import ConfigError, InputError
from hmamba.storage.base import write_text
from hmamba.storage.layout import Layout
from hmamba.survey.choose import parse_given
from hmamba.survey.groups import widened
from hmamba.survey.landing import Examined, examine
from hmamba.survey.propose import Choice, Proposal, propose
from hmamba.survey.starter import toml
from hmamba.text import near, printable


def fresh(root: str) -> Layout:
    """The layout of a root, after a check that nothing is overwritten.

    Raises:
        ConfigError: the root has a configuration already.
        InputError: the root is not a folder.
    """
    layout = Layout.at(root)
    if layout.storage.exists(layout.config):
        raise ConfigError(f"{layout.config} already exists. Edit it, or remove it first.")
    if layout.root.exists() and not layout.root.is_dir():
        raise InputError(f"{layout.root} is not a folder. Give another path: hmamba init ROOT --from FILES")
    return layout


def start_empty(root: str, config: str | None, console: Console) -> None:
    """Create a landing folder and a configuration to edit: the defaults, or a named configuration."""
    layout = fresh(root)
    write_text(layout.storage, layout.config, starter() if config is None else named_text(config))
    (layout.landing / "interactions").mkdir(parents=True, exist_ok=True)
    columns = load(None, layout).source.columns
    where = shlex.quote(root)
    for line in (
        f"{layout.root} is ready. Next:",
        f"  1. Put Parquet, CSV or JSON lines (also .gz) into {layout.landing / 'interactions'}",
        f"  2. Set the names of your columns in {layout.config}. Now: user {columns.user_id}, item {columns.item_id},",
        f"     time {columns.event_time}, weight {columns.weight or '(none)'}",
        f"  3. hmamba doctor --root {where}",
        f"  4. hmamba run --root {where} --day YYYY-MM-DD",
    ):
        console.print(Text(line), soft_wrap=True)


def start_from(root: str, places: Sequence[str], columns: Sequence[str], console: Console) -> None:
    """Propose a configuration from files, show it and write it; the files are not copied.

    Raises:
        InputError: no configuration can be proposed. Nothing is written.
    """
    layout = fresh(root)
    proposal = propose(layout, places, parse_given(columns))
    found = examine(layout, proposal.config())
    stops = () if found is None else found.stops
    remarks = [*proposal.remarks, *([] if found is None else _refused(found))]
    write_text(layout.storage, layout.config, toml(proposal))
    console.print(_table(proposal))
    for remark in remarks:
        console.print(Text(printable(f"! {remark}")), soft_wrap=True)
    for line in (
        "",
        f"Written: {near(layout.config)}, with the reason above each setting.",
        _found_again(layout, proposal.config().source.path),
        *(_first_night(root, proposal) if not stops else _first_change(root, stops)),
    ):
        console.print(Text(printable(line)), soft_wrap=True)


def _first_night(root: str, proposal: Proposal) -> list[str]:
    return ["Next, the first night:", f"  hmamba run --root {shlex.quote(root)} --day {proposal.day}"]


def _first_change(root: str, stops: Sequence[str]) -> list[str]:
    """What to change if the first step of a night would stop."""
    return [
        "A night would stop at the pull. Change first:",
        *(f"  {sentence}" for sentence in stops),
        "Then check again:",
        f"  hmamba doctor --root {shlex.quote(root)}",
    ]


def _found_again(layout: Layout, path: str) -> str:
    """Which files later nights read."""
    file = layout.root / path
    if not file.is_file():
        return "Nothing was copied: the files are read in place. Every night finds new and changed ones."
    pattern = widened(file, layout.root)
    if pattern is None:
        how = "put them all into one folder and set source.path to it."
    else:
        how = f"set source.path to a pattern, such as {pattern!r}."
    return (
        "Nothing was copied: the file is read in place, and again after it changes. To read new files beside it as "
        f"well, {how}"
    )


def _refused(found: Examined) -> list[str]:
    """Rows that the pull would refuse with the proposed settings."""
    return [
        f"{refusal.rows:,} of {found.figures.looked:,} rows would be refused ({refusal.rule}): {refusal.example}. "
        f"What to change: {refusal.cure}"
        for refusal in found.refusals
    ]


def _table(proposal: Proposal) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("what", "value", "reason"):
        table.add_column(name, overflow="fold")
    types = [
        Choice(f"type {name}", meaning.why, value=f"weight {meaning.type.weight:g}")
        for name, meaning in proposal.types.items()
    ]
    for choice in (*proposal.choices, *types):
        value = "" if choice.value is None else choice.value if choice.key is None else _plain(choice)
        table.add_row(*(Text(printable(cell)) for cell in (choice.what, value, choice.seen)))
    return table


def _plain(choice: Choice) -> str:
    if not isinstance(choice.value, str):
        return toml_value(choice.value)
    return near(Path(choice.value)) if str(choice.key).endswith(".path") else choice.value
