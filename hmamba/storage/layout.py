"""Paths of everything under a root. No other module builds paths of files that steps exchange or publish."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from hmamba.clock import named_day
from hmamba.errors import ConfigError, InputError
from hmamba.storage.base import Storage
from hmamba.storage.registry import open_storage
from hmamba.text import escaped

ITEMS = "items.parquet"
MANIFEST = "manifest.json"
"""Files of a snapshot, beside its shards."""

DESCRIBED_ITEMS = "described_items.parquet"
"""Items with the columns of the catalogue, in a snapshot's folder."""

RULES, RULE_ITEMS = "rules.json", "rule_items.parquet"
"""The rules of a snapshot and the items that they name, in its folder."""

CONTENTS = "contents.json"
"""File that describes all others of a model's folder, see :class:`hmamba.contracts.contents.Contents`."""

INDEX_DESCRIPTION = "index.json"
"""File that describes all others of an index's folder."""

CHECKPOINT = "state.json"
"""File that names the others of a training's checkpoint."""

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_PUBLISHED = "run_date="
_FOREIGN = re.compile(r"[*?[]")
"""Characters that DuckDB reads as a pattern, or as the end of a path."""


def shard_name(shard: int) -> str:
    """File name of a shard of a snapshot."""
    return f"shard-{shard:04d}.parquet"


def users_name(shard: int) -> str:
    """File name of the described users of a shard of a snapshot."""
    return f"users-{shard:04d}.parquet"


def rule_users_name(shard: int) -> str:
    """File name of the users of a shard that rules name, and of their items."""
    return f"rule_users-{shard:04d}.parquet"


class _Under:
    """A path under the folder of a layout, as an attribute of the layout's class."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, layout: RunLayout | ChecksLayout | BacktestLayout | Layout, owner: object = None) -> Path:
        return layout.folder.joinpath(*self._parts)


@dataclass(frozen=True)
class RunLayout:
    """Paths of the working files of one run of one day."""

    folder: Path
    storage: Storage

    sequences = _Under("sequences")
    """Snapshot: hashed Parquet shards, items.parquet and manifest.json."""

    items = _Under("sequences", ITEMS)
    """The snapshot's items."""

    manifest = _Under("sequences", MANIFEST)
    """The snapshot's manifest."""

    def shard(self, number: int) -> Path:
        """A shard of the snapshot."""
        return self.sequences / shard_name(number)

    @property
    def shards(self) -> list[Path]:
        """The existing shards of the snapshot, in order."""
        return self.storage.find(self.sequences, "shard-*.parquet")

    training = _Under("training")
    """Checkpoints of a running training, from which a killed training resumes."""

    refit = _Under("training", "refit")
    """Checkpoints of a running refit."""

    verdict = _Under("verdict.json")
    """Metrics and decision of the gate."""

    model = _Under("model")
    """The model that serves the night, with its counts updated to the day."""

    model_contents = _Under("model", CONTENTS)
    """Digests of the files of the model that serves."""

    vectors = _Under("vectors")
    """Lorentz points of items and users, as Parquet."""

    index = _Under("index")
    """The FAISS index and its description."""

    index_description = _Under("index", INDEX_DESCRIPTION)
    """Digests of the files of the index."""

    candidates = _Under("candidates")
    """Candidate parts, one per shard, before they are checked and published."""

    def candidate_part(self, shard: int) -> Path:
        """Candidates of the users of one shard."""
        return self.candidates / f"part-{shard:04d}.parquet"

    item_points = _Under("vectors", ITEMS)
    """Lorentz points of the items; for a baseline, only the items that it may recommend."""

    def user_points(self, shard: int) -> Path:
        """Lorentz points of the users of one shard."""
        return self.vectors / f"users-{shard:04d}.parquet"

    def state_part(self, shard: int) -> Path:
        """Carried states of the users of one shard."""
        return self.states / f"part-{shard:04d}.parquet"

    def state_users(self, shard: int) -> Path:
        """Users of the states of one shard, in the same order."""
        return self.states / f"users-{shard:04d}.parquet"

    states = _Under("states")
    """Carried states, from which a refresh resumes."""

    @property
    def refresh(self) -> RunLayout:
        """Working files of a refresh, separate from those of a night with the same run id."""
        return RunLayout(self.folder / "refresh", self.storage)

    def refreshed_part(self, shard: int) -> Path:
        """Candidates of all users of one shard after a refresh."""
        return self.folder / "refreshed" / f"part-{shard:04d}.parquet"

    metrics = _Under("metrics")
    """Step metrics, with wall time and peak memory."""

    def step_metrics(self, step: str, shard: int | None = None) -> Path:
        """Metrics of one step, or of its part for one shard."""
        return self.metrics / _of_step(step, shard)

    @property
    def score_metrics(self) -> list[Path]:
        """Metrics of scoring each shard of the snapshot; files of further shards are of an earlier snapshot."""
        return [self.step_metrics("score", shard) for shard in range(len(self.shards))]

    failures = _Under("failures")
    """Records of failed steps that have not succeeded since: step, shard, message, exit_status and seconds."""

    @property
    def failed(self) -> list[Path]:
        """The records of steps that failed."""
        return self.storage.find(self.failures, "*.json")

    def step_failure(self, step: str, shard: int | None = None) -> Path:
        """The last failure of a step, or of its part for one shard; a range of shards is named by its first shard."""
        return self.failures / _of_step(step, shard)


def _of_step(step: str, shard: int | None) -> str:
    return f"{step}.json" if shard is None else f"{step}-{shard:04d}.json"


@dataclass(frozen=True)
class ChecksLayout:
    """Paths of the checks of batches and candidates: records of Great Expectations' results, and pages (Data Docs)."""

    folder: Path
    storage: Storage

    index = _Under("index.html")
    """The page that lists all checks."""

    records = _Under("checks")
    """One folder for each kind of check."""

    lock = _Under(".lock")
    """Held while records and pages are written."""

    def of_kind(self, kind: str) -> Path:
        """Records and pages of one kind of check."""
        return self.records / kind

    def record(self, kind: str, name: str) -> Path:
        """The record of one check."""
        return self.of_kind(kind) / f"{name}.json"

    def page(self, record: Path) -> Path:
        """The page that belongs to a record."""
        return record.with_suffix(".html")

    @property
    def all_records(self) -> list[Path]:
        """The existing records."""
        return self.storage.find(self.records, "*/*.json")

    @property
    def all_pages(self) -> list[Path]:
        """The existing pages of records."""
        return self.storage.find(self.records, "*/*.html")


@dataclass(frozen=True)
class BacktestLayout:
    """Paths of a backtest, which replays past nights."""

    folder: Path

    state = _Under("backtest.json")
    """Settings and events of the backtest."""

    page = _Under("index.html")
    """Results as an HTML page."""

    tables = _Under("backtest.md")
    """Results as Markdown."""

    def night(self, day: date) -> Path:
        """Evaluation of one night."""
        return self.folder / "nights" / f"{day}.json"

    def chain(self, name: str) -> Path:
        """The root of one chain of nights."""
        return self.folder / name.replace(" ", "-")


@dataclass(frozen=True)
class Layout:
    """Paths under the root of a recommender, and its storage."""

    storage: Storage

    @classmethod
    def at(cls, root: str | Path) -> Layout:
        """Open a root.

        Raises:
            ConfigError: no storage is registered for the scheme of the root's URI, or a folder above the root, or the
                root, has a name that DuckDB reads as a pattern or that controls a terminal.
        """
        layout = cls(open_storage(root))
        path = str(layout.root)
        if found := _FOREIGN.search(path) or escaped(path) != path:
            character = found[0] if isinstance(found, re.Match) else "a control character"
            raise ConfigError(
                f"--root {escaped(path)}: the path has {character}, which the files under it cannot have in their "
                "names. Rename that folder, or give another one."
            )
        return layout

    @classmethod
    def existing(cls, root: str | Path) -> Layout:
        """Open a root that must exist.

        Raises:
            ConfigError: no storage is registered for the scheme of the root's URI.
            InputError: the root does not exist, or is a file.
        """
        layout = cls.at(root)
        if layout.root.is_dir():
            return layout
        if layout.root.exists():
            raise InputError(f"--root {root} is not a folder. Give the path of a folder.")
        raise InputError(
            f"--root {root}: no such folder. Correct the path, mount what holds it, or start one with: "
            f"hmamba init {shlex.quote(str(root))} --from FILES"
        )

    def command(self, name: str, *more: str) -> str:
        """The shell command that runs a command of ``hmamba`` on this root."""
        return " ".join(["hmamba", name, "--root", shlex.quote(str(self.root)), *more])

    @property
    def folder(self) -> Path:
        """The root folder."""
        return self.storage.root

    root = _Under()
    """The root folder."""

    landing = _Under("landing")
    """The folder where source systems put files."""

    config = _Under("hmamba.toml")
    """The root's own configuration, used when no --config is given."""

    rules = _Under("rules.toml")
    """The rules of what is recommended."""

    warehouse = _Under("warehouse.duckdb")
    """The DuckDB file. Only ingest and the erasure of users write it."""

    @property
    def checks(self) -> ChecksLayout:
        """Records and pages of all checks."""
        return ChecksLayout(self.folder / "gx", self.storage)

    models = _Under("models")
    """One folder per model version, and champion.json."""

    champion = _Under("models", "champion.json")
    """The model version that serves, and the versions that served before."""

    def model(self, version: str) -> Path:
        """Folder of one model version."""
        return self.models / version

    def model_metrics(self, version: str) -> Path:
        """Training metrics and newest verdict of a version."""
        return self.model(version) / "metrics.json"

    candidates = _Under("candidates")
    """Published candidate tables."""

    latest = _Under("candidates", "latest.json")
    """Link to the manifest of the newest published night."""

    def published(self, day: date) -> Path:
        """Published candidate table of one day."""
        return self.candidates / f"{_PUBLISHED}{day.isoformat()}"

    def published_parts(self, day: date) -> list[Path]:
        """Files of the published candidate table of one day, in shard order; empty if nothing is published."""
        return self.storage.find(self.published(day), "part-*.parquet")

    def published_manifest(self, day: date) -> Path:
        """Manifest of the published candidate table of one day."""
        return self.published(day) / "_manifest.json"

    @property
    def published_days(self) -> list[tuple[date, Path]]:
        """Published candidate tables, oldest first."""
        return self._days(self.candidates, _PUBLISHED)

    runs = _Under("runs")
    """Working folders, one per day."""

    @property
    def training_states(self) -> list[Path]:
        """Checkpoints of all runs whose training is under way, or was killed."""
        return self.storage.find(self.runs, f"*/*/training/{CHECKPOINT}")

    @property
    def run_days(self) -> list[tuple[date, Path]]:
        """Working folders, oldest first."""
        return self._days(self.runs)

    @property
    def carried_states(self) -> list[Path]:
        """Folders of the carried states of all runs."""
        return self.storage.find(self.runs, "*/*/states")

    def metrics_of(self, day: date) -> list[Path]:
        """Step metrics of all runs of a day."""
        return self.storage.find(self.runs / day.isoformat(), "*/metrics/*.json")

    turns = _Under(".turns")
    """Claims of Airflow's runs, which take turns on a root: files named DAY.RUN.json (``dags/hmamba_turns.py``)."""

    @property
    def claimed_days(self) -> set[date]:
        """Days of runs that have not ended; of a run that ended, until the next one asks for its turn."""
        found = (named_day(path.name.partition(".")[0]) for path in self.storage.find(self.turns, "*.json"))
        return {day for day in found if day is not None}

    rolled_back = _Under(".rolled-back")
    """Files of rolled-back nights, under their old relative paths; outside of the globs of published tables."""

    @property
    def rolled_back_days(self) -> list[tuple[date, Path]]:
        """Working folders of rolled-back days, oldest first; a day that was rolled back twice has two."""
        found = [(named_day(path.name[:10]), path) for path in self.storage.find(self.rolled_back / "runs", "*/")]
        days = [(day, path) for day, path in found if day is not None]
        return sorted(days, key=lambda entry: (entry[0], int(entry[1].name[11:] or 1)))

    @property
    def rolled_back_tables(self) -> list[Path]:
        """Rolled-back tables, oldest day first; the newest of one day last."""
        found = self.storage.find(self.rolled_back / "candidates", f"{_PUBLISHED}*/")
        return sorted(found, key=lambda path: (path.name.partition(".")[0], int(path.name.partition(".")[2] or 1)))

    def run(self, day: date, run_id: str) -> RunLayout:
        """Working folder of one run.

        Raises:
            ConfigError: the run id is not valid as a folder name.
        """
        if not _RUN_ID.fullmatch(run_id):
            raise ConfigError(
                f"--run-id {run_id!r}: use 1 to 128 letters, digits, dots, dashes, underscores or pluses, "
                "starting with a letter or digit."
            )
        return RunLayout(self.runs / day.isoformat() / run_id, self.storage)

    reports = _Under("reports")
    """Reports, one folder per day."""

    def report(self, day: date) -> Path:
        """The report of one night."""
        return self.reports / day.isoformat() / "index.html"

    @property
    def report_days(self) -> list[tuple[date, Path]]:
        """Folders of reports, oldest first."""
        return self._days(self.reports)

    receipts = _Under("receipts")
    """Receipts of erasures."""

    backtests = _Under("backtests")
    """Folders of backtests."""

    def backtest(self, first: date, last: date, every: int) -> BacktestLayout:
        """Working folder of a backtest of every ``every``-th night from ``first`` to ``last``."""
        return BacktestLayout(self.backtests / f"{first}_{last}_every-{every}")

    def _days(self, folder: Path, prefix: str = "") -> list[tuple[date, Path]]:
        """Folders with a day as name, oldest first."""
        found = [(named_day(path.name.removeprefix(prefix)), path) for path in self.storage.find(folder, f"{prefix}*/")]
        return [(day, path) for day, path in found if day is not None]
