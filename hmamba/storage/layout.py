"""Paths of everything under a root.

Only this module, and those of the layouts that it returns, build paths of files that steps exchange or publish.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from hmamba.clock import named_day
from hmamba.errors import ConfigError, InputError
from hmamba.storage.backtest_layout import BacktestLayout
from hmamba.storage.base import Storage
from hmamba.storage.checks_layout import ChecksLayout
from hmamba.storage.registry import open_storage
from hmamba.storage.run_layout import CHECKPOINT, RunLayout
from hmamba.storage.under import Under
from hmamba.text import escaped

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")
_VERSION = re.compile(r"(\d{4})(\d\d)(\d\d)-[0-9a-f]{8}")
_PUBLISHED = "run_date="
_FOREIGN = re.compile(r"[*?[]")
"""Characters that DuckDB reads as a pattern, or as the end of a path."""


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

    root = Under()
    """The root folder."""

    landing = Under("landing")
    """The folder where source systems put files."""

    config = Under("hmamba.toml")
    """The root's own configuration, used when no --config is given."""

    rules = Under("rules.toml")
    """The rules of what is recommended."""

    warehouse = Under("warehouse.duckdb")
    """The DuckDB file. Only ingest and the erasure of users write it."""

    @property
    def checks(self) -> ChecksLayout:
        """Records and pages of all checks."""
        return ChecksLayout(self.folder / "gx", self.storage)

    models = Under("models")
    """One folder per model version, and champion.json."""

    champion = Under("models", "champion.json")
    """The model version that serves, and the versions that served before."""

    @property
    def model_days(self) -> list[tuple[date, Path]]:
        """Folders of model versions with the nights that trained them, oldest first; no other folders."""
        found = [(_VERSION.fullmatch(path.name), path) for path in self.storage.find(self.models, "*/")]
        days = [(named_day("-".join(name.groups())), path) for name, path in found if name is not None]
        return [(day, path) for day, path in days if day is not None]

    def model(self, version: str) -> Path:
        """Folder of one model version."""
        return self.models / version

    def model_metrics(self, version: str) -> Path:
        """Training metrics and newest verdict of a version."""
        return self.model(version) / "metrics.json"

    def is_pruned(self, version: str) -> bool:
        """Whether a version has been deleted but for its metrics."""
        return self.storage.find(self.model(version), "*") == [self.model_metrics(version)]

    candidates = Under("candidates")
    """Published candidate tables."""

    latest = Under("candidates", "latest.json")
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

    def published_table(self, folder: Path, name: str, part: int = 0) -> Path:
        """A file of a table beside the candidates, in a folder of :meth:`published`."""
        return folder / "_tables" / name / f"part-{part:04d}.parquet"

    @property
    def published_days(self) -> list[tuple[date, Path]]:
        """Published candidate tables, oldest first."""
        return self._days(self.candidates, _PUBLISHED)

    runs = Under("runs")
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

    turns = Under(".turns")
    """Claims of Airflow's runs, which take turns on a root: files named DAY.RUN.json (``dags/hmamba_turns.py``)."""

    @property
    def claimed_days(self) -> set[date]:
        """Days of runs that have not ended; of a run that ended, until the next one asks for its turn."""
        found = (named_day(path.name.partition(".")[0]) for path in self.storage.find(self.turns, "*.json"))
        return {day for day in found if day is not None}

    rolled_back = Under(".rolled-back")
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

    reports = Under("reports")
    """Reports, one folder per day."""

    all_reports = Under("reports", "index.html")
    """The page of all nights."""

    def report(self, day: date) -> Path:
        """The report of one night."""
        return self.reports / day.isoformat() / "index.html"

    @property
    def report_days(self) -> list[tuple[date, Path]]:
        """Folders of reports, oldest first."""
        return self._days(self.reports)

    receipts = Under("receipts")
    """Receipts of erasures."""

    backtests = Under("backtests")
    """Folders of backtests."""

    def backtest(self, first: date, last: date, every: int) -> BacktestLayout:
        """Working folder of a backtest of every ``every``-th night from ``first`` to ``last``."""
        return BacktestLayout(self.backtests / f"{first}_{last}_every-{every}")

    def _days(self, folder: Path, prefix: str = "") -> list[tuple[date, Path]]:
        """Folders with a day as name, oldest first."""
        found = [(named_day(path.name.removeprefix(prefix)), path) for path in self.storage.find(folder, f"{prefix}*/")]
        return [(day, path) for day, path in found if day is not None]
