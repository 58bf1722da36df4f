"""Commands that show what a root holds, and change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hmamba.text import printable, short
from jobs.commands.options import AsJson, Root, print_json

if TYPE_CHECKING:
    from hmamba.candidates.lookup import Recommendations


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
    console = Console()
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


def _table(names: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> Table:
    """A table without borders; None is an empty cell."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else printable(short(str(cell)))) for cell in row))
    return table
