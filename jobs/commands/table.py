"""All commands, in the order of ``hmamba --help``. The parser and the tests of the documentation read this list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jobs.commands import explain, look, night, setup, upkeep

_BEGIN, _NIGHTS, _LOOK, _UPKEEP = "To begin", "Nights", "To look at a root", "To look after a root"


@dataclass(frozen=True)
class Command:
    """A command: its name, the function that typer turns into a parser, and its panel in ``hmamba --help``."""

    name: str
    call: Callable[..., None]
    panel: str


COMMANDS = (
    Command("init", setup.init, _BEGIN),
    Command("example", setup.example, _BEGIN),
    Command("doctor", setup.doctor, _BEGIN),
    Command("run", night.run, _NIGHTS),
    Command("refresh", night.refresh, _NIGHTS),
    Command("accept", night.accept, _NIGHTS),
    Command("deliver", night.deliver, _NIGHTS),
    Command("backtest", night.backtest, _NIGHTS),
    Command("recommend", look.recommend, _LOOK),
    Command("explain", explain.explain, _LOOK),
    Command("compare", look.compare, _LOOK),
    Command("history", look.history, _LOOK),
    Command("models", look.models, _LOOK),
    Command("check", look.check, _LOOK),
    Command("rollback", upkeep.rollback, _UPKEEP),
    Command("prune", upkeep.prune, _UPKEEP),
    Command("forget", upkeep.forget, _UPKEEP),
    Command("backup", upkeep.backup, _UPKEEP),
    Command("restore", upkeep.restore, _UPKEEP),
)
