"""Metrics of scoring users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field

from hmamba.contracts.contents import HashedFile
from hmamba.contracts.document import Part
from hmamba.contracts.manifest import Experiment
from hmamba.contracts.step import StepMetrics
from hmamba.contracts.tables import WrittenTable
from hmamba.text import counted


class RuleEffects(Part):
    """What rules did to the lists of some users.

    Attributes:
        short_users: users with fewer rows than without rules.
        users_without_rows: of them, users without any.
        removed: number of items among the users' best that each rule removes, by the rule's name.
        deepened: users for whom longer lists had to be retrieved.
    """

    short_users: int = 0
    users_without_rows: int = 0
    removed: dict[str, int] = Field(default_factory=dict)
    deepened: int = 0

    @classmethod
    def sum_of(cls, parts: Sequence[RuleEffects | None]) -> RuleEffects | None:
        """The effects on all users; None without rules."""
        known = [part for part in parts if part is not None]
        if not known:
            return None
        removed: Counter[str] = Counter()
        for part in known:
            removed.update(part.removed)
        return cls(
            short_users=sum(part.short_users for part in known),
            users_without_rows=sum(part.users_without_rows for part in known),
            removed=dict(removed),
            deepened=sum(part.deepened for part in known),
        )


class _ScoredUsers(StepMetrics):
    """Metrics of scoring users.

    Attributes:
        fallback_users: users without usable history, who received popular items.
        effects: what rules did; None without rules.
    """

    step: Literal["score"] = "score"
    users: int
    fallback_users: int
    rows: int
    effects: RuleEffects | None = None

    @property
    def in_a_line(self) -> str:
        """The users and their rows."""
        short = "" if self.effects is None else f"; rules leave {counted(self.effects.short_users, 'user')} with fewer"
        return f"{counted(self.users, 'user')}, {counted(self.rows, 'row')}{short}"


class ShardMetrics(_ScoredUsers):
    """Metrics of scoring one shard, and what was scored.

    Attributes:
        shard: the shard.
        snapshot: digest of the snapshot.
        served: digest of the model and its index, or of the baseline and its candidate items.
        part: the candidates.
        points: the users' points.
        tables: the shard's parts of tables about users, by name (``publish.tables``).
        experiment: the experiment; None without one.
        rules: digest of the rules and of what they read; None without rules.
    """

    shard: int
    snapshot: str
    served: str
    part: HashedFile
    points: HashedFile
    tables: dict[str, WrittenTable] = Field(default_factory=dict)
    experiment: Experiment | None = None
    rules: str | None = None


class ScoreMetrics(_ScoredUsers):
    """Sums over several shards; ``seconds`` is a sum too, ``peak_bytes`` the maximum."""

    shards: str

    @classmethod
    def of(cls, parts: Sequence[ShardMetrics]) -> Self:
        """Sum the metrics of one or more shards, in order."""
        return cls(
            day=parts[0].day,
            shards=f"{parts[0].shard}-{parts[-1].shard}",
            users=sum(part.users for part in parts),
            fallback_users=sum(part.fallback_users for part in parts),
            rows=sum(part.rows for part in parts),
            effects=RuleEffects.sum_of([part.effects for part in parts]),
            seconds=round(sum(part.seconds for part in parts), 3),
            peak_bytes=max(part.peak_bytes for part in parts),
        )
