"""Commands that change what nights have left."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from hmamba.clock import named_day
from jobs.commands.options import AsJson, Root, Settings, print_json
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


def prune(
    root: Root,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be deleted.")] = False,
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Delete models, tables, reports, working folders and landing files that are older than `[keep]` says.

    Never deletes what serves, what the gates and refreshes of kept nights read, or a file of which rows have not been
    pulled. Every night ends with the same rules.

    Example: `hmamba prune --root demo --dry-run`
    """
    from hmamba.config import load
    from hmamba.storage.layout import Layout
    from hmamba.upkeep import prune as pruning
    from hmamba.upkeep.sizes import shown

    layout = Layout.existing(root)
    settings = load(config, layout)
    done = pruning.plan(layout, settings) if dry_run else pruning.prune(layout, settings)
    if as_json:
        print_json({"deleted": not dry_run, **asdict(done), "bytes": done.bytes})
        return
    for note in done.notes:
        typer.echo(note, err=True)
    for one in done.doomed:
        typer.echo(f"{one.kind:<10}{shown(one.bytes):>10}  {one.path.relative_to(layout.root)}")
    typer.echo(f"{'Would delete' if dry_run else 'Deleted'} {shown(done.bytes)}.")
