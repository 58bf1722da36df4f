"""Where everything lies under one root. No other module builds these paths."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from hmamba.errors import ConfigError, InputError

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


@dataclass(frozen=True)
class RunLayout:
    """What one run of one day makes before anything is published."""

    folder: Path

    @property
    def sequences(self) -> Path:
        """Snapshot: hashed Parquet shards, items.parquet and manifest.json."""
        return self.folder / "sequences"

    @property
    def training(self) -> Path:
        """Checkpoints of a training that is under way, so that a killed one resumes."""
        return self.folder / "training"

    @property
    def training_result(self) -> Path:
        """Which model version this run trained, and its parent."""
        return self.folder / "training.json"

    @property
    def verdict(self) -> Path:
        """The gate's figures and decision."""
        return self.folder / "verdict.json"

    @property
    def model(self) -> Path:
        """The model that serves the night, with what is counted counted up to the day."""
        return self.folder / "model"

    @property
    def vectors(self) -> Path:
        """Lorentz points of items and users, as Parquet."""
        return self.folder / "vectors"

    @property
    def index(self) -> Path:
        """The FAISS index and its description."""
        return self.folder / "index"

    @property
    def candidates(self) -> Path:
        """Candidate parts, one a shard, before they are checked and published."""
        return self.folder / "candidates"

    def candidate_part(self, shard: int) -> Path:
        """Candidates of the users of one shard."""
        return self.candidates / f"part-{shard:04d}.parquet"

    def user_points(self, shard: int) -> Path:
        """Lorentz points of the users of one shard."""
        return self.vectors / f"users-{shard:04d}.parquet"

    def state_part(self, shard: int) -> Path:
        """Carried states of the users of one shard."""
        return self.states / f"part-{shard:04d}.parquet"

    def state_users(self, shard: int) -> Path:
        """Whose states they are, in the same order."""
        return self.states / f"users-{shard:04d}.parquet"

    @property
    def states(self) -> Path:
        """Carried states, from which a refresh goes on."""
        return self.folder / "states"

    @property
    def refresh(self) -> RunLayout:
        """What a refresh makes: apart, so that a night of the same name is not disturbed."""
        return RunLayout(self.folder / "refresh")

    def refreshed_part(self, shard: int) -> Path:
        """A shard's candidates after a refresh, of all its users."""
        return self.folder / "refreshed" / f"part-{shard:04d}.parquet"

    @property
    def metrics(self) -> Path:
        """What each step counted, with its wall time and peak memory."""
        return self.folder / "metrics"

    def step_metrics(self, step: str, shard: int | None = None) -> Path:
        """Metrics of one step, or of its part for one shard."""
        return self.metrics / _of_step(step, shard)

    @property
    def failures(self) -> Path:
        """How steps failed that have not succeeded since: step, shard, message, exit_status and seconds."""
        return self.folder / "failures"

    def step_failure(self, step: str, shard: int | None = None) -> Path:
        """How one step failed last, or its part for one shard; of a range of shards, that of its first."""
        return self.failures / _of_step(step, shard)


def _of_step(step: str, shard: int | None) -> str:
    return f"{step}.json" if shard is None else f"{step}-{shard:04d}.json"


@dataclass(frozen=True)
class Layout:
    """The root of a recommender: a local folder."""

    root: Path

    @classmethod
    def at(cls, root: str | Path) -> Layout:
        """Open a root.

        Raises:
            ConfigError: the root is a URI; only local folders are supported in this version.
        """
        if "://" in str(root):
            raise ConfigError(
                f"--root {root}: only a local folder is supported in this version. Give a path such as ./demo."
            )
        return cls(Path(root).expanduser().resolve())

    @classmethod
    def existing(cls, root: str | Path) -> Layout:
        """Open a root that has to be there.

        Raises:
            ConfigError: the root is a URI.
            InputError: it is not there, or is a file.
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
        """What to type to run a command of ``hmamba`` on this root."""
        return " ".join(["hmamba", name, "--root", shlex.quote(str(self.root)), *more])

    @property
    def landing(self) -> Path:
        """Where source systems drop files."""
        return self.root / "landing"

    @property
    def config(self) -> Path:
        """The root's own configuration, used when no --config is given."""
        return self.root / "hmamba.toml"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file. Only ingest writes it."""
        return self.root / "warehouse.duckdb"

    @property
    def expectations(self) -> Path:
        """The Great Expectations project, with its Data Docs."""
        return self.root / "gx"

    @property
    def models(self) -> Path:
        """One folder a model version, and champion.json."""
        return self.root / "models"

    @property
    def champion(self) -> Path:
        """Which model version serves, and which served before."""
        return self.models / "champion.json"

    def model(self, version: str) -> Path:
        """Folder of one model version."""
        return self.models / version

    def model_metrics(self, version: str) -> Path:
        """A version's training and its newest verdict."""
        return self.model(version) / "metrics.json"

    @property
    def candidates(self) -> Path:
        """Published candidate tables."""
        return self.root / "candidates"

    @property
    def latest(self) -> Path:
        """Manifest of the newest published night: a link to the one in its folder."""
        return self.candidates / "latest.json"

    def published(self, day: date) -> Path:
        """Published candidate table of one day."""
        return self.candidates / f"run_date={day.isoformat()}"

    def published_parts(self, day: date) -> list[Path]:
        """Files of the published candidate table of one day, in the order of their shards; none if it is absent."""
        return sorted(self.published(day).glob("part-*.parquet"))

    @property
    def runs(self) -> Path:
        """Working folders, one a day."""
        return self.root / "runs"

    @property
    def rolled_back(self) -> Path:
        """What was taken back, under the names that it had in the root. Apart, so that no glob of a table meets it."""
        return self.root / ".rolled-back"

    def run(self, day: date, run_id: str) -> RunLayout:
        """Working folder of one run.

        Raises:
            ConfigError: the run id cannot be a folder's name.
        """
        if not _RUN_ID.fullmatch(run_id):
            raise ConfigError(
                f"--run-id {run_id!r}: use 1 to 128 letters, digits, dots, dashes, underscores or pluses, "
                "starting with a letter or digit."
            )
        return RunLayout(self.runs / day.isoformat() / run_id)

    def report(self, day: date) -> Path:
        """The night's report."""
        return self.root / "reports" / day.isoformat() / "index.html"
