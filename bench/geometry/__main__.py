"""Measure where hyperbolic geometry could pay: HMamba against its Euclidean twin, by dimension and popularity.

Finished trainings are stored and the page is made from them, so a long measurement can be stopped and resumed.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import settings
from bench.accuracy import command_of, default_protocol, file_name, numbers, split_of, tuned_settings, usual_length
from bench.command import run_command, write_page
from bench.datasets import Data, load
from bench.geometry.compare import EUCLIDEAN, FULL, Compared, Facts, Trained
from bench.geometry.page import page
from bench.geometry.trained import TOP, train
from bench.machine import commit, machine, today
from bench.protocols import TEST, Experiment, Protocol
from bench.store import ROOT, Store, sources
from bench.systems import MODEL
from bench.tables import table
from hmamba.config import Config
from hmamba.errors import ConfigError
from hmamba.storage.local import digest, sha256

log = logging.getLogger("hmamba")

DIMS, SEEDS, VARIANTS = (4, 8, 16, 32), (1, 2, 3), (FULL, EUCLIDEAN)
CODE = (*MODEL, "bench/geometry/trained.py")

Key = tuple[str, int, int]
"""Variant, dimension and seed of a training."""


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.geometry", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("data", help="beauty, toys, complete-journey, another data set of bench.accuracy, or a file")
    add(
        "--folder", type=Path, default=os.environ.get("HMAMBA_DATA"), help="folder of the named data sets (HMAMBA_DATA)"
    )
    add("--dims", default=",".join(map(str, DIMS)), help="values of model.dim to train (%(default)s)")
    add("--seeds", default=",".join(map(str, SEEDS)), help="seeds to train (%(default)s)")
    add("--variants", default=",".join(VARIANTS), help="values of model.variant to train (%(default)s)")
    add("--stored", action="store_true", help="train nothing; make the page from the stored trainings")
    add("--settings", type=Path, help="a .toml file (bench/settings/DATA.toml if it exists)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="override a setting, such as train.epochs=1")
    add("--print-only", action="store_true", help="write no results file")
    add("--work", type=Path, default=ROOT / "build" / "bench" / "accuracy", help="folder of stored runs (%(default)s)")
    add("--out", type=Path, default=ROOT / "bench" / "results", help="folder of the Markdown files (%(default)s)")
    return parser


def of_dim(dim: int, variant: str) -> dict[str, Any]:
    """Overrides for a dimension and a variant. Two heads of ``dim`` channels, as the default has; no other width.

    There is no ranker: it is not part of the geometry, and ranks are those of the model's own scores.
    """
    return {"model.dim": dim, "model.head_dim": dim, "model.variant": variant, "rank.model": "none"}


def _variants(text: str) -> list[str]:
    variants = text.split(",")
    if set(variants) - set(VARIANTS):
        raise ConfigError(f"--variants {text}: choose among {', '.join(VARIANTS)}, with commas.")
    return variants


class Trainings:
    """The trainings on one experiment, stored or new.

    Args:
        experiment: the split data.
        split: everything that the split depends on.
        store: the store of the runs.
        standard: settings of the data set.
        overrides: settings that all trainings share.
    """

    def __init__(
        self,
        experiment: Experiment,
        split: dict[str, Any],
        store: Store,
        standard: dict[str, Any],
        overrides: dict[str, Any],
    ) -> None:
        self._experiment, self._store = experiment, store
        self._standard, self._overrides = standard, overrides
        self._depends = {"system": "geometry", "split": split, "sources": sources(*CODE)}
        self._items = sha256(experiment.items) if experiment.items.is_file() else None

    def _config(self, key: Key) -> Config:
        variant, dim, seed = key
        return settings.configure(self._standard, {**self._overrides, **of_dim(dim, variant), "train.seed": seed})

    def _identity(self, config: Config) -> dict[str, Any]:
        return {**self._depends, "settings": [config.training_digest(), self._items]}

    def stored(self, key: Key) -> Trained | None:
        """A finished training; None if there is none."""
        identity = self._identity(self._config(key))
        result, arrays = self._store.find(identity, to_run=False), self._store.arrays(identity)
        return None if result is None or arrays is None else Trained(*key, result, arrays)

    def train(self, key: Key) -> None:
        """Train, or resume a training that was stopped, and store it."""
        config = self._config(key)
        identity, changed = self._identity(config), settings.differences(config)
        log.info("geometry: seed %d, %s", config.train.seed, changed)
        folder = self._store.under_way(identity)
        facts, arrays = train(self._experiment, config, folder.name, folder)
        made = {"commit": commit(), "date": today(), "machine": machine()}
        self._store.keep_arrays(identity, arrays)
        result = {"system": "geometry", "seed": config.train.seed, "settings": changed, **made, **facts}
        self._store.keep(identity, result)


def _keys(dims: list[int], seeds: list[int], variants: list[str]) -> Iterator[Key]:
    """Trainings in the order in which they are most useful if the command is stopped: seed by seed, in pairs."""
    return ((variant, dim, seed) for seed in seeds for dim in dims for variant in variants)


def _conditions(
    facts: Facts, data: Data, protocol: Protocol, length: int, changed: dict[str, Any], given: list[str]
) -> str:
    experiment, exam = facts.experiment, facts.exam
    group = next(iter(exam.groups))
    shown = ", ".join(f"{name} = {value}" for name, value in changed.items())
    suffix = f" ({digest(changed)[:8]} in the name of this file)" if changed else ""
    lines = [
        ["command", f"`{command_of(given, 'bench.geometry')}`"],
        [f"other than the defaults of {data.name}, besides dimension and variant", (shown or "none") + suffix],
        ["commit, date", f"{commit()}, {today()}"],
        ["machine", machine()],
        [
            "data",
            f"{data.name}: {data.histories.events:,} events, {len(data.histories):,} users, {data.size - 1:,} items",
        ],
        ["sha256", data.sha256],
        ["training", f"{experiment.train.events:,} events; {len(experiment.candidate_items):,} candidate items"],
        ["categories", "in the model and in diversity and entropy" if facts.names is not None else "none"],
        ["queries", f"test, {exam.views[0]}: {int(facts.inside.sum()):,} users ({group})"],
        ["early stop", f"NDCG@10 of validation, without counted terms; lists of {TOP} are those of the test"],
    ]
    if protocol == "leave-one-out":
        lines.append(["events read of a user", f"the last {length}" if length else "all"])
    return table(["", ""], lines)


def run(options: argparse.Namespace) -> str:
    """Train what is not stored yet, and write the page.

    Returns:
        The Markdown.

    Raises:
        HMambaError: a file, a setting or an option is invalid, or nothing is stored yet.
    """
    data = load(options.data, Path(options.folder) if options.folder else None)
    dims, seeds = numbers("--dims", options.dims), numbers("--seeds", options.seeds)
    variants = _variants(options.variants)
    standard, overrides = settings.standard(data.name, data.repeats, options.settings), settings.pairs(options.set)
    config = settings.configure(standard, overrides)
    protocol, length = default_protocol(data), usual_length(data)
    usual = argparse.Namespace(length=length, launch_late=0.0, days=28, split=TEST)
    experiment, split = split_of(data, protocol, usual, config)
    store = Store(options.work)
    with store.alone():
        trainings = Trainings(experiment, split, store, standard, overrides)
        for key in [] if options.stored else _keys(dims, seeds, variants):
            if trainings.stored(key) is None:
                trainings.train(key)
        shown = _keys(sorted({*DIMS, *dims}), sorted({*SEEDS, *seeds}), list(VARIANTS))
        found = [each for key in shown if (each := trainings.stored(key)) is not None]
    if not found:
        raise ConfigError(f"no training on {data.name} with these settings is stored: leave out --stored.")
    facts, changed = Facts(experiment), tuned_settings(data, config)
    title = f"# Hyperbolic and Euclidean geometry on {data.name}, {protocol}"
    text = page(title, _conditions(facts, data, protocol, length, changed, options.given), Compared(found, facts))
    if not options.print_only:
        write_page(options.out / file_name("geometry", data.name, TEST, changed), text)
    return text


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_command(_arguments(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
