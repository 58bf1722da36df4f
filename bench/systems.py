"""The compared systems; each is run once for each seed, and its result is stored."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import floors, merged
from bench.machine import commit, machine, today
from bench.peer import PeerError, Settings, run_sasrec, search_space
from bench.protocols import VALIDATION, Experiment, Protocol, measure
from bench.settings import differences
from bench.store import Store, sources
from bench.training import train
from hmamba.config import Config
from hmamba.storage.local import sha256
from hmamba.text import counted

log = logging.getLogger("hmamba")

HMAMBA, SASREC = "HMamba", "SASRec (RecTools)"
MERGED = ", merged"
"""End of the name of the row of SASRec and a kNN merged."""
FLOORS: dict[Protocol, tuple[str, ...]] = {
    "leave-one-out": (*floors.FIXED, *floors.TUNED),
    "last-day": ("popularity", "most recent", "most bought"),
}
REFERENCE: dict[Protocol, str] = {"leave-one-out": SASREC, "last-day": "most bought"}

_COMMON = ("bench/datasets.py", "bench/protocols.py", "hmamba/evaluation/*.py", "hmamba/sequences/*.py")
_SASREC = (*_COMMON, "bench/peer.py", "bench/peers/sasrec.py", "bench/peers/requirements.txt")
_MERGED = (*_SASREC, "bench/floors.py", "bench/merged.py")
_PRODUCT = ("recipe.py", "ranker.py", "inference/rerank.py", "model/*.py", "terms/*.py", "training/*.py")
MODEL = (*_COMMON, "bench/training.py", "bench/new_items.py", *(f"hmamba/{part}" for part in _PRODUCT))


@dataclass
class Row:
    """One row of a table.

    Attributes:
        name: name of the system.
        results: finished runs, one for each seed.
        note: why there are none, or what is missing.
        whole: False for a part of another row's model, measured in the same run.
        tuned: whether it has other settings than the defaults of the data set.
    """

    name: str
    results: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""
    whole: bool = True
    tuned: bool = False

    @property
    def label(self) -> str:
        """The name, and what a reader of the figures must know."""
        remarks = ["tuned"] * self.tuned + [self.note] * bool(self.note)
        return self.name + (f" ({'; '.join(remarks)})" if remarks else "")

    def parts(self) -> list[Row]:
        """A row for each part of the model that was measured separately, with the seeds whose model has that part."""
        found: dict[str, list[dict[str, Any]]] = {}
        for result in self.results:
            for name, measured in result.get("parts", {}).items():
                found.setdefault(name, []).append({**result, "measured": measured})
        rows = []
        for name, results in found.items():
            missing = len(self.results) - len(results)
            note = f"{len(results)} of {len(self.results)} seeds; in the others the term was dropped" if missing else ""
            rows.append(Row(f"{self.name}: {name}", results, note, whole=False, tuned=self.tuned))
        return rows


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

    def identity(self, system: str, settings: Any, code: tuple[str, ...]) -> dict[str, Any]:
        """Everything that a run depends on; ``code`` are patterns of source files."""
        return {"system": system, "settings": settings, "split": self.split, "sources": sources(*code)}

    def keep(self, identity: dict[str, Any], seed: int | None, settings: Settings, facts: Settings) -> dict[str, Any]:
        """Store a finished run with its commit, date and machine; returns it."""
        made = {"commit": commit(), "date": today(), "machine": machine()}
        result = {"system": identity["system"], "seed": seed, "settings": settings, **made, **facts}
        self.store.keep(identity, result)
        return result

    def floor(self, name: str) -> Row:
        """Measure one of ``FLOORS``."""
        identity = self.identity(name, {}, (*_COMMON, "bench/floors.py"))
        to_run = "floors" in self.to_run
        found = self.store.find(identity, to_run=to_run)
        if found is None and to_run:
            log.info("%s", name)
            settings, rank = floors.floor(name, self.experiment)
            exams, candidate_items = self.experiment.exams, len(self.experiment.candidate_items)
            measured = {test: measure(rank(exam), exam, candidate_items) for test, exam in exams.items()}
            found = self.keep(identity, None, settings, {"measured": measured})
        return Row(name, [found]) if found else Row(name, note="not run")

    def hmamba(self, name: str, configs: list[Config], *, tuned: bool) -> Row:
        """Train the product's model, once for each configuration; the configurations differ in their seeds."""
        row = Row(name, tuned=tuned)
        for config in configs:
            read = self.experiment.items
            items = sha256(read) if read.is_file() else None
            identity = self.identity("hmamba", [config.training_digest(), items], MODEL)
            to_run = "hmamba" in self.to_run
            found = self.store.find(identity, to_run=to_run)
            if found is None and to_run:
                settings, seed = differences(config), config.train.seed
                log.info("%s: seed %d, %s", name, seed, settings)
                folder = self.store.under_way(identity)
                facts = train(self.experiment, config, folder.name, folder)
                found = self.keep(identity, seed, settings, facts)
            if found is not None:
                row.results.append(found)
        row.note = "" if row.results else "not run"
        return row

    def merged(self, sasrec: Row, floor_rows: list[Row], length: int) -> Row:
        """Interleave the rankings of SASRec's finished runs with those of the better kNN, SASRec first.

        Nothing is trained: where a finished run of SASRec has no rankings, the row says so. Finished rows are shown;
        new ones are made if SASRec or the floors may be run.

        Args:
            sasrec: the row of :meth:`sasrec`.
            floor_rows: the rows of :meth:`floor`.
            length: number of events that SASRec reads of each user.
        """
        known = {row.name: row.results[0] for row in floor_rows if row.name in floors.TUNED and row.results}
        if not known or not sasrec.results:
            return Row(f"SASRec + kNN{MERGED}", note="not run: needs SASRec and a kNN")
        name = merged.better(known, self.experiment)
        chosen, row = known[name]["settings"], Row(f"SASRec + {name}{MERGED}")
        peer = _Peer(self, length, Path(), None)
        second: merged.Rankings | None = None
        for run in sasrec.results:
            settings = {"SASRec": run["settings"], "kNN": name, **chosen}
            identity = self.identity("merged", {**settings, "seed": run["seed"]}, _MERGED)
            to_run = bool({"floors", "sasrec"} & self.to_run)
            found = self.store.find(identity, to_run=to_run)
            first = peer.rankings(run["settings"], run["seed"]) if found is None and to_run else None
            if first is not None:
                second = second or merged.knn_rankings(name, chosen, self.experiment)
                facts = {"measured": merged.measured(self.experiment, first, second)}
                found = self.keep(identity, run["seed"], settings, facts)
            if found is not None:
                row.results.append(found)
        if len(row.results) < len(sasrec.results):
            shown = f"{len(row.results)} of {len(sasrec.results)} seeds" if row.results else "not run"
            row.note = f"{shown}: rankings of SASRec are not stored; --again with its settings as --peer-set makes them"
        return row

    def sasrec(self, given: Settings, seeds: list[int], length: int, python: Path, seconds: float | None) -> Row:
        """Choose settings of RecTools' SASRec on validation with the first seed, axis by axis; then run all seeds.

        If the peer fails or is stopped, the row has what is finished, and a note of what is missing.

        Args:
            given: settings that are not searched.
            seeds: seeds of the trainings.
            length: number of events that the peer reads of each user.
            python: the Python interpreter of the peers' environment.
            seconds: time after which the peer is stopped; None: no limit.
        """
        peer = _Peer(self, length, python, seconds)
        settings, notes = peer.search(given, seeds[0])
        results = [found for seed in seeds if (found := peer.run(settings, seed)) is not None]
        if not results:
            notes = [] if peer.stopped else ["not run" if python.exists() else "not run: make bench-peers first"]
        elif len(results) < len(seeds):
            notes.append(f"{len(results)} of {len(seeds)} seeds")
        if peer.stopped:
            notes.insert(0, f"{peer.stopped}; run the same command again to resume")
        return Row(SASREC, results, "; ".join(notes), tuned=bool(given))


class _Peer:
    """RecTools' SASRec on one experiment, until its time is up or it fails; after that, only stored runs are found.

    Args:
        bench: the experiment and the store.
        length: number of events that the peer reads of each user.
        python: the Python interpreter of the peers' environment.
        seconds: time after which it is stopped; None: no limit.

    Attributes:
        stopped: why it runs no more; empty while it does.
    """

    def __init__(self, bench: Bench, length: int, python: Path, seconds: float | None) -> None:
        self._bench, self._length, self._python, self._seconds = bench, length, python, seconds
        self._began = time.monotonic()
        self.stopped = ""

    def run(self, settings: Settings, seed: int) -> dict[str, Any] | None:
        """The run with these settings, stored or new; None if it is not to be run or does not finish."""
        identity = self._identity(settings, seed)
        to_run = "sasrec" in self._bench.to_run and self._python.exists() and not self.stopped
        found = self._bench.store.find(identity, to_run=to_run)
        if found is not None or not to_run:
            return found
        folder = self._bench.store.under_way(identity)
        try:
            facts = run_sasrec(
                self._bench.experiment,
                settings,
                seed=seed,
                length=self._length,
                folder=folder,
                python=self._python,
                seconds=None if self._seconds is None else self._began + self._seconds - time.monotonic(),
            )
        except PeerError as reason:
            self.stopped = f"{reason} after {counted(round((time.monotonic() - self._began) / 60), 'minute')}"
            log.warning("sasrec: %s", self.stopped)
            return None
        self._keep_rankings(identity)
        return self._bench.keep(identity, seed, settings, facts)

    def _identity(self, settings: Settings, seed: int) -> dict[str, Any]:
        return self._bench.identity("sasrec", {**settings, "seed": seed}, _SASREC)

    def _keep_rankings(self, identity: dict[str, Any]) -> merged.Rankings | None:
        found = merged.peer_rankings(self._bench.experiment, self._bench.store.left(identity))
        if found is not None:
            self._bench.store.keep_arrays(identity, found)
        return found

    def rankings(self, settings: Settings, seed: int) -> merged.Rankings | None:
        """The rankings of a finished run: those stored, or those that are still in its folder; None without any."""
        identity = self._identity(settings, seed)
        return self._bench.store.arrays(identity) or self._keep_rankings(identity)

    def search(self, given: Settings, seed: int) -> tuple[Settings, list[str]]:
        """The best settings on validation in the view that is shown, and notes if not all were tried."""
        settings, axes = search_space(given)
        settings |= {name: values[0] for name, values in axes.items()}
        view, missing = self._bench.experiment.stop.views[0], 0
        for name, values in axes.items():
            judged: list[tuple[float, Any]] = []
            for value in values:
                found = self.run({**settings, name: value}, seed)
                if found is not None:
                    ((_, views),) = found["measured"][VALIDATION].items()
                    judged.append((views[view]["ndcg@10"], value))
                    log.info("sasrec: %s = %s: validation ndcg@10 %.4f", name, value, judged[-1][0])
            missing += len(values) - len(judged)
            if judged:
                settings[name] = max(judged, key=lambda pair: pair[0])[1]
        return settings, [f"{missing} settings of its search are missing"] if missing else []
