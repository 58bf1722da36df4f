"""Commands that change what nights have left."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hmamba.clock import named_day
from hmamba.errors import InputError
from hmamba.text import counted, printable
from jobs.commands.options import AsJson, Root, Settings, print_json
from jobs.commands.options import day as as_day

if TYPE_CHECKING:
    from hmamba.storage.layout import Layout


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

    Later tables and working folders are moved to `ROOT/.rolled-back`, from which `--to VERSION` and `--table DAY` bring
    them back. Events stay in the warehouse. The rollback is recorded in `models/champion.json`. Safe to run again.

    Example: `hmamba rollback --root demo --to 2017-12-14`
    """
    from hmamba.storage.layout import Layout
    from hmamba.storage.root_locks import quiet
    from hmamba.upkeep.rollback import BUSY_SECONDS, require_root, roll_back, to_day, to_table, to_version

    layout = Layout.existing(root)
    require_root(layout)
    if (to is None) == (table is None):
        raise typer.BadParameter("give one of --to and --table.")
    with quiet(layout, BUSY_SECONDS):
        if table is not None:
            target = to_table(layout, as_day(table))
        elif to is not None:
            day = named_day(to)
            target = to_version(layout, to) if day is None else to_day(layout, day)
        for sentence in roll_back(layout, target, delete=delete):
            typer.echo(sentence)
    _show_in_trend(layout)


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
    from hmamba.storage.root_locks import nights
    from hmamba.upkeep import prune as pruning
    from hmamba.upkeep.sizes import shown

    layout = Layout.existing(root)
    settings = load(config, layout)
    if dry_run:
        done = pruning.plan(layout, settings)
    else:
        with nights(layout):  # a night whose day is run again looks like one that has ended
            done = pruning.prune(layout, settings)
        _show_in_trend(layout)
    if as_json:
        print_json({"deleted": not dry_run, **asdict(done), "bytes": done.bytes})
        return
    for note in done.notes:
        typer.echo(note, err=True)
    for one in done.doomed:
        typer.echo(f"{one.kind:<10}{shown(one.bytes):>10}  {one.path.relative_to(layout.root)}")
    typer.echo(f"{'Would delete' if dry_run else 'Deleted'} {shown(done.bytes)}.")


def _show_in_trend(layout: Layout) -> None:
    """Write the page of all nights again, if there is one: its links and verdicts may have changed."""
    if layout.storage.exists(layout.all_reports):
        from hmamba.report.trend import write_trend  # imports Matplotlib

        write_trend(layout)


def forget(
    root: Root,
    users: Annotated[list[str] | None, typer.Argument(help="Ids of users.", show_default=False)] = None,
    file: Annotated[Path | None, typer.Option(help="A text file with an id on each line.", show_default=False)] = None,
    landing: Annotated[
        bool, typer.Option("--landing", help="Also write source files again without the rows of these users.")
    ] = False,
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Erase users from the warehouse and from everything that nights have made of it.

    Later files do not bring them back: a salted hash of each id stays. Source files are only named, unless `--landing`
    is given. Models and the champion stay. Safe to run again. Writes a receipt without the ids under `ROOT/receipts`.

    Example: `hmamba forget 2375 --root demo`
    """
    from hmamba.config import load
    from hmamba.storage.layout import Layout
    from hmamba.upkeep.forget import forget as erase

    layout = Layout.existing(root)
    given = [*(users or ()), *(_lines(file) if file is not None else ())]
    settings = load(config, layout)
    receipt = erase(layout, settings, given, landing=landing)
    if as_json:
        print_json(receipt.model_dump(mode="json"))
        return
    events, refused = (sum(getattr(user, name) for user in receipt.users) for name in ("events", "quarantined"))
    typer.echo(f"Erased from the warehouse: {counted(events, 'event')}, {counted(refused, 'refused row')}.")
    typer.echo(f"Written again: {', '.join(receipt.rewritten)}.")
    if receipt.deleted:
        typer.echo(f"Deleted: {', '.join(receipt.deleted)}.")
    for name in receipt.landing:
        typer.echo(
            f"{printable(name)} still holds rows of them. Add --landing, or remove the rows at its origin.", err=True
        )
    for reason in receipt.unreadable:
        typer.echo(f"Not searched: {printable(reason)}", err=True)
    if settings.deliver.targets:
        typer.echo(
            f"Targets of deliveries may still hold them. Deliver the table again: {layout.command('deliver')}", err=True
        )
    if not events and not refused:
        typer.echo("The warehouse held no rows of them. Check the ids; rows that come later are not loaded.", err=True)


def backup(
    target: Annotated[
        Path, typer.Argument(help="A new folder, or an archive: .tar, .tar.gz, .tgz or .tar.xz.", show_default=False)
    ],
    root: Root,
    config: Settings = None,
) -> None:
    """Copy what cannot be derived: warehouse, models, promotions, published tables, configuration, documents.

    Waits until no step of the root runs. The backup appears when it is complete, and names the digest of each file.

    Example: `hmamba backup /mnt/backups/shop-2024-05-31.tar.gz --root demo`
    """
    from hmamba.config import load
    from hmamba.storage.layout import Layout
    from hmamba.upkeep.backup import back_up
    from hmamba.upkeep.sizes import shown

    layout = Layout.existing(root)
    made = back_up(layout, load(config, layout), target)
    typer.echo(f"{target}: {counted(len(made.files), 'file')}, {shown(sum(file.bytes for file in made.files))}.")


def restore(
    source: Annotated[Path, typer.Argument(help="The folder or archive that hmamba backup has made.")],
    root: Root,
) -> None:
    """Bring a backup back as a new root. Every file is verified before the folder appears.

    Example: `hmamba restore /mnt/backups/shop-2024-05-31.tar.gz --root demo`
    """
    from hmamba.upkeep.backup import restore as bring_back

    made = bring_back(source, Path(root))
    typer.echo(f"{root}: {counted(len(made.files), 'file')}, as of {made.made_at:%Y-%m-%d %H:%M} UTC.")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--file {file} cannot be read: {error}. Give a text file in UTF-8.") from None
