"""What every step has in common: arguments, logging, exit status, facts."""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from hmamba.config import Config, load
from hmamba.errors import HMambaError
from hmamba.files import write_json
from hmamba.layout import Layout, RunLayout

log = logging.getLogger("hmamba")

Facts = dict[str, Any]


@dataclass(frozen=True)
class StepContext:
    """What a step is told: where, which day, which run, which settings."""

    layout: Layout
    day: date
    run_id: str
    config: Config
    options: argparse.Namespace

    @property
    def run(self) -> RunLayout:
        """Working folder of this run."""
        return self.layout.run(self.day, self.run_id)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day such as 2017-12-14") from None


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """The arguments that all steps share."""
    result = argparse.ArgumentParser(prog=f"python -m jobs.{name}", description=description)
    result.add_argument("--root", required=True, help="folder of the recommender, e.g. ./demo")
    result.add_argument("--day", required=True, type=_day, help="the day to process, UTC, e.g. 2017-12-14")
    result.add_argument("--config", help="a .toml file or a named configuration (default: ROOT/hmamba.toml)")
    result.add_argument("--run-id", default="manual", help="names the run's working folder (default: manual)")
    result.add_argument("--verbose", action="store_true", help="log more")
    return result


def run_step(
    name: str,
    description: str,
    body: Callable[[StepContext], Facts],
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
    arguments: list[str] | None = None,
    *,
    tells: bool = True,
) -> int:
    """Parse arguments, run ``body``, record and print its facts.

    Standard output carries one JSON line; everything else goes to standard error. The facts are kept under the run's
    ``facts/`` with the step's wall time (seconds) and peak resident memory (bytes). Where several processes share a
    step only one of them ``tells`` its facts.

    Returns:
        The exit status: 0, or the ``exit_code`` of the :class:`HMambaError` that ended the step (3 means that
        another try cannot help).
    """
    options = parser(name, description)
    if add_options is not None:
        add_options(options)
    given = options.parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.DEBUG if given.verbose else logging.INFO, format="%(asctime)s %(message)s"
    )
    logging.captureWarnings(True)
    for noisy in ("matplotlib", "great_expectations", "py.warnings", "faiss"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    started = time.monotonic()
    try:
        layout = Layout.at(given.root)
        context = StepContext(layout, given.day, given.run_id, load(given.config, layout), given)
        context.run.facts.mkdir(parents=True, exist_ok=True)
        facts = body(context)
    except HMambaError as error:
        log.error("%s: %s", name, error)
        return error.exit_code
    if not tells:
        return 0
    facts = {
        "step": name,
        "day": given.day.isoformat(),
        **facts,
        "seconds": round(time.monotonic() - started, 3),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    write_json(context.run.step_facts(name, getattr(given, "shard", None)), facts)
    print(json.dumps(facts, default=str), flush=True)
    return 0
