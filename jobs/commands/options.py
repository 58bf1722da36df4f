"""Options and output that several commands share."""

from __future__ import annotations

import json
from datetime import date
from typing import Annotated, Any

import typer

from hmamba.clock import day_of

ROOT_VARIABLE = "HMAMBA_ROOT"
"""Environment variable with the default of ``--root``."""

AnyDay = Annotated[bool, typer.Option("--any-day", help="Accept a day after today, or long after the newest event.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
Root = Annotated[
    str, typer.Option(envvar=ROOT_VARIABLE, help="Folder of the recommender, such as ./demo.", show_default=False)
]
Settings = Annotated[str | None, typer.Option(help="A .toml file or a named configuration. Default: ROOT/hmamba.toml.")]


def day(text: str) -> date:
    """A day given on the command line."""
    try:
        return day_of(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None


def print_json(value: Any) -> None:
    """Print a JSON value, indented."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
