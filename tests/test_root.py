"""Reading a root from Python, and every line of the library's page."""

from __future__ import annotations

import re
import shutil
from datetime import date, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import pandas as pd
import pytest

import hmamba
from hmamba.contracts.scored import ScoreMetrics
from hmamba.contracts.steps import GateMetrics
from hmamba.errors import InputError
from hmamba.sequences.histories import MICROSECONDS_A_DAY, midnight
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from tests.documents import edit, shard_metrics
from tests.jobs.test_cli import call
from tests.landing import TINY_ONCE
from tests.synthetic import make_catalogue, make_interactions, write_landing

NIGHT = date(2024, 1, 28)
PAGE = (Path(__file__).parents[1] / "docs" / "library.md").read_text(encoding="utf-8")
BLOCKS = [dedent(block) for block in re.findall(r"^ *```python\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)]
TINY = {"train": {"epochs": 2, "min_item_events": 2}, "model": {"dim": 16, "d_state": 8, "head_dim": 8}}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A root after a real night."""
    layout = Layout.at(tmp_path_factory.mktemp("root") / "demo")
    write_landing(layout.root, make_interactions(users=30, items=40, days=28))
    layout.config.write_text(f'{TINY_ONCE}\n[publish]\ntables = ["similar_items"]\n')
    assert call("run", "--root", str(layout.root), "--day", NIGHT.isoformat()) == 0
    return layout


def test_the_results_of_a_night_can_be_read(published: Layout) -> None:
    root = hmamba.open(published.root)
    assert root.days == [NIGHT]
    assert root.manifest().model_version == root.champion
    table = root.candidates().to_table().to_pandas()
    assert len(table) == root.manifest().rows
    assert root.candidates(NIGHT).count_rows() == len(table)
    metrics = root.metrics()
    assert set(metrics) == {"ingest", "snapshot", "train", "gate", "index", "score", "publish", "report"}
    score = metrics["score"]
    assert isinstance(score, ScoreMetrics)
    assert (score.shards, score.rows) == ("0-1", len(table))
    verdict, gate = root.verdict(), metrics["gate"]
    assert isinstance(gate, GateMetrics)
    assert verdict.serving == root.champion
    assert 0 < gate.metrics["challenger"]["recall@5"] <= 1
    assert (gate.metrics, gate.rare, gate.k) == (verdict.metrics, verdict.rare, root.config.candidates.k)
    user = table.user_id[0]
    assert root.explain(user, table.item_id[1]).rank == 2
    assert [row.item_id for row in root.recommend(user, 3).rows] == table.item_id[:3].tolist()


def test_the_recommender_of_a_night_recommends_what_was_published(published: Layout) -> None:
    root = hmamba.open(published.root)
    found = root.recommender().recommend().sort_values(["user_id", "rank"], ignore_index=True)
    table = root.candidates().to_table().to_pandas().sort_values(["user_id", "rank"], ignore_index=True)
    pd.testing.assert_frame_equal(found[["user_id", "rank", "item_id"]], table[["user_id", "rank", "item_id"]])


def test_a_recommender_is_asked_for_the_day_after_its_night(published: Layout) -> None:
    histories = hmamba.open(published.root).recommender()._get().histories
    assert set(histories.asked.tolist()) == {midnight(NIGHT) + MICROSECONDS_A_DAY}


def test_days_without_a_table_are_named(published: Layout) -> None:
    root = hmamba.open(published.root)
    with pytest.raises(InputError, match=r"nothing is published for 2024-01-01"):
        root.candidates(date(2024, 1, 1))
    with pytest.raises(InputError, match="no such folder"):
        hmamba.open(published.root / "nowhere")


def test_shards_of_an_earlier_snapshot_do_not_count(published: Layout, tmp_path: Path) -> None:
    shutil.copytree(published.root, tmp_path / "demo", symlinks=True)
    root = hmamba.open(tmp_path / "demo")
    shard_metrics(2, rows=1000).write(root.layout.run(NIGHT, "manual").step_metrics("score", 2))
    assert root.metrics()["score"] == hmamba.open(published.root).metrics()["score"]


def test_the_page_runs(published: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layout = Layout.at(shutil.copytree(published.root, tmp_path / "demo", symlinks=True))
    before = NIGHT - timedelta(days=1)  # a second table, to compare with
    shutil.copytree(layout.published(NIGHT), layout.published(before))
    files = read_json(layout.published_manifest(NIGHT))["files"]
    moved = [file | {"path": file["path"].replace(str(NIGHT), str(before))} for file in files]
    edit(layout.published_manifest(before), day=str(before), files=moved)
    named = make_interactions(users=30, items=40, days=28)
    first, last = sorted(named.user_id)[0], sorted(named.user_id)[-1]
    item = named.item_id.value_counts().index[0]
    things = make_catalogue(40).rename(columns={"title": "name", "category": "brand"}).assign(tags=[["new"]] * 40)
    names: dict[str, Any] = {"interactions": named, "items": things}
    ran = 0
    for block in BLOCKS:
        code = block.replace('"u1"', repr(first)).replace('"u2"', repr(last)).replace('"i1"', repr(item))
        code = (
            code.replace('"2375"', repr(first))
            .replace('"1082185"', repr(item))
            .replace('{"train": {"epochs": 5}}', repr(TINY))
        )
        exec(compile(code, "docs/library.md", "exec"), names)
        ran += 1
    assert ran == PAGE.count("```python")
    found = names["recommender"].recommend([first], k=10)
    assert found["rank"].tolist() == list(range(1, 11))
