from __future__ import annotations

from hmamba.contracts.scored import ScoreMetrics
from tests.documents import DAY, shard_metrics


def test_shards_add_up() -> None:
    first = shard_metrics(2, 1, users=3, rows=30).model_copy(update={"seconds": 1.5, "peak_bytes": 7})
    second = shard_metrics(3, 4, users=5, rows=50).model_copy(update={"seconds": 0.25, "peak_bytes": 6})
    assert ScoreMetrics.of([first, second]) == ScoreMetrics(
        day=DAY, shards="2-3", users=8, fallback_users=5, rows=80, seconds=1.75, peak_bytes=7
    )
