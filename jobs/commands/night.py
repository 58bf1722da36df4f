"""Commands that run nights: run, refresh, accept, deliver, backtest."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from hmamba.errors import INTERRUPTED
from hmamba.text import log_handler
from jobs.commands.options import AnyDay, AsJson, Root, Settings, print_json
from jobs.commands.options import day as as_day

if TYPE_CHECKING:
    from jobs.night import StepDone


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
    options = NightOptions(str(layout.root), as_day(day), config, run_id, full_retrain, workers, any_day)
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
    options = NightOptions(str(layout.root), as_day(day), config, run_id, any_day=any_day)
    layout.run(options.day, run_id)
    _show(run_refresh(options))


def accept(
    guards: Annotated[list[str], typer.Argument(help="Names of guards: churn, top_item, coverage, users_lost.")],
    root: Root,
    day: Annotated[str, typer.Option(help="The UTC day of the night, such as 2017-12-14.")],
    run_id: Annotated[str, typer.Option(help="Name of the run's working folder.")] = "manual",
) -> None:
    """Let a table through that guards of `[publish.guards]` have stopped, this table only.

    Publish again afterwards. The guards hold again for every other table, also for one of the same day. The step
    metrics record what was accepted.

    Example: `hmamba accept churn --root demo --day 2017-12-15`
    """
    from hmamba.candidates.accept import accept as record
    from hmamba.storage.layout import Layout

    layout, when = Layout.existing(root), as_day(day)
    found = record(layout, when, run_id, guards)
    where = f"--root {shlex.quote(root)} --day {when} --run-id {run_id}"
    typer.echo(f"Accepted for this table of {when}: {', '.join(found.guards)}. Next, publish again:")
    typer.echo("  in Airflow, clear the task publish, or without it:")
    typer.echo(f"  python -m jobs.publish {where}")
    typer.echo(f"  python -m jobs.report {where}")


def deliver(
    root: Root,
    to: Annotated[
        list[str] | None,
        typer.Option(help="A target of `[deliver]`, once or more. Default: all of them.", show_default=False),
    ] = None,
    day: Annotated[
        str | None, typer.Option(help="The UTC day of the table. Default: the newest table.", show_default=False)
    ] = None,
    older: Annotated[
        bool, typer.Option("--older", help="Accept that a target holds the table of a later day, as after a rollback.")
    ] = False,
    config: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Deliver the published table to PostgreSQL, Redis or folders of CSV or JSON lines, as `[deliver]` says.

    Readers of a target find the table before or the new one, never a part of it. A target that holds the table before
    gets the changed users only; one that holds this table already gets nothing. Safe to run again after a failure.

    Example: `hmamba deliver --root demo --to shop`
    """
    from dataclasses import asdict

    from hmamba.config import load
    from hmamba.delivery.deliver import deliver as serve
    from hmamba.storage.layout import Layout

    layout = Layout.existing(root)
    logging.basicConfig(handlers=[log_handler()], level=logging.WARNING)
    done = serve(layout, load(config, layout), to or (), None if day is None else as_day(day), older=older)
    if as_json:
        print_json([asdict(one) for one in done])
        return
    for one in done:
        typer.echo(f"{one.in_a_line}; day {one.day} ({one.seconds:.1f} s)")


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
    text, path = run_backtest(Replay.of(root, as_day(first), as_day(last), every, config))
    typer.echo(f"{text}\nPage: {near(path)}")
