"""Commands that change what nights have left."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.commands.options import Root
from jobs.commands.options import day as as_day


def rollback(
    root: Root,
    to: Annotated[str, typer.Option(help="The last UTC day to keep, such as 2017-12-14.", show_default=False)],
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the tables and working folders instead of moving them.")
    ] = False,
) -> None:
    """Revert what was published and promoted after a day, for instance by a night with a wrong day.

    `candidates/latest.json` points to the newest table up to that day again, and the model that served then is the
    champion again. Later tables and working folders are moved to `ROOT/.rolled-back`. Events stay in the warehouse.
    Safe to run again.

    Example: `hmamba rollback --root demo --to 2017-12-14`
    """
    from hmamba.candidates.rollback import roll_back
    from hmamba.storage.layout import Layout

    layout = Layout.existing(root)
    for sentence in roll_back(layout, as_day(to), delete=delete):
        typer.echo(sentence)
