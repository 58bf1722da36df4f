"""What ``hmamba init`` does: a root to start from, by hand or from files that are looked into."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hmamba.config import load
from hmamba.configdocs import named_text, starter
from hmamba.errors import ConfigError, InputError
from hmamba.report.text import near, printable
from hmamba.storage.layout import Layout
from hmamba.survey.choose import parse_given
from hmamba.survey.groups import widened
from hmamba.survey.landing import Examined, examine
from hmamba.survey.propose import Choice, Proposal, propose
from hmamba.survey.starter import shown, toml


def fresh(root: str) -> Layout:
    """The root, once it is sure that nothing is overwritten there.

    Raises:
        ConfigError: it has a configuration already.
        InputError: it is not a folder.
    """
    layout = Layout.at(root)
    if layout.storage.exists(layout.config):
        raise ConfigError(f"{layout.config} is already there. Edit it, or remove it first.")
    if layout.root.exists() and not layout.root.is_dir():
        raise InputError(f"{layout.root} is not a folder. Give another path: hmamba init ROOT --from FILES")
    return layout


def _write(layout: Layout, text: str) -> None:
    with layout.storage.write_file(layout.config) as temporary:
        temporary.write_text(text, encoding="utf-8")


def start_empty(root: str, config: str | None, console: Console) -> None:
    """A landing folder and a configuration to edit: the defaults, or a named one."""
    layout = fresh(root)
    _write(layout, starter() if config is None else named_text(config))
    (layout.landing / "interactions").mkdir(parents=True, exist_ok=True)
    columns = load(None, layout).source.columns
    where = shlex.quote(root)
    for line in (
        f"{layout.root} is ready. Next:",
        f"  1. Put Parquet, CSV or JSON lines (also .gz) into {layout.landing / 'interactions'}",
        f"  2. Say in {layout.config} which columns are what. Now: user {columns.user_id}, item {columns.item_id},",
        f"     time {columns.event_time}, weight {columns.weight or '(none)'}",
        f"  3. hmamba doctor --root {where}",
        f"  4. hmamba run --root {where} --day YYYY-MM-DD",
    ):
        console.print(Text(line), soft_wrap=True)


def start_from(root: str, places: Sequence[str], columns: Sequence[str], console: Console) -> None:
    """A configuration proposed from files, shown and written; the files stay where they are.

    Raises:
        InputError: no configuration can be proposed. Nothing has been written.
    """
    layout = fresh(root)
    proposal = propose(layout, places, parse_given(columns))
    found = examine(layout, proposal.config())
    stops = () if found is None else found.stops
    remarks = [*proposal.remarks, *([] if found is None else _refused(found))]
    _write(layout, toml(proposal))
    console.print(_table(proposal))
    for remark in remarks:
        console.print(Text(printable(f"! {remark}")), soft_wrap=True)
    for line in (
        "",
        f"Written: {near(layout.config)}, with the reason above each value.",
        _found_again(layout, proposal.config().source.path),
        *(_first_night(root, proposal) if not stops else _first_change(root, stops)),
    ):
        console.print(Text(printable(line)), soft_wrap=True)


def _first_night(root: str, proposal: Proposal) -> list[str]:
    return ["Next, the first night:", f"  hmamba run --root {shlex.quote(root)} --day {proposal.day}"]


def _first_change(root: str, stops: Sequence[str]) -> list[str]:
    """What has to be changed where a night would end at its first step."""
    return [
        "A night would stop at the pull. To change first:",
        *(f"  {sentence}" for sentence in stops),
        "Then look again:",
        f"  hmamba doctor --root {shlex.quote(root)}",
    ]


def _found_again(layout: Layout, path: str) -> str:
    """What later nights read."""
    file = layout.root / path
    if not file.is_file():
        return "Nothing was copied: the files are read in place. New and changed ones are found every night."
    pattern = widened(file, layout.root)
    if pattern is None:
        how = "put them all into a folder of their own and name that folder in source.path."
    else:
        how = f"make source.path a pattern, such as {pattern!r}."
    return (
        "Nothing was copied: the file is read in place, and read again after it changes. To read new files beside it "
        f"as well, {how}"
    )


def _refused(found: Examined) -> list[str]:
    """What the pull would refuse under the proposal."""
    return [
        f"{refusal.rows:,} of {found.figures.looked:,} rows would be refused ({refusal.rule}): {refusal.example}. "
        f"What to change: {refusal.cure}."
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
        taken = "" if choice.value is None else choice.value if choice.key is None else _plain(choice)
        table.add_row(*(Text(printable(cell)) for cell in (choice.what, taken, choice.seen)))
    return table


def _plain(choice: Choice) -> str:
    if not isinstance(choice.value, str):
        return shown(choice.value)
    return near(Path(choice.value)) if str(choice.key).endswith(".path") else choice.value
