"""The candidates that the score step has written, part by part, and the rules that they were made under."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hmamba.candidates.served import served_by
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.manifest import Experiment
from hmamba.contracts.scored import RuleEffects, ShardMetrics
from hmamba.errors import InputError
from hmamba.quality.expectations import Figure
from hmamba.rules.check import RuledPart, rule_figures
from hmamba.rules.night import NightRules
from hmamba.sequences.files import Snapshot


@dataclass(frozen=True)
class Part:
    """Candidates of one shard.

    Attributes:
        shard: the shard.
        path: local file.
        written: what it was when it was written.
        rows: number of rows.
        fallback_users: users without usable history, who received popular items.
        experiment: the experiment that it was scored for; None without one.
        effects: what rules did to the lists of its users; None without rules.
    """

    shard: int
    path: Path
    written: HashedFile
    rows: int
    fallback_users: int
    experiment: Experiment | None = None
    effects: RuleEffects | None = None

    @property
    def cure(self) -> str:
        """How to fix a missing or damaged file."""
        return f"Run the score step for shard {self.shard} again (python -m jobs.score --shard {self.shard})."


def candidate_parts(files: Snapshot) -> tuple[Part, ...]:
    """The candidates of all shards of a run's snapshot.

    Raises:
        InputError: an earlier step has not run, or a shard has not been scored since the snapshot, the model or the
            index changed.
    """
    run, served, parts = files.run, served_by(files.run), []
    for shard in range(files.manifest.shards):
        path, record = run.candidate_part(shard), run.step_metrics("score", shard)
        cure = f"Run the score step for shard {shard} (python -m jobs.score --shard {shard})."
        if (scored := ShardMetrics.read_if_exists(record, run.storage)) is None:
            raise InputError(f"{record} does not exist: the shard has not been scored. {cure}")
        known = {
            "the snapshot": files.digest,
            "the model or the index": served,
            "the rules": files.manifest.rules_digest,
        }
        found = (scored.snapshot, scored.served, scored.rules)
        changed = next((what for (what, own), of in zip(known.items(), found, strict=True) if own != of), None)
        if changed is not None:
            raise InputError(f"{path} was written before {changed} of this run. {cure}")
        local = run.storage.local_path(path)
        users = scored.fallback_users
        parts.append(Part(shard, local, scored.part, scored.rows, users, scored.experiment, scored.effects))
    return tuple(parts)


@dataclass(frozen=True)
class Ruled:
    """Parts that were made under rules.

    Attributes:
        files: the snapshot, or the folder of a refresh, with the rules.
        parts: the parts.
    """

    files: Snapshot
    parts: tuple[RuledPart, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Rows that break each rule."""
        rules = NightRules.open(self.files)
        return () if rules is None else tuple(rule_figures(rules, self.parts))


def ruled_parts(files: Snapshot) -> Ruled | None:
    """The rules of a night; None without any."""
    if files.manifest.rules_digest is None:
        return None
    run = files.run
    parts = [
        RuledPart(shard, run.storage.local_path(run.candidate_part(shard)), (path,))
        for shard, path in enumerate(files.shards)
    ]
    return Ruled(files, tuple(parts))
