"""The command ``hmamba``; see :mod:`jobs.commands`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hmamba import __version__
from hmamba.errors import explained
from hmamba.text import for_log
from jobs.commands.table import COMMANDS

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Recommendations from a hyperbolic Mamba, retrained and published every night.\n\n"
    "To start with your own files, `hmamba init shop --from exports/*.parquet` samples them, writes `shop/hmamba.toml` "
    "and shows the first day to run. Then run `hmamba run --root shop --day 2024-05-31` and "
    "`hmamba recommend USER --root shop`. To start with example data: `hmamba example films data`.\n\n"
    "`--root` may be left out if the environment variable `HMAMBA_ROOT` names the folder.",
)
for _command in COMMANDS:
    app.command(_command.name, rich_help_panel=_command.panel)(_command.call)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hmamba-nightly {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of ``hmamba`` itself."""


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
