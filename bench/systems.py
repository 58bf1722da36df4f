"""The compared systems; each is run once for each seed, and its result is stored."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.floors import bought_most, most_recent, popularity, rank_by_neighbours, tuned_neighbours
from bench.machine import commit, machine, today
from bench.peer import Settings, run_sasrec, search_space
from bench.protocols import MASKED, VALIDATION, Experiment, Protocol, measure
from bench.settings import differences
from bench.store import Store, sources
from bench.training import train
from hmamba.config import Config
from hmamba.storage.local import sha256

log = logging.getLogger("hmamba")

HMAMBA, SASREC = "HMamba", "SASRec (RecTools)"
FLOORS: dict[Protocol, tuple[str, ...]] = {
    "leave-one-out": ("popularity", "item-kNN"),
    "last-day": ("popularity", "most recent", "most bought"),
}
REFERENCE: dict[Protocol, str] = {"leave-one-out": SASREC, "last-day": "most bought"}

_COMMON = ("bench/datasets.py", "bench/protocols.py", "hmamba/evaluation/*.py", "hmamba/sequences/*.py")
_MODEL = (*_COMMON, "bench/training.py", "hmamba/model/*.py", "hmamba/training/*.py")


@dataclass
class Row:
    """One row of a table.

    Attributes:
        name: name of the system.
        results: finished runs, one for each seed.
        absent: why there are none.
        whole: False for a part of another row's model, measured in the same run.
    """

    name: str
    results: list[dict[str, Any]] = field(default_factory=list)
    absent: str = ""
    whole: bool = True

    def parts(self) -> list[Row]:
        """A row for each part of the model that was measured separately."""
        names = self.results[0].get("parts", {}) if self.results else {}
        measured = {name: [{**result, "measured": result["parts"][name]} for result in self.results] for name in names}
        return [Row(f"{self.name}: {name}", results, whole=False) for name, results in measured.items()]


@dataclass(frozen=True)
class Bench:
    """One experiment and the store of its runs.

    Attributes:
        experiment: the split data.
        protocol: name of the protocol.
        split: everything that the split depends on: the data's digest, the protocol and its options.
        store: the store of the runs.
        to_run: which of ``hmamba``, ``floors`` and ``sasrec`` may be run; of the others only finished runs are shown.
    """

    experiment: Experiment
    protocol: Protocol
    split: dict[str, Any]
    store: Store
    to_run: frozenset[str]

    def _identity(self, system: str, settings: Any, code: tuple[str, ...]) -> dict[str, Any]:
        return {"system": system, "settings": settings, "split": self.split, "sources": sources(*code)}

    def _keep(self, identity: dict[str, Any], seed: int | None, settings: Settings, facts: Settings) -> dict[str, Any]:
        made = {"commit": commit(), "date": today(), "machine": machine()}
        result = {"system": identity["system"], "seed": seed, "settings": settings, **made, **facts}
        self.store.keep(identity, result)
        return result

    def floor(self, name: str) -> Row:
        """Measure one of ``FLOORS``."""
        identity = self._identity(name, {}, (*_COMMON, "bench/floors.py"))
        to_run = "floors" in self.to_run
        found = self.store.find(identity, to_run=to_run)
        if found is None and to_run:
            log.info("%s", name)
            settings: Settings = {}
            if name == "item-kNN":
                matrix, settings = tuned_neighbours(self.experiment)
            measured = {}
            for test, exam in self.experiment.exams.items():
                if name == "item-kNN":
                    ranked = rank_by_neighbours(self.experiment, exam, matrix)
                else:
                    rank = {"popularity": popularity, "most recent": most_recent, "most bought": bought_most}[name]
                    ranked = rank(self.experiment, exam)
                measured[test] = measure(ranked, exam, len(self.experiment.candidate_items))
            found = self._keep(identity, None, settings, {"measured": measured})
        return Row(name, [found]) if found else Row(name, absent="not run")

    def hmamba(self, name: str, configs: list[Config]) -> Row:
        """Train the product's model, once for each configuration; the configurations differ in their seeds."""
        row = Row(name)
        for config in configs:
            read = self.experiment.items if config.model.category_levels else None
            items = sha256(read) if read is not None and read.is_file() else None  # training reports a missing file
            identity = self._identity("hmamba", [config.training_digest(), items], _MODEL)
            to_run = "hmamba" in self.to_run
            found = self.store.find(identity, to_run=to_run)
            if found is None and to_run:
                settings, seed = differences(config), config.train.seed
                log.info("%s: seed %d, %s", name, seed, settings)
                folder = self.store.under_way(identity)
                facts = train(self.experiment, config, folder.name, folder)
                found = self._keep(identity, seed, settings, facts)
            if found is not None:
                row.results.append(found)
        row.absent = "" if row.results else "not run"
        return row

    def _sasrec(self, settings: Settings, seed: int, length: int, python: Path) -> dict[str, Any] | None:
        code = (*_COMMON, "bench/peer.py", "bench/peers/sasrec.py", "bench/peers/requirements.txt")
        identity = self._identity("sasrec", {**settings, "seed": seed}, code)
        to_run = "sasrec" in self.to_run and python.exists()
        found = self.store.find(identity, to_run=to_run)
        if found is None and to_run:
            folder = self.store.under_way(identity)
            facts = run_sasrec(self.experiment, settings, seed=seed, length=length, folder=folder, python=python)
            found = self._keep(identity, seed, settings, facts)
        return found

    def sasrec(self, given: Settings, seeds: list[int], length: int, python: Path) -> Row:
        """Choose settings of RecTools' SASRec on validation with the first seed, axis by axis; then run all seeds."""
        settings, axes = search_space(given)
        settings |= {name: values[0] for name, values in axes.items()}
        for name, values in axes.items():
            judged: list[tuple[float, Any]] = []
            for value in values:
                found = self._sasrec({**settings, name: value}, seeds[0], length, python)
                if found is not None:
                    ((_, views),) = found["measured"][VALIDATION].items()
                    judged.append((views[MASKED]["ndcg@10"], value))
                    log.info("sasrec: %s = %s: validation ndcg@10 %.4f", name, value, judged[-1][0])
            if judged:
                settings[name] = max(judged, key=lambda pair: pair[0])[1]
        results = [found for seed in seeds if (found := self._sasrec(settings, seed, length, python)) is not None]
        reason = "not run" if python.exists() else "not run: make bench-peers first"
        return Row(SASREC, results, "" if results else reason)
