"""Whoever serves a night is opened from what its gate and index steps have left."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hmamba.candidates.baseline import write_eligible
from hmamba.candidates.night import NightScorer
from hmamba.columns import FALLBACK_VERSION
from hmamba.contracts.contents import Contents, HashedFile
from hmamba.contracts.manifest import SnapshotFile, SnapshotManifest
from hmamba.errors import InputError
from hmamba.index import index as item_index
from hmamba.models import files as model_files
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.files import Snapshot
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json, write_json
from tests.documents import index_metrics, verdict
from tests.histories import histories_of, random_histories, valued
from tests.stored import ITEMS, stored_model

CPU = torch.device("cpu")


@pytest.fixture
def run(tmp_path):
    """The folder of a night whose snapshot is there; item n has n events."""
    run = Layout.at(tmp_path).run(date(2024, 2, 1), "manual")
    for folder in (run.sequences, run.vectors):
        folder.mkdir(parents=True)
    numbers = np.arange(1, ITEMS + 1)
    ids = [f"item {n}" for n in numbers]
    items = {"item_index": pa.array(numbers, pa.int32()), "item_id": ids, "events": pa.array(numbers, pa.int64())}
    pq.write_table(pa.table(items), run.items)
    return run


def opened(run):
    """What serves the run's night, with a snapshot of these items and no users."""
    totals = {"users": 0, "events": 0, "items": ITEMS, "shards": 0, "newest_event": None, "digest": "0123"}
    files = (SnapshotFile(rows=ITEMS, **HashedFile.of(run.items).model_dump()),)
    end = datetime(2024, 2, 2)
    manifest = SnapshotManifest(day=date(2024, 2, 1), end=end, by_position=False, batch=1, files=files, **totals)
    return NightScorer.open(Snapshot(run, manifest), CPU)


def score(scorer, folder, histories, exclude_seen=True):
    paths = {"candidates": folder / "part.parquet", "vectors": folder / "users.parquet"}
    metrics = scorer.score([histories], k=3, exclude_seen=exclude_seen, shard=0, **paths)
    return metrics, pd.read_parquet(paths["candidates"])


def store(run):
    """A model that serves, as the gate and the index step leave it."""
    stored = stored_model()
    stored = replace(stored, version=stored.provenance.version)
    verdict(serving=stored.version).write(run.verdict)
    model_files.save_serving(run, stored)
    stored = model_files.load_serving(run, stored.version, CPU)
    item_index.save(item_index.build(stored, stored.candidate_items), run.index)
    return stored


def test_an_index_is_of_the_very_weights_that_serve(run):
    """The gate step can run again, with other counts or a refit, and leave the same version with other weights."""
    stored = store(run)
    with torch.no_grad():
        stored.model.tangents.weight.mul_(1.1)
    model_files.save_serving(run, stored)
    with pytest.raises(InputError, match="Run the index step again"):
        opened(run)
    stored = model_files.load_serving(run, stored.version, CPU)
    item_index.save(item_index.build(stored, stored.candidate_items), run.index)
    assert opened(run).version == stored.version


def test_a_model_of_before_splits_were_named_serves(run):
    """Its version is a digest of fewer fields than it is described by now."""
    store(run)
    path = run.model / "config.json"
    description = read_json(path)
    del description["split"]
    write_json(path, {**description, "version": "20240131-0dd0dd0d"})
    Contents.of(run.model).write(run.model_contents)
    assert model_files.load_serving(run, "20240131-0dd0dd0d", CPU).provenance.split == "days"
    with pytest.raises(InputError, match="holds model 20240131-0dd0dd0d, but another serves"):
        model_files.load_serving(run, "another", CPU)


def test_a_baseline_serves_from_what_may_be_recommended(run, tmp_path):
    verdict(serving="baseline-popularity").write(run.verdict)
    allowed = np.zeros(ITEMS + 1, dtype=np.int64)
    allowed[[2, 5, 7, 9]] = 1
    ids = model_files.vocabulary(run.sequences / "items.parquet")
    with run.storage.write_file(run.item_points) as path:
        write_eligible(CandidateItems.of(allowed, 1), ids, path)
    points = HashedFile.of(run.item_points)
    index_metrics(kind="none", model_version="baseline-popularity", points=points).write(run.step_metrics("index"))
    scorer = opened(run)
    assert (scorer.version, scorer.stored) == ("baseline-popularity", None)
    metrics, table = score(scorer, tmp_path, histories_of([(0, 9), (1, 1)], [(0, 1)]))
    assert table.item_id.tolist() == ["item 7", "item 5", "item 2", "item 9", "item 7", "item 5"]
    assert set(table.model_version) == {"baseline-popularity"}
    assert (metrics.users, metrics.rows) == (2, 6)


def test_a_model_serves_with_its_index(run, tmp_path):
    stored = store(run)
    scorer = opened(run)
    assert scorer.version == scorer.stored.version == stored.version
    histories = random_histories(items=ITEMS)
    metrics, table = score(scorer, tmp_path, histories)
    assert set(table.model_version) == {stored.version}
    assert metrics.rows == len(table) == 3 * len(histories)


def test_whom_the_model_knows_nothing_of_gets_no_item_that_they_have_seen(run, tmp_path):
    """Who has only returned an item, or turned one down, has no event that is read; the item was seen all the same."""
    store(run)
    histories = valued(histories_of([(0, ITEMS)], [(0, ITEMS), (1, 3)], [(0, ITEMS + 9)]), weights=[0, 0, 1, 1])
    _, table = score(opened(run), tmp_path, histories)
    mine = table.groupby("user_id").item_id.agg(list)
    assert mine["u0"] == ["item 39", "item 38", "item 37"]
    assert mine["u2"] == ["item 40", "item 39", "item 38"]
    assert table[table.user_id != "u1"].model_version.unique().tolist() == [FALLBACK_VERSION]
    assert f"item {ITEMS}" not in mine["u1"]
    _, table = score(opened(run), tmp_path, histories, exclude_seen=False)
    assert table[table.user_id == "u0"].item_id.tolist() == ["item 40", "item 39", "item 38"]


def test_a_model_that_the_gate_did_not_store_is_not_served(run):
    store(run)
    verdict(serving="20240101-abcdef12").write(run.verdict)
    with pytest.raises(InputError, match=r"holds model .*, but 20240101-abcdef12 serves. Run the gate step again"):
        opened(run)
    verdict(serving=None, reason="too weak").write(run.verdict)
    with pytest.raises(InputError, match="no model and no baseline serves tonight: too weak"):
        opened(run)
