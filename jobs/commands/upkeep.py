"""Commands that change what nights have left."""

from __future__ import annotations

from typing import Annotated

import typer

from hmamba.clock import named_day
from jobs.commands.options import Root
from jobs.commands.options import day as as_day


def rollback(
    root: Root,
    to: Annotated[
        str | None,
        typer.Option(help="A model version, or the last UTC day to keep, such as 2017-12-14.", show_default=False),
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="The UTC day of the table that readers get again.", show_default=False)
    ] = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the tables and working folders instead of moving them.")
    ] = False,
) -> None:
    """Go back to an earlier model and table.

    `--to VERSION`: this model is the champion, and readers get the newest table that it made. `--table DAY`: readers
    get the table of that day, and the model that made it is the champion. `--to DAY`: both as they were at the end of
    that day. The next night starts from this champion.

    Later tables and working folders are moved to `ROOT/.rolled-back`, and come back if a later rollback names them.
    Events stay in the warehouse. The rollback is recorded in `models/champion.json`. Safe to run again.

    Example: `hmamba rollback --root demo --to 2017-12-14`
    """
    from hmamba.storage.layout import Layout
    from hmamba.upkeep.rollback import require_root, roll_back, to_day, to_table, to_version

    layout = Layout.existing(root)
    require_root(layout)
    if (to is None) == (table is None):
        raise typer.BadParameter("give one of --to and --table.")
    if table is not None:
        target = to_table(layout, as_day(table))
    elif to is not None:
        day = named_day(to)
        target = to_version(layout, to) if day is None else to_day(layout, day)
    for sentence in roll_back(layout, target, delete=delete):
        typer.echo(sentence)
