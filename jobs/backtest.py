"""Backtest: replay past nights with the real steps in a separate folder, and judge each on the days that followed.

Two chains of nights run side by side: one fine-tunes its champion every night, the other trains from scratch. The
root's published candidates, models and warehouse do not change. An interrupted backtest resumes where it stopped if the
settings and the events are the same.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from hmamba.backtest.judge import Chain, judge_night
from hmamba.backtest.page import Findings, markdown, page
from hmamba.config import Config, load
from hmamba.contracts.backtest import BacktestInputs, BacktestNight
from hmamba.contracts.manifest import SnapshotManifest
from hmamba.errors import ConfigError, InputError, QualityError
from hmamba.inference.device import device_of
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import Histories, read_histories
from hmamba.storage.backtest_layout import BacktestLayout
from hmamba.storage.base import write_text
from hmamba.storage.layout import Layout
from hmamba.storage.local import digest
from jobs.night import NightOptions, StepFailedError, run_one

log = logging.getLogger("hmamba")

FINE_TUNED, FULL = "fine-tuned", "full retrain"
RUN_ID = "backtest"


@dataclass(frozen=True)
class Replay:
    """The nights to replay.

    Attributes:
        layout: the root; only its warehouse and configuration are read.
        backtest: where all files of the backtest lie.
        config: all settings.
        choice: the --config option, passed to the steps; None for the root's own configuration.
        nights: the days of the nights.
        every: days from one night to the next; each night is judged on this many days after it.
    """

    layout: Layout
    backtest: BacktestLayout
    config: Config
    choice: str | None
    nights: tuple[date, ...]
    every: int

    @classmethod
    def of(cls, root: str, first: date, last: date, every: int, choice: str | None) -> Replay:
        """Check the options.

        Raises:
            ConfigError: the days are the wrong way round, or the data has no times.
            InputError: the root does not exist or has no warehouse.
        """
        layout = Layout.existing(root)
        config = load(choice, layout)
        if first > last:
            raise ConfigError(f"--from {first} is after --to {last}. Give the earlier day first.")
        if config.source.columns.by_position:
            raise ConfigError(
                f"source.columns.position = {config.source.columns.position!r}: data without times has no past nights "
                "to replay."
            )
        if not layout.warehouse.is_file():
            raise InputError(
                f"{layout.warehouse} does not exist. Run ingest first: {layout.command('run', '--day', str(last))}"
            )
        nights = tuple(first + timedelta(days=n) for n in range(0, (last - first).days + 1, every))
        return cls(layout, layout.backtest(first, last, every), config, choice, nights, every)

    def chain(self, name: str) -> Chain:
        """A chain's root, created if needed. Its warehouse is a link to the root's own, which is only read."""
        layout = Layout.at(self.backtest.chain(name))
        layout.root.mkdir(parents=True, exist_ok=True)
        if not layout.warehouse.is_symlink():
            layout.warehouse.symlink_to(os.path.relpath(self.layout.warehouse, layout.root))
        if self.layout.config.exists() and not layout.config.exists():
            shutil.copyfile(self.layout.config, layout.config)
        self._link_descriptions(layout)
        return Chain(name, layout)

    def _link_descriptions(self, chain: Layout) -> None:
        """Link the files of the catalogue and of the users into a chain's root, where its settings look for them."""
        for pattern in (self.config.catalogue.path, self.config.users.path):
            if pattern is not None and not Path(pattern).is_absolute():
                for found in self.layout.root.glob(Path(pattern).parts[0]):
                    link = chain.root / found.name
                    if not link.is_symlink():
                        link.symlink_to(os.path.relpath(found, chain.root))

    def options(self, chain: Chain, day: date, *, full_retrain: bool = False, any_day: bool = False) -> NightOptions:
        """Options of the steps of one night of a chain."""
        return NightOptions(str(chain.layout.root), day, self.choice, RUN_ID, full_retrain, any_day=any_day)

    def continues(self, events: str) -> None:
        """Check that the folder belongs to the same settings and events, or record them in a new one.

        Args:
            events: digest of all events.

        Raises:
            InputError: the settings or the events differ, so that the nights cannot be compared.
        """
        path, storage = self.backtest.state, self.layout.storage
        now = BacktestInputs(settings=digest(self.config.model_dump()), events=events)
        begun = BacktestInputs.read_if_exists(path, storage)
        if begun is not None and begun != now:
            same = {"settings": begun.settings == now.settings, "events": begun.events == now.events}
            changed = " and the ".join(name for name, is_same in same.items() if not is_same)
            raise InputError(
                f"{self.backtest.folder}: the {changed} have changed since this backtest started. Remove that folder "
                "to start again."
            )
        now.write(path, storage)


def replay(plan: Replay) -> Iterator[BacktestNight]:
    """Run and judge the nights; yield each when it is done.

    Raises:
        InputError: the settings or the events have changed since this backtest started.
        StepFailedError: a step failed; running the backtest again resumes before it.
    """
    last = plan.nights[-1] + timedelta(days=plan.every)
    chains = [plan.chain(FINE_TUNED), plan.chain(FULL)]
    truth = plan.chain("truth")
    truth_run = truth.layout.run(last, RUN_ID)
    # The last nights are judged on days that may be in the future or have no events.
    run_one(plan.options(truth, last, any_day=True), "snapshot")
    plan.continues(SnapshotManifest.read(truth_run.manifest, truth_run.storage).digest)
    events: Histories | None = None
    for number, day in enumerate(plan.nights, start=1):
        kept = plan.backtest.night(day)
        if (judged_before := BacktestNight.read_if_exists(kept, plan.layout.storage)) is not None:
            yield judged_before
            continue
        log.info("backtest: night %d of %d, %s", number, len(plan.nights), day)
        for chain in chains:
            _run_night(plan, chain, chains[0], day)
        if events is None:
            events = read_histories(Snapshot.open(truth_run).shards)
        until = day + timedelta(days=plan.every)
        device = device_of(plan.config.train.device)
        judged = judge_night(chains, day, RUN_ID, events, until, plan.config, device)
        judged.write(kept, plan.layout.storage)
        for chain in chains:  # models stay: they are the next night's champions
            chain.layout.storage.delete(chain.layout.run(day, RUN_ID).folder)
        yield judged


def _run_night(plan: Replay, chain: Chain, first: Chain, day: date) -> None:
    """Snapshot, train and gate of one night of a chain; the first chain's snapshot is shared by all."""
    run, made = chain.layout.run(day, RUN_ID), first.layout.run(day, RUN_ID)
    options = plan.options(chain, day, full_retrain=chain.name == FULL)
    if chain is first:
        run_one(options, "snapshot")
    else:
        run.storage.delete(run.sequences)
        shutil.copytree(made.sequences, run.sequences, copy_function=os.link)
    run_one(options, "train")
    try:
        run_one(options, "gate")
    except StepFailedError as error:
        # With gate.first_night = "refuse" the verdict records that nothing serves; the night counts as such.
        if error.exit_code != QualityError.exit_code:
            raise


def run_backtest(plan: Replay) -> tuple[str, Path]:
    """Replay the nights, and write the results after each.

    Returns:
        The tables as Markdown, and the path of the page.

    Raises:
        InputError: no night is followed by events to judge it on.
    """
    nights: list[BacktestNight] = []
    target = plan.backtest.page
    text = ""
    for night in replay(plan):
        nights.append(night)
        shown = ", ".join(
            f"{name} {found.means[plan.config.gate.metric]:.4f}" for name, found in night.measured.items()
        )
        log.info("backtest: %s, %d users: %s", night.day, len(night.user_ids), shown or "no users to judge on")
        if any(entry.measured for entry in nights):
            found = Findings.of(nights, (FINE_TUNED, FULL), plan.config.gate.metric, plan.config.candidates.k)
            text = markdown(found)
            title = f"Backtest, {plan.nights[0]} to {plan.nights[-1]}"
            write_text(plan.layout.storage, target, page(found, title))
            write_text(plan.layout.storage, plan.backtest.tables, text)
    if not text:
        raise InputError(
            f"No user has events to judge on within {plan.every} days after any of the {len(plan.nights)} nights. Give "
            "nights before the newest events, or a larger --every."
        )
    return text, target
