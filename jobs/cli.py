"""The command ``hmamba``: run a night, look up a user, check the machine, start a root."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hmamba.clock import day_of
from hmamba.doctor import Check, diagnose, healthy
from hmamba.errors import INTERRUPTED, ConfigError, explained
from hmamba.text import for_log, log_handler

if TYPE_CHECKING:
    from jobs.night import StepDone

# Commands import what only they need, so that `hmamba --help` is fast and `hmamba doctor` works where a library is
# missing.

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Recommendations from a hyperbolic Mamba, retrained and published every night.\n\n"
    "To start with your own files, `hmamba init shop --from exports/*.parquet` samples them, writes `shop/hmamba.toml` "
    "and shows the first day to run. Then run `hmamba run --root shop --day 2024-05-31` and "
    "`hmamba recommend USER --root shop`. To start with example data: `hmamba example films data`.",
)

AnyDay = Annotated[bool, typer.Option("--any-day", help="Accept a day after today, or long after the newest event.")]
Settings = Annotated[str | None, typer.Option(help="A .toml file or a named configuration. Default: ROOT/hmamba.toml.")]
Root = Annotated[str, typer.Option(help="Folder of the recommender, such as ./demo.", show_default=False)]
_MARKS = {"ok": ("✓", "green"), "note": ("!", "yellow"), "missing": ("✗", "red")}


def _day(text: str) -> date:
    try:
        return day_of(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None


@app.command()
def run(
    root: Root,
    day: Annotated[str, typer.Option(help="The UTC day to process, such as 2017-12-14. Later events are ignored.")],
    config: Settings = None,
    run_id: Annotated[str, typer.Option(help="Name of the run's working folder.")] = "manual",
    full_retrain: Annotated[bool, typer.Option("--full-retrain", help="Train from scratch, not from the champion.")] = (
        False
    ),
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of shards to score at once; they share the cores. Default: one per core; 1 with a GPU."
        ),
    ] = None,
    any_day: AnyDay = False,
) -> None:
    """Run a whole night without Airflow: ingest, snapshot, train, gate, index, score, publish, report.

    Safe to run again: a night that was stopped resumes where it stopped. The first step that fails ends the night with
    its exit status (1: may succeed on retry, 2: a file or setting must be fixed, 3: data or candidates broke a rule).

    Example: `hmamba run --root demo --day 2017-12-15`
    """
    from hmamba.candidates.lookup import example_user
    from hmamba.storage.layout import Layout
    from hmamba.text import near
    from jobs.night import NightOptions, run_night

    layout = Layout.existing(root)
    options = NightOptions(str(layout.root), _day(day), config, run_id, full_retrain, workers, any_day)
    layout.run(options.day, run_id)
    started = time.monotonic()
    _show(run_night(options))
    typer.echo(f"Done in {time.monotonic() - started:.0f} s.")
    user = example_user(layout)
    if user is not None:
        typer.echo(f"Look up a user: hmamba recommend {shlex.quote(user)} --root {shlex.quote(root)}")
    typer.echo(f"The night's report: {near(layout.report(options.day))}")


def _show(steps: Iterator[StepDone]) -> None:
    """Print a line for each step as it ends; after Ctrl-C or SIGTERM, print how to resume."""
    try:
        for done in steps:
            name = done.name if done.shard is None else f"{done.name} {done.shard + 1}/{done.shards}"
            typer.echo(f"{name:<12}{done.metrics.in_a_line} ({done.seconds:.1f} s)")
    except (KeyboardInterrupt, SystemExit) as stopped:
        typer.echo("\nStopped. Run the same command again: it resumes where it stopped.", err=True)
        raise typer.Exit(int(stopped.code or 0) if isinstance(stopped, SystemExit) else INTERRUPTED) from None


@app.command()
def refresh(
    root: Root,
    day: Annotated[str, typer.Option(help="The current UTC day, such as 2017-12-15. Later events are ignored.")],
    config: Settings = None,
    run_id: Annotated[str, typer.Option(help="Name of the working folder and of the pull.")] = "refresh",
    any_day: AnyDay = False,
) -> None:
    """Between nights, pull new files and update the candidates of users with new events.

    Uses the serving model and trains nothing. The candidates of all other users do not change. Safe to run again;
    publishes nothing if there are no new events. With `candidates.states = true` the model reads only new events.

    Example: `hmamba refresh --root demo --day 2017-12-16`
    """
    from hmamba.storage.layout import Layout
    from jobs.night import NightOptions, run_refresh

    layout = Layout.existing(root)
    options = NightOptions(str(layout.root), _day(day), config, run_id, any_day=any_day)
    layout.run(options.day, run_id)
    _show(run_refresh(options))


@app.command()
def backtest(
    root: Root,
    first: Annotated[str, typer.Option("--from", help="The first night, a UTC day such as 2017-12-01.")],
    last: Annotated[str, typer.Option("--to", help="The last night, a UTC day such as 2017-12-10.")],
    every: Annotated[int, typer.Option(min=1, help="Number of days from one night to the next.")] = 1,
    config: Settings = None,
) -> None:
    """Replay past nights with the real steps, and evaluate each on the days after it.

    Compares fine-tuning, full retraining, recounting and refitting with each other and with the baselines. Writes a
    table and a chart to `ROOT/backtests/`; published tables and promotions are not changed. Safe to run again: it
    resumes where it stopped.

    Example: `hmamba backtest --root demo --from 2017-12-06 --to 2017-12-13`
    """
    from hmamba.text import near
    from jobs.backtest import Replay, run_backtest

    logging.basicConfig(handlers=[log_handler()], level=logging.INFO)
    text, path = run_backtest(Replay.of(root, _day(first), _day(last), every, config))
    typer.echo(f"{text}\nPage: {near(path)}")


@app.command()
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
    for sentence in roll_back(layout, _day(to), delete=delete):
        typer.echo(sentence)


@app.command()
def recommend(
    user: Annotated[str, typer.Argument(help="The user's id, as in the source files.")],
    root: Root,
    most: Annotated[int, typer.Option("--most", "-n", min=1, help="Number of items.")] = 10,
) -> None:
    """Show a user's best items from the newest published table.

    Reads `candidates/latest.json` and the files that it names, and loads no model.

    Example: `hmamba recommend 2375 --root demo -n 5`
    """
    from hmamba.candidates.lookup import recommend as look_up
    from hmamba.storage.layout import Layout
    from hmamba.text import printable, short

    found = look_up(Layout.existing(root), user, most)
    table = Table(title=None, box=None, header_style="bold", pad_edge=False)
    table.add_column("rank", justify="right")
    for name in ("item", "category"):
        table.add_column(name, overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("item id", overflow="fold")
    for row in found.rows:
        cells = (row.title or row.item_id, row.category or "", f"{row.score:.4f}", row.item_id)
        table.add_row(str(row.rank), *(Text(printable(short(cell))) for cell in cells))
    console = Console()
    console.print(Text(f"User {printable(short(user))}: day {found.day}, model_version {found.model_version}"))
    if found.warning:
        console.print(Text(f"Warning: {printable(found.warning)}"))
    console.print(table)


@app.command()
def doctor(
    root: Annotated[str | None, typer.Option(help="Also check this folder.", show_default=False)] = None,
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


@app.command()
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


@app.command()
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


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. An error that the user can fix is printed without a traceback.

    Returns:
        The exit status of such an error; in all other cases typer exits by itself.
    """
    try:
        app(arguments, prog_name="hmamba")
    except Exception as error:
        known = explained(error)
        if known is None:
            raise
        print(f"hmamba: {for_log(str(known))}", file=sys.stderr)
        return known.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
