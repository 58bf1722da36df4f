"""One line for each step, the same wherever it is shown."""

from __future__ import annotations

import pytest

from hmamba.contracts.published import DeliverMetrics, Delivery, PublishMetrics, RefreshMetrics
from hmamba.contracts.step import StepMetrics
from hmamba.contracts.steps import KEPT_METRICS, ReportMetrics, SnapshotMetrics
from tests.documents import DAY, index_metrics, shard_metrics
from tests.report.metrics_of_night import (
    CHAMPION,
    EPOCHS,
    VERSION,
    gate_metrics,
    ingest_metrics,
    nothing_trained,
    train_metrics,
    verdict,
)

SNAPSHOT = SnapshotMetrics(day=DAY, users=1, items=60, events=1941, shards=1, newest_event=None, digest="01")
PUBLISH = PublishMetrics(
    day=DAY,
    users=40,
    rows=400,
    k=10,
    files=2,
    changed=True,
    model_version="v1",
    warning=None,
    distinct_items=60,
)
REFRESH = RefreshMetrics(day=DAY, night=DAY, model_version="v1", new_events=3)
DELIVERY = Delivery(target="shop", day=DAY, way="whole", users=40, seconds=1.0)
LINES: list[tuple[StepMetrics, str]] = [
    (ingest_metrics(), "1,000 rows read from 1 file: 990 loaded, 7 duplicate, 3 refused; 4 new items"),
    (ingest_metrics(rows_read=0), "no new rows"),
    (
        ingest_metrics(repeated=True),
        "loaded before by this run: 1,000 rows read from 1 file: 990 loaded, 7 duplicate, 3 refused; 4 new items",
    ),
    (SNAPSHOT, "1 user, 60 items, 1,941 events, 1 shard"),
    (train_metrics(), f"{VERSION}, from {CHAMPION}, 8 epochs"),
    (
        train_metrics(epochs=(EPOCHS[0].model_copy(update={"epoch": 0}), *EPOCHS[:2])),
        f"{VERSION}, from {CHAMPION}, 2 epochs",
    ),  # 0 is the parent's
    (train_metrics(parent=None, epochs=train_metrics().epochs[:1]), f"{VERSION}, from nothing, 1 epoch"),
    (train_metrics(reused=True), f"{VERSION} was trained already"),
    (nothing_trained("no new events"), "nothing trained: no new events"),
    (gate_metrics(verdict(reason="better")), "promoted: better"),
    (gate_metrics(verdict(promoted=False, reason="worse")), "not promoted: worse"),
    (index_metrics(), "1 item, flat"),
    (
        index_metrics(items=60, kind="none", model_version="baseline-popularity"),
        "60 items, no index: a baseline serves",
    ),
    (shard_metrics(0), "20 users, 200 rows"),
    (PUBLISH, "400 rows for 40 users, at most 10 each"),
    (
        PUBLISH.model_copy(update={"changed": False}),
        "400 rows for 40 users, at most 10 each; the same as already published",
    ),
    (REFRESH, "no user has new events; nothing was published"),
    (
        REFRESH.model_copy(update={"users": 3, "new_users": 1, "advanced": 2, "reencoded": 1}),
        "3 users with new events, 1 of them new; 2 read from their stored state, 1 from their whole history",
    ),
    (DeliverMetrics(day=DAY, night=DAY, deliveries=(DELIVERY,)), "shop: whole, 40 users"),
    (ReportMetrics(day=DAY, path="reports/2024-01-30/index.html", bytes=1), "reports/2024-01-30/index.html"),
]


@pytest.mark.parametrize(("metrics", "line"), LINES)
def test_a_step_in_a_line(metrics: StepMetrics, line: str) -> None:
    assert metrics.in_a_line == line


def test_every_step_has_a_line() -> None:
    assert {type(metrics) for metrics, _ in LINES} == set(KEPT_METRICS.values())
