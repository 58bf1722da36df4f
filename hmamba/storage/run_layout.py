"""Paths of the working files of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hmamba.storage.base import Storage
from hmamba.storage.under import Under

ITEMS = "items.parquet"
MANIFEST = "manifest.json"
"""Files of a snapshot, beside its shards."""

DESCRIBED_ITEMS = "described_items.parquet"
"""Items with the columns of the catalogue, in a snapshot's folder."""

RULES, RULE_ITEMS = "rules.json", "rule_items.parquet"
"""The rules of a snapshot and the items that they name, in its folder."""

SEGMENTS = "segments.parquet"
"""Events of items by segment of users, in a snapshot's folder."""

CONTENTS = "contents.json"
"""File that describes all others of a model's folder, see :class:`hmamba.contracts.contents.Contents`."""

INDEX_DESCRIPTION = "index.json"
"""File that describes all others of an index's folder."""

CHECKPOINT = "state.json"
"""File that names the others of a training's checkpoint."""


def shard_name(shard: int) -> str:
    """File name of a shard of a snapshot."""
    return f"shard-{shard:04d}.parquet"


def users_name(shard: int) -> str:
    """File name of the described users of a shard of a snapshot."""
    return f"users-{shard:04d}.parquet"


def rule_users_name(shard: int) -> str:
    """File name of the users of a shard that rules name, and of their items."""
    return f"rule_users-{shard:04d}.parquet"


@dataclass(frozen=True)
class RunLayout:
    """Paths of the working files of one run of one day."""

    folder: Path
    storage: Storage

    sequences = Under("sequences")
    """Snapshot: hashed Parquet shards, items.parquet and manifest.json."""

    items = Under("sequences", ITEMS)
    """The snapshot's items."""

    manifest = Under("sequences", MANIFEST)
    """The snapshot's manifest."""

    def shard(self, number: int) -> Path:
        """A shard of the snapshot."""
        return self.sequences / shard_name(number)

    @property
    def shards(self) -> list[Path]:
        """The existing shards of the snapshot, in order."""
        return self.storage.find(self.sequences, "shard-*.parquet")

    training = Under("training")
    """Checkpoints of a running training, from which a killed training resumes."""

    refit = Under("training", "refit")
    """Checkpoints of a running refit."""

    verdict = Under("verdict.json")
    """Metrics and decision of the gate."""

    accepted = Under("accepted.json")
    """Guards that a person has lifted for the table of this run."""

    model = Under("model")
    """The model that serves the night, with its counts updated to the day."""

    model_contents = Under("model", CONTENTS)
    """Digests of the files of the model that serves."""

    vectors = Under("vectors")
    """Lorentz points of items and users, as Parquet."""

    index = Under("index")
    """The FAISS index and its description."""

    index_description = Under("index", INDEX_DESCRIPTION)
    """Digests of the files of the index."""

    candidates = Under("candidates")
    """Candidate parts, one per shard, before they are checked and published."""

    def candidate_part(self, shard: int) -> Path:
        """Candidates of the users of one shard."""
        return self.candidates / f"part-{shard:04d}.parquet"

    tables = Under("tables")
    """Tables that are published beside the candidates, and parts of them."""

    def table(self, name: str, shard: int | None = None) -> Path:
        """The file of a table, or of one shard's part of it."""
        return self.tables / (f"{name}.parquet" if shard is None else f"{name}-{shard:04d}.parquet")

    item_points = Under("vectors", ITEMS)
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

    states = Under("states")
    """Carried states, from which a refresh resumes."""

    @property
    def refresh(self) -> RunLayout:
        """Working files of a refresh, separate from those of a night with the same run id."""
        return RunLayout(self.folder / "refresh", self.storage)

    def refreshed_part(self, shard: int) -> Path:
        """Candidates of all users of one shard after a refresh."""
        return self.folder / "refreshed" / f"part-{shard:04d}.parquet"

    metrics = Under("metrics")
    """Step metrics, with wall time and peak memory."""

    def step_metrics(self, step: str, shard: int | None = None) -> Path:
        """Metrics of one step, or of its part for one shard."""
        return self.metrics / _of_step(step, shard)

    @property
    def score_metrics(self) -> list[Path]:
        """Metrics of scoring each shard of the snapshot; files of further shards are of an earlier snapshot."""
        return [self.step_metrics("score", shard) for shard in range(len(self.shards))]

    failures = Under("failures")
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
