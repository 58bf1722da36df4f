"""Commands that begin: doctor, init, example."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from hmamba.doctor import Check, diagnose, healthy
from hmamba.errors import ConfigError
from hmamba.text import for_log
from jobs.commands.options import ROOT_VARIABLE

_MARKS = {"ok": ("✓", "green"), "note": ("!", "yellow"), "missing": ("✗", "red")}


def doctor(
    root: Annotated[
        str | None, typer.Option(envvar=ROOT_VARIABLE, help="Also check this folder.", show_default=False)
    ] = None,
) -> None:
    """Check this machine: show what is installed, what is missing, and the command that fixes it.

    With `--root`, also sample the files to be pulled: rows, users, items, days, and rows that would be refused, with
    the setting to change. Exits with 1 if anything that a night needs is missing.

    Example: `hmamba doctor --root demo`
    """
    checks = diagnose(None if root is None else Path(root).expanduser().resolve())
    console = Console(highlight=False)
    width = max(len(check.name) for check in checks)
    for check in checks:
        _print_check(console, check, width)
    missing = sum(check.state == "missing" for check in checks)
    console.print(
        Text("Everything that the nights need is here." if healthy(checks) else f"{missing} missing: see ✗ above.")
    )
    raise typer.Exit(0 if healthy(checks) else 1)


def _print_check(console: Console, check: Check, width: int) -> None:
    mark, colour = _MARKS[check.state]
    console.print(Text.assemble((mark, colour), f" {check.name:<{width}}  {for_log(check.found)}"), soft_wrap=True)
    if check.advice:
        console.print(Text(f"  {'':<{width}}  → {for_log(check.advice)}", style="dim"), soft_wrap=True)


def init(
    root: Annotated[str, typer.Argument(help="The folder to create, such as ./shop.")],
    more: Annotated[list[str] | None, typer.Argument(help="More values of --from.", show_default=False)] = None,
    source: Annotated[
        list[str] | None,
        typer.Option("--from", help="Files, folders or globs to sample, one or more.", show_default=False),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="With --from: the column for a role, such as user_id=KUNDE, if its name is not recognised.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="Start from a named configuration: films, complete_journey.", show_default=False)
    ] = None,
) -> None:
    """Create the folder of a recommender with a commented `hmamba.toml`.

    With `--from`, sample files and propose a configuration: columns, unit of time, catalogue, meaning of event types,
    first day. Files are not copied. Without it, the configuration contains the defaults, and a landing folder for files
    is created.

    Example: `hmamba init shop --from exports/*.parquet`
    """
    from jobs.start import start_empty, start_from

    console = Console(highlight=False)
    if source is None:
        if more or column:
            raise ConfigError(f"{' '.join([*(more or ()), *(column or ())])}: give files after --from.")
        start_empty(root, config, console)
    elif config is not None:
        raise ConfigError("--config and --from: give one of them. --from proposes a configuration of its own.")
    else:
        start_from(root, [*source, *(more or ())], column or (), console)


def example(
    name: Annotated[
        str, typer.Argument(help="films (300 people rate 200 films) or sessions (2,000 visits to a shop).")
    ],
    folder: Annotated[str, typer.Argument(help="Folder for the files, such as ./data.")],
) -> None:
    """Write small synthetic data to learn with. The files are the same every time.

    Example: `hmamba example films data`
    """
    from hmamba.examples import write_example

    for path in write_example(name, Path(folder)):
        typer.echo(f"{path}  {path.stat().st_size:,} bytes")
