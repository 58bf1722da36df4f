"""The whole night through Airflow: the real steps, a real metadata database, made-up shoppers."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hmamba.storage.layout import Layout
from tests.dags.conftest import DAGS, SMALL
from tests.synthetic import make_catalogue, make_interactions, write_landing

START, DAYS = date(2024, 1, 1), 30
DAY = START + timedelta(days=DAYS - 1)
K, SHARDS = 10, 2

CATALOGUE = """
[catalogue]
path = "landing/products/*.csv"
category_path = ["department", "category"]
"""


@pytest.fixture
def shop(tmp_path: Path) -> Layout:
    """A root with a month of a small shop in its landing folder."""
    layout = Layout.at(tmp_path / "shop")
    write_landing(layout.root, make_interactions(days=DAYS, start=START))
    products = layout.landing / "products" / "products.csv"
    products.parent.mkdir(parents=True)
    make_catalogue().to_csv(products, index=False)
    layout.config.write_text(SMALL.format(epochs=6) + CATALOGUE, encoding="utf-8")
    return layout


def states(run: Any) -> dict[str, list[str]]:
    """States of a run's tasks; a mapped task has one for each shard."""
    found: dict[str, list[str]] = {}
    for task in sorted(run.get_task_instances(), key=lambda task: task.map_index):
        found.setdefault(task.task_id, []).append(str(task.state))
    return found


@pytest.fixture
def delivering(metadata_database: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The DAGs where HMAMBA_DELIVER names a target without a connection."""
    from airflow.dag_processing.dagbag import BundleDagBag

    monkeypatch.setenv("HMAMBA_DELIVER", "export")
    return BundleDagBag(dag_folder=DAGS, bundle_path=DAGS, bundle_name="dags-folder")


@pytest.mark.airflow
def test_a_whole_night(delivering: Any, shop: Layout) -> None:
    config = shop.config.read_text(encoding="utf-8")
    shop.config.write_text(config + '[deliver.export]\nkind = "jsonl"\n', encoding="utf-8")
    run = delivering.dags["hmamba_retrain"].test(run_conf={"day": DAY.isoformat(), "root": str(shop.root)})

    assert str(run.state) == "success"
    once = ("turn", "ingest", "snapshot", "train", "gate", "index", "shards", "publish", "deliver", "report")
    expected = {"score": ["success"] * SHARDS, "report_failed_night": ["skipped"]}
    assert states(run) == expected | {name: ["success"] for name in once}

    manifest = json.loads(shop.latest.read_text(encoding="utf-8"))
    tables = [pq.read_table(shop.root / part["path"]) for part in manifest["files"]]
    assert manifest["day"] == DAY.isoformat()
    assert len({user for table in tables for user in table["user_id"].to_pylist()}) == manifest["users"] == 40
    assert sum(table.num_rows for table in tables) == manifest["rows"] == 40 * K

    folders = list((shop.root / "runs" / DAY.isoformat()).iterdir())
    assert [folder.name for folder in folders] == [manifest["run_id"]]
    metrics = {path.stem for path in (folders[0] / "metrics").iterdir()}
    assert metrics == {name for name in once if name not in ("turn", "shards")} | {
        f"score-{shard:04d}" for shard in range(SHARDS)
    }
    assert json.loads(shop.champion.read_text(encoding="utf-8"))["version"] == manifest["model_version"]
    assert shop.report(DAY).is_file()
    lines = [path.read_text(encoding="utf-8") for path in (shop.root / "delivered" / "export").glob("part-*.jsonl")]
    assert sum(text.count("\n") for text in lines) == 40 * K

    published = next(task for task in run.get_task_instances() if task.task_id == "publish")
    assert published.xcom_pull(task_ids="publish", key="return_value")["rows"] == 40 * K
    events = {event.asset.name: event for event in _asset_events(run.run_id)}
    assert {name: event.partition_key for name, event in events.items()} == {
        "hmamba_candidates": None,
        "hmamba_candidates_by_day": DAY.isoformat(),
    }
    assert {event.extra["rows"] for event in events.values()} == {40 * K}
    links = {
        key: published.xcom_pull(task_ids="publish", key=key) for key in ("_link_ReportLink", "_link_DataDocsLink")
    }
    for link in links.values():
        assert Path(link.removeprefix("file://")).is_file()


def _asset_events(run_id: str) -> list[Any]:
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.orm import joinedload

    with create_session() as session:
        query = select(AssetEvent).where(AssetEvent.source_run_id == run_id).options(joinedload(AssetEvent.asset))
        return list(session.scalars(query))


@pytest.mark.airflow
def test_a_night_that_no_retry_can_help_fails_at_once(
    dagbag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = dagbag.dags["hmamba_retrain"]
    # If this failure were retried, the run would wait for minutes.
    monkeypatch.setattr(dag.task_dict["ingest"], "retries", 2)
    root = tmp_path / "shop"
    write_landing(root, make_interactions(days=2).drop(columns="item_id"))

    run = dag.test(run_conf={"day": START.isoformat(), "root": str(root)})

    assert str(run.state) == "failed"
    seen = states(run)
    assert seen.pop("turn") == ["success"]
    assert seen.pop("ingest") == ["failed"]
    assert seen.pop("report_failed_night") == ["success"]
    assert {state for after in seen.values() for state in after} == {"upstream_failed"}
    assert not Layout.at(root).candidates.exists()
    assert Layout.at(root).report(START).is_file()
    (folder,) = (root / "runs" / START.isoformat()).iterdir()
    failure = json.loads((folder / "failures" / "ingest.json").read_text(encoding="utf-8"))
    assert "has no column 'item_id'" in failure["message"]
