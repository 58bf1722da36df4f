"""Models on disk, their items by index, and the check that they fit a warehouse."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hmamba.contracts.contents import Contents
from hmamba.errors import InputError
from hmamba.models import files as model_files
from hmamba.models.files import Provenance
from hmamba.storage.layout import Layout
from tests.documents import verdict
from tests.histories import histories_of, valued
from tests.stored import stored_model


@pytest.mark.parametrize(
    "settings", [{"score_terms": ("repeats",)}, {"category_levels": (1, 2), "category_vectors": True}]
)
def test_a_stored_model_reads_back_and_a_damaged_one_is_refused(settings, tmp_path):
    layout, stored = Layout.at(tmp_path), stored_model(eligible=[2, 5], **settings)
    version = model_files.save(layout, stored.model, stored.provenance, stored.candidate_items, stored.item_ids)
    again = model_files.load(layout, version, torch.device("cpu"))
    assert again.candidate_items.eligible.tolist() == [2, 5]
    assert again.item_ids == stored.item_ids
    assert all(torch.equal(v, again.model.state_dict()[k]) for k, v in stored.model.state_dict().items())
    weights = layout.model(version) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"safetensors is damaged.*train again with --full-retrain\.$"):
        model_files.load(layout, version, torch.device("cpu"))


def test_a_damaged_serving_model_is_made_again_by_the_gate(tmp_path):
    run, stored = Layout.at(tmp_path).run(date(2024, 2, 1), "manual"), stored_model()
    model_files.save_serving(run, stored)
    (run.model / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"safetensors is damaged.*Run the gate step again") as raised:
        model_files.load_serving(run, "v1", torch.device("cpu"))
    assert "--full-retrain" not in str(raised.value)


def test_a_rebuilt_warehouse_is_noticed():
    stored = stored_model()
    same = stored.item_ids.to_pylist()
    model_files.check_vocabulary("model m", stored.item_ids, pa.array([*same, "a newer one"]))
    with pytest.raises(InputError, match=r"model m: item_index 2 was item 'item 2'.*--full-retrain"):
        model_files.check_vocabulary("model m", stored.item_ids, pa.array([*same[:2], "item 7", *same[3:]]))


def test_a_model_that_knows_more_than_the_warehouse_is_refused():
    with pytest.raises(InputError, match="38 items that the warehouse does not"):
        model_files.check_vocabulary("model m", stored_model().item_ids, pa.array([None, "item 1", "item 2"]))


def test_the_name_of_a_version_follows_from_its_inputs():
    one = Provenance(date(2024, 2, 1), None, "s", 5, "x")
    assert one.version == replace(one).version
    assert one.version.startswith("20240201-")
    changes = {"parent": "a", "snapshot": "t", "trained_until": 6, "settings": "y", "split": "last"}
    others = {replace(one, **{name: value}).version for name, value in changes.items()}
    assert len(others | {one.version}) == 1 + len(changes)


def test_items_that_a_model_does_not_know_are_padding():
    stored = replace(stored_model(), item_ids=pa.array([None, "a", None, "c"]))
    assert stored.known(np.array([0, 1, 2, 3, 4, 99])).tolist() == [0, 1, 0, 3, 0, 0]
    histories = histories_of([(0, 1), (1, 99)], [(0, 2), (1, 4)], [(0, 3)], [(0, 3), (1, 2)])
    readable, is_readable = stored.readable(valued(histories, weights=[1, 1, 1, 1, 0, 1, 1]))
    assert readable.items.tolist() == [1, 0, 0, 0, 3, 3, 0]
    assert is_readable.tolist() == [True, False, False, True]  # an event of weight 0 is not read


def test_a_vocabulary_has_gaps_where_there_is_no_item(tmp_path):
    table = pa.table({"item_index": pa.array([3, 1], pa.int32()), "item_id": ["c", "a"]})
    assert model_files.vocabulary_of(table).to_pylist() == [None, "a", None, "c"]
    assert model_files.vocabulary_of(table, 6).to_pylist() == [None, "a", None, "c", None, None]
    path = tmp_path / "items.parquet"
    pq.write_table(table.append_column("events", pa.array([30, 10], pa.int64())), path)
    assert model_files.item_events(path, 3).tolist() == [0, 10, 0]


def test_a_setting_of_another_version_is_named_in_one_line(tmp_path):
    layout, stored = Layout.at(tmp_path), stored_model()
    version = model_files.save(layout, stored.model, stored.provenance, stored.candidate_items, stored.item_ids)
    path = layout.model(version) / "config.json"
    description = json.loads(path.read_text())
    description["model"]["score_term"] = "cooccurrence"
    path.write_text(json.dumps(description))
    Contents.of(path.parent).write(path.parent / "contents.json")
    with pytest.raises(
        InputError, match=r"\(score_term = 'cooccurrence': Extra inputs are not permitted\)\."
    ) as raised:
        model_files.load(layout, version, torch.device("cpu"))
    assert "\n" not in str(raised.value)


def test_what_is_stored_is_what_ranks_the_items(tmp_path):
    """Counted terms, provenance and fingerprint come back too, and other weights have another fingerprint."""
    layout, stored = Layout.at(tmp_path), stored_model(eligible=[2, 5], score_terms=("cooccurrence",))
    provenance = replace(stored.provenance, parent="p", split="last")
    arguments = provenance, stored.candidate_items, stored.item_ids
    version = model_files.save(layout, stored.model, *arguments)
    again = model_files.load(layout, version, torch.device("cpu"))
    assert again.provenance == provenance
    assert [term.weights for term in again.model.counted_terms] == [stored.model.counted_terms[0].weights]
    assert again.identity == f"{version}-{again.fingerprint[:8]}"
    with torch.no_grad():
        stored.model.tangents.weight.add_(1.0)
    model_files.save(layout, stored.model, *arguments)
    assert model_files.load(layout, version, torch.device("cpu")).fingerprint != again.fingerprint


def test_a_version_that_is_not_there_says_what_to_do(tmp_path):
    layout = Layout.at(tmp_path)
    with pytest.raises(InputError, match=r"model v7 is needed\. Restore the model's folder, or train again"):
        model_files.load(layout, "v7", torch.device("cpu"))
    run = layout.run(date(2024, 2, 1), "manual")
    with pytest.raises(InputError, match=r"Run the gate step first"):
        model_files.load_serving(run, "v7", torch.device("cpu"))
    model_files.save_serving(run, stored_model())
    with pytest.raises(InputError, match=r"holds model v1, but v7 serves\. Run the gate step again"):
        model_files.load_serving(run, "v7", torch.device("cpu"))
    assert model_files.load_serving(run, "v1", torch.device("cpu")).version == "v1"


def test_the_newest_verdict_is_kept_with_the_version(tmp_path):
    layout, stored = Layout.at(tmp_path), stored_model()
    version = model_files.save(layout, stored.model, stored.provenance, stored.candidate_items, stored.item_ids)
    assert model_files.read_metrics(layout, version).gate is None
    for reason in ("too weak", "good"):
        model_files.record_verdict(layout, version, verdict(reason=reason))
        assert model_files.read_metrics(layout, version).gate.reason == reason
    written = layout.model_metrics(version).stat().st_mtime_ns
    model_files.record_verdict(layout, version, verdict(reason="good"))
    assert layout.model_metrics(version).stat().st_mtime_ns == written
