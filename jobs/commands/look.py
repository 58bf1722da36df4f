"""Commands that show what a root holds, and change nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hmamba.text import counted, metric_name, printable, short
from jobs.commands.options import AsJson, Root, print_json

if TYPE_CHECKING:
    from hmamba.candidates.lookup import Recommendations
    from hmamba.contracts.models import Rollback
    from hmamba.report.history import Night

_ONE_LINE = 10_000


def recommend(
    user: Annotated[str, typer.Argument(help="The user's id, as in the source files.")],
    root: Root,
    most: Annotated[int, typer.Option("--most", "-n", min=1, help="Number of items, and of events.")] = 10,
    with_history: Annotated[
        bool, typer.Option("--with-history", help="Also show the user's newest events in the night's snapshot.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a user's best items from the newest published table.

    Reads `candidates/latest.json` and the files that it names, and loads no model.

    Example: `hmamba recommend 2375 --root demo -n 5`
    """
    from hmamba.candidates.lookup import recommend as look_up
    from hmamba.storage.layout import Layout

    found = look_up(Layout.existing(root), user, most, with_history=with_history)
    if as_json:
        print_json(asdict(found))
    else:
        _show_recommendations(found, with_history)


def _show_recommendations(found: Recommendations, with_history: bool) -> None:
    console = _console()
    console.print(Text(f"User {printable(short(found.user))}: day {found.day}, model_version {found.model_version}"))
    if found.warning:
        console.print(Text(f"Warning: {printable(found.warning)}"))
    cells = ((row.rank, row.title or row.item_id, row.category, f"{row.score:.4f}", row.item_id) for row in found.rows)
    console.print(_table(("rank", "item", "category", "score", "item id"), cells, right=("rank", "score")))
    if not with_history:
        return
    if found.history is None:
        console.print(Text("History: the working folder of that night has been deleted."))
        return
    console.print(Text("History, newest first:"))
    events = ((event.time, event.title, event.category, f"{event.weight:g}", event.item_id) for event in found.history)
    console.print(_table(("time", "item", "category", "weight", "item id"), events, right=("weight",)))


def history(root: Root, as_json: AsJson = False) -> None:
    """List the nights and rollbacks, newest last: verdict, metric with interval, rows, users, time.

    The metric is that of what served. The interval is that of the difference between the new model and the champion, or
    without a champion the best baseline. Nights of which files are missing or damaged are listed with what is wrong.

    Example: `hmamba history --root demo`
    """
    from hmamba.models.promotions import rollbacks
    from hmamba.report.history import nights
    from hmamba.storage.layout import Layout

    layout = Layout.existing(root)
    found, back = nights(layout), rollbacks(layout)
    if as_json:
        print_json({"nights": [_of_night(night) for night in found], "rollbacks": [one.model_dump() for one in back]})
        return
    lines = [((night.day, 0), _night_cells(night)) for night in found]
    lines += [((max(_days_back(one)), 1), _rollback_cells(one)) for one in back]
    cells = [cells for _, cells in sorted(lines, key=lambda line: line[0])]
    names = ("day", "verdict", "metric", "difference", "rows", "users", "time", "run")
    _console().print(_table(names, cells, right=("rows", "users", "time")))
    for night in found:
        for problem in night.problems:
            typer.echo(f"{night.day} {night.run_id}: {printable(problem)}", err=True)


def _of_night(night: Night) -> dict[str, object]:
    compared = None if night.compared is None else night.compared.model_dump()
    return {**asdict(night), "compared": compared}


def _night_cells(night: Night) -> tuple[object, ...]:
    metric = difference = None
    if night.metric is not None and night.value is not None:
        metric = f"{metric_name(night.metric)} {night.value:.4f}"
    if night.compared is not None:
        one = night.compared
        difference = f"{one.difference:+.4f} ({one.low:+.4f} to {one.high:+.4f}) against {one.other}"
    verdict = f"{night.verdict}, rolled back" if night.rolled_back else night.verdict
    amounts = ("" if number is None else f"{number:,}" for number in (night.rows, night.users))
    seconds = "" if night.seconds is None else f"{night.seconds:,.0f} s"
    return (night.day, verdict, metric, difference, *amounts, seconds, night.run_id)


def _days_back(one: Rollback) -> list[date]:
    """The days that a rollback undid."""
    tables = [] if one.from_table is None else [one.from_table]
    return [one.day, *(promotion.day for promotion in one.taken_back), *tables]


def _rollback_cells(one: Rollback) -> tuple[object, ...]:
    table = "" if one.table is None else f", table of {one.table}"
    before, after = (version or "no model" for version in (one.from_version, one.version))
    when = f"{one.rolled_back_at:%Y-%m-%d %H:%M}"
    return (max(_days_back(one)), f"rollback to {after}{table}", f"from {before}", "", "", "", "", f"at {when}")


def models(root: Root, as_json: AsJson = False) -> None:
    """List the model versions, newest last: parent, promotion, metric, size; which serves, and which are damaged.

    Example: `hmamba models --root demo`
    """
    from hmamba.storage.layout import Layout
    from hmamba.upkeep.sizes import shown
    from hmamba.upkeep.versions import Version, versions

    found = versions(Layout.existing(root))
    if as_json:
        print_json([asdict(one) for one in found])
        return

    def cells(one: Version) -> tuple[object, ...]:
        state = "serves" if one.serves else ""
        metric = "" if one.metric is None or one.value is None else f"{metric_name(one.metric)} {one.value:.4f}"
        promoted = "" if one.promoted_at is None else f"{one.promoted_at:%Y-%m-%d %H:%M}"
        marks = ", ".join(filter(None, [state, "pruned" if one.pruned else "", "damaged" if one.damage else ""]))
        return (one.version, one.day, one.parent, promoted, metric, shown(one.bytes), marks)

    names = ("version", "day", "parent", "promoted (UTC)", "metric", "size", "state")
    _console().print(_table(names, map(cells, found), right=("size",)))
    for one in found:
        if one.damage:
            typer.echo(f"{one.version}: {printable(one.damage)}", err=True)


def check(root: Root, as_json: AsJson = False) -> None:
    """Verify a root: every digest, every sum of the ledger, every manifest and document.

    Prints what is wrong and what to do. Exits with 1 if anything is. Run it while no night runs.

    Example: `hmamba check --root demo`
    """
    from hmamba.storage.layout import Layout
    from hmamba.upkeep.check import check as verify

    areas, wrong = [], 0
    for area in verify(Layout.existing(root)):
        areas.append(area)
        wrong += len(area.wrong)
        if not as_json:
            typer.echo(f"{'✗' if area.wrong else '✓'} {area.name:<16}{area.looked}")
            for sentence in area.wrong:
                typer.echo(f"  {printable(sentence)}")
    if as_json:
        print_json([asdict(area) for area in areas])
    else:
        typer.echo(
            "Everything is as it was written." if not wrong else f"{counted(wrong, 'thing')} wrong: see ✗ above."
        )
    raise typer.Exit(1 if wrong else 0)


def _console() -> Console:
    """A console that folds long lines on a terminal only: a file or a pipe gets each row on one line."""
    return Console(width=None if sys.stdout.isatty() else _ONE_LINE)


def _table(names: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> Table:
    """A table without borders; None is an empty cell."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else printable(short(str(cell)))) for cell in row))
    return table
