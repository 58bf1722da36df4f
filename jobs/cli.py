"""``hmamba``: run a night, look a user up, check the machine, start a root."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hmamba.doctor import Check, diagnose, healthy
from hmamba.errors import ConfigError, HMambaError, InputError

# What is only needed by one command is imported inside it: `hmamba --help` answers at once, and `hmamba doctor` works
# where a library is missing.

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Recommendations from a hyperbolic Mamba, retrained and published every night.\n\n"
    "A first night on your own files: `hmamba init shop`, put Parquet, CSV or JSON lines into "
    "`shop/landing/interactions/`, say in `shop/hmamba.toml` which columns are what, `hmamba doctor --root shop`, "
    "`hmamba run --root shop --day 2024-05-31`, `hmamba recommend USER --root shop`.",
)

Root = Annotated[str, typer.Option(help="Folder of the recommender, such as ./demo.", show_default=False)]
_MARKS = {"ok": ("✓", "green"), "note": ("!", "yellow"), "missing": ("✗", "red")}
_SHOWN = {
    "ingest": ("rows_loaded", "rows_duplicate", "rows_quarantined"),
    "snapshot": ("users", "items", "events"),
    "train": ("version", "skipped_reason"),
    "gate": ("serving", "promoted"),
    "index": ("kind", "items"),
    "score": ("users", "rows"),
    "publish": ("users", "rows"),
    "refresh": ("users", "new_users", "advanced", "anew", "changed"),
    "report": ("path",),
}


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day such as 2017-12-14.") from None


@app.command()
def run(
    root: Root,
    day: Annotated[str, typer.Option(help="The UTC day to process, such as 2017-12-14: later events are not seen.")],
    config: Annotated[
        str | None, typer.Option(help="A .toml file or a named configuration. Default: ROOT/hmamba.toml.")
    ] = None,
    run_id: Annotated[str, typer.Option(help="Names the run's working folder.")] = "manual",
    full_retrain: Annotated[bool, typer.Option("--full-retrain", help="Train from nothing, not from the champion.")] = (
        False
    ),
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Shards scored at once, the cores shared out. Default: one a core; 1 with a GPU."),
    ] = None,
) -> None:
    """Run a whole night without Airflow: pull, check, train, judge, score, publish, report.

    Safe to run again: what is done is found and not done twice. The first step that fails ends the night with its
    own exit status (2: a file or setting to mend, 3: the data broke a rule).

    Example: `hmamba run --root demo --day 2017-12-15`
    """
    from hmamba.layout import Layout
    from jobs.night import NightOptions, run_night

    layout = Layout.at(root)
    if not layout.root.is_dir():
        raise InputError(f"--root {root}: no such folder. Start one with: hmamba init {root}")
    options = NightOptions(str(layout.root), _day(day), config, run_id, full_retrain, workers)
    layout.run(options.day, run_id)
    started = datetime.now(UTC)
    for done in run_night(options):
        name = done.name if done.shard is None else f"{done.name} {done.shard + 1}/{done.shards}"
        typer.echo(f"{name:<12}{done.seconds:8.1f} s  {_brief(done.name, done.facts)}")
    seconds = (datetime.now(UTC) - started).total_seconds()
    typer.echo(f"{'all':<12}{seconds:8.1f} s  report: {layout.report(options.day)}")


def _brief(step: str, facts: dict[str, Any]) -> str:
    """The facts of a step that somebody waiting wants to see."""
    shown = []
    for key in _SHOWN[step]:
        value = facts.get(key)
        if value is not None:
            figure = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
            shown.append(f"{key.replace('_', ' ')} {figure}")
    return ", ".join(shown)


@app.command()
def refresh(
    root: Root,
    day: Annotated[str, typer.Option(help="The UTC day under way, such as 2017-12-15: later events are not seen.")],
    config: Annotated[
        str | None, typer.Option(help="A .toml file or a named configuration. Default: ROOT/hmamba.toml.")
    ] = None,
    run_id: Annotated[str, typer.Option(help="Names the working folder and the pull.")] = "refresh",
) -> None:
    """Between nights: pull new files and renew the candidates of users with new events, by the model that serves.

    Everybody else's candidates stay as they are. Nothing is trained. Safe to run again; publishes nothing if nobody
    has new events. With `candidates.states = true` only the new events are read through the model.

    Example: `hmamba refresh --root demo --day 2017-12-16`
    """
    from hmamba.layout import Layout
    from jobs.night import NightOptions, run_refresh

    layout = Layout.at(root)
    if not layout.root.is_dir():
        raise InputError(f"--root {root}: no such folder. Start one with: hmamba init {root}")
    options = NightOptions(str(layout.root), _day(day), config, run_id)
    layout.run(options.day, run_id)
    for done in run_refresh(options):
        typer.echo(f"{done.name:<12}{done.seconds:8.1f} s  {_brief(done.name, done.facts)}")
        if done.name == "refresh" and not done.facts["users"]:
            typer.echo("Nobody has new events: nothing has been published.")


@app.command()
def recommend(
    user: Annotated[str, typer.Argument(help="The user's id, as in the source files.")],
    root: Root,
    most: Annotated[int, typer.Option("--most", "-n", min=1, help="How many items.")] = 10,
) -> None:
    """Show a user's best items from the newest published night.

    Reads `candidates/latest.json` and the files it names, as any other consumer would. No model is loaded.

    Example: `hmamba recommend 2375 --root demo -n 5`
    """
    from hmamba.layout import Layout
    from hmamba.report.lookup import recommend as look_up
    from hmamba.report.text import printable, short

    found = look_up(Layout.at(root), user, most)
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
    """Say what this machine has, what is missing, and the command that mends it.

    Leaves with 1 if something is missing that the nights need.

    Example: `hmamba doctor --root demo`
    """
    checks = diagnose(None if root is None else Path(root).expanduser().resolve())
    console = Console(highlight=False)
    width = max(len(check.name) for check in checks)
    for check in checks:
        _print_check(console, check, width)
    lost = sum(check.state == "missing" for check in checks)
    console.print(
        Text("Everything that the nights need is here." if healthy(checks) else f"{lost} missing: see ✗ above.")
    )
    raise typer.Exit(0 if healthy(checks) else 1)


def _print_check(console: Console, check: Check, width: int) -> None:
    mark, colour = _MARKS[check.state]
    console.print(Text.assemble((mark, colour), f" {check.name:<{width}}  {check.found}"), soft_wrap=True)
    if check.advice:
        console.print(Text(f"  {'':<{width}}  → {check.advice}", style="dim"), soft_wrap=True)


@app.command()
def init(
    root: Annotated[str, typer.Argument(help="The folder to start, such as ./shop.")],
    config: Annotated[
        str | None, typer.Option(help="Start from a named configuration: films, complete_journey.", show_default=False)
    ] = None,
) -> None:
    """Start a recommender's folder: a landing folder and a commented `hmamba.toml` to edit.

    Example: `hmamba init shop`
    """
    from hmamba.config import load
    from hmamba.configdocs import named_text, starter
    from hmamba.files import atomic_file
    from hmamba.layout import Layout

    layout = Layout.at(root)
    if layout.config.exists():
        raise ConfigError(f"{layout.config} is already there. Edit it, or remove it first.")
    if layout.root.exists() and not layout.root.is_dir():
        raise InputError(f"{layout.root} is not a folder. Give another path.")
    text = starter() if config is None else named_text(config)
    (layout.landing / "interactions").mkdir(parents=True, exist_ok=True)
    with atomic_file(layout.config) as temporary:
        temporary.write_text(text, encoding="utf-8")
    source = load(None, layout).source
    columns = source.columns
    typer.echo(
        f"{layout.root} is ready. Next:\n"
        f"  1. Put Parquet, CSV or JSON lines (also .gz) into {layout.landing / 'interactions'}\n"
        f"  2. Say in {layout.config} which columns are what. Now: user {columns.user_id}, item {columns.item_id},\n"
        f"     time {columns.event_time}, weight {columns.weight or '(none)'}\n"
        f"  3. hmamba doctor --root {root}\n"
        f"  4. hmamba run --root {root} --day YYYY-MM-DD"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line. An error that the user can mend is one sentence, without a traceback.

    Returns:
        The exit status of such an error; otherwise typer leaves with its own.
    """
    try:
        app(arguments, prog_name="hmamba")
    except HMambaError as error:
        print(f"hmamba: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
