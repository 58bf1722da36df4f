"""Commands that show what a root holds, and change nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import date
from itertools import zip_longest
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hmamba.text import counted, metric_name, printable, short
from jobs.commands.options import AsJson, Root, Settings, print_json
from jobs.commands.options import day as as_day

if TYPE_CHECKING:
    from hmamba.candidates.compare import ComparedUser, TableComparison
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
    names = ["rank", "item", "category", "score", "item id"]
    cells = [[row.rank, row.title or row.item_id, row.category, f"{row.score:.4f}", row.item_id] for row in found.rows]
    if any(row.because for row in found.rows):
        names.append("because")
        for cell, row in zip(cells, found.rows, strict=True):
            behind = row.because_title or row.because_item
            cell.append(f"{row.because}: {behind}" if behind else row.because)
    console.print(_table(names, cells, right=("rank", "score")))
    if not with_history:
        return
    if found.history is None:
        console.print(Text("History: the working folder of that night has been deleted."))
        return
    console.print(Text("History, newest first:"))
    events = ((event.time, event.title, event.category, f"{event.weight:g}", event.item_id) for event in found.history)
    console.print(_table(("time", "item", "category", "weight", "item id"), events, right=("weight",)))


def compare(
    root: Root,
    days: Annotated[
        list[str] | None, typer.Argument(help="Two UTC days with published tables. Default: the newest.")
    ] = None,
    most: Annotated[int, typer.Option("--most", "-n", min=1, help="Number of items that are listed.")] = 10,
    users: Annotated[int, typer.Option(min=0, help="Number of users that are shown.")] = 3,
    user: Annotated[str | None, typer.Option(help="Show this user instead.", show_default=False)] = None,
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Compare two published tables: how many items are new in the lists, which, and for whom.

    One day is compared with the newest table, and without days the two newest are. Users are shown from the most
    changed to the least, with their history.

    Example: `hmamba compare 2017-12-14 2017-12-15 --root demo`
    """
    from hmamba.candidates.compare import compare as compared
    from hmamba.candidates.compare import two_days
    from hmamba.config import load
    from hmamba.storage.layout import Layout

    layout, given = Layout.existing(root), [as_day(day) for day in days or ()]
    if len(given) > 2:
        raise typer.BadParameter("give at most two days.")
    first, second = two_days(layout, *given[:2], *[None] * (2 - len(given)))
    limits = load(config, layout).warehouse
    found = compared(layout, first, second, most=most, users=users, user=user, config=limits)
    if as_json:
        print_json(asdict(found))
    else:
        _show_comparison(found)


def _show_comparison(found: TableComparison) -> None:
    console, before, now = _console(), found.before, found.now
    days = [str(one.day) for one in (before, now)]
    pairs = ((getattr(before, name), getattr(now, name)) for name in ("model_version", "k", "users", "rows", "items"))
    cells = [
        (label, *(f"{value:,}" if isinstance(value, int) else value for value in pair))
        for label, pair in zip(("model_version", "k", "users", "rows", "distinct items"), pairs, strict=True)
    ]
    cells.append(("coverage", *(_share(one.coverage) for one in (before, now))))
    if before.refreshed_to or now.refreshed_to:
        cells.append(("refreshed to", before.refreshed_to, now.refreshed_to))
    console.print(_table(("", *days), cells, right=days))
    lengths = f"{found.users_with_more_rows:,} of them with more rows, {found.users_with_fewer_rows:,} with fewer"
    deeper = f", {_share(found.churn_all)} of the first {found.depth}" if found.depth > found.first else ""
    lines = [
        f"Users: {found.users_in_both:,} in both tables ({lengths}), {found.users_gained:,} only in {days[1]}, "
        f"{found.users_lost:,} only in {days[0]}",
        f"New items: {_share(found.churn_first)} of the first {found.first} (churn){deeper}",
        f"Unchanged: {_share(found.same_best)} of users have the same best item, {_share(found.same_first)} the same "
        f"first {found.first} in any order",
    ]
    if found.rank_correlation is not None:
        lines.append(
            f"Order of common items: {found.rank_correlation:.3f}, the mean of Spearman's rank correlation over "
            f"{counted(found.users_correlated, 'user')}"
        )
    for line in lines:
        console.print(Text(line))
    for what, items in (("more", found.gained), ("fewer", found.lost)):
        if items:
            console.print(Text(f"\nItems that {what} users have among their first {found.first}:"))
            changes = ((one.title or one.item_id, one.users_before, one.users_now, one.item_id) for one in items)
            console.print(_table(("item", *days, "item id"), changes, right=days))
    for one in found.examples:
        _show_compared_user(console, one, days)


def _show_compared_user(console: Console, one: ComparedUser, days: Sequence[str]) -> None:
    new = sum(not item.in_both for item in one.now)
    console.print(Text(f"\nUser {printable(short(one.user))}: {new} of {len(one.now)} items are new"))
    before = [f"{'  ' if item.in_both else '- '}{item.title or item.item_id}" for item in one.before]
    now = [f"{'  ' if item.in_both else '+ '}{item.title or item.item_id}" for item in one.now]
    events = [event.title or event.item_id for event in one.history or ()]
    if one.history is None:
        console.print(Text("History: the working folder of that night has been deleted."))
    columns = (before, now) if one.history is None else (events, before, now)
    names = days if one.history is None else ("history, newest first", *days)
    console.print(_table(names, zip_longest(*columns)))


def _share(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f} %"


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
