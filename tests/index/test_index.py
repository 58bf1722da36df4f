"""The index of a model's items: what it holds, how it is stored, and what is refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hmamba.errors import InputError
from hmamba.index import index as item_index
from hmamba.model import lorentz
from hmamba.sequences.candidate_items import CandidateItems
from tests.documents import edit
from tests.stored import stored_model


def test_an_allowed_set_restricts_the_index():
    stored = stored_model()
    allowed = pa.chunked_array([["item 4", "item 9", "unheard of"]])
    (kept,) = item_index.restrict(stored.item_ids, allowed, stored.candidate_items)
    assert kept.eligible.tolist() == [4, 9]
    none = CandidateItems.only(np.array([1]), len(stored.item_ids))
    parts = item_index.restrict(stored.item_ids, allowed, none, stored.candidate_items)
    assert [part.eligible.tolist() for part in parts] == [[], [4, 9]]
    with pytest.raises(InputError, match="allowed_items"):
        item_index.restrict(stored.item_ids, pa.chunked_array([["unheard of"]]), stored.candidate_items, none)


@pytest.mark.parametrize("way", ["flat", "matmul"])
def test_the_index_reads_back_and_belongs_to_its_model(tmp_path, way):
    stored = stored_model()
    built = item_index.build(stored, stored.candidate_items, way)
    item_index.save(built, tmp_path / "index")
    again = item_index.load(tmp_path / "index", "v1")
    assert again.kind == way
    np.testing.assert_array_equal(again.vectors, built.vectors)
    assert np.array_equal(again.candidate_items.eligible, built.candidate_items.eligible)
    with pytest.raises(InputError, match="v2 serves"):
        item_index.load(tmp_path / "index", "v2")
    file = next(path for path in sorted((tmp_path / "index").iterdir()) if path.name.startswith("items"))
    file.write_bytes(b"junk")
    with pytest.raises(InputError, match="index step again"):
        item_index.load(tmp_path / "index", "v1")


@pytest.mark.parametrize(
    ("digests", "more", "missing"),
    [
        ({}, (), ()),
        ({"items.npy": "0"}, (), ()),
        (None, ("items.faiss",), ()),
        (None, (), ("items.npy",)),
        ({}, (), ("candidate_items.npy", "items.npy")),
    ],
    ids=["none", "wrong", "further file", "missing file", "empty"],
)
def test_an_index_holds_exactly_the_files_that_are_described(tmp_path, digests, more, missing):
    stored = stored_model()
    item_index.save(item_index.build(stored, stored.candidate_items, "matmul"), tmp_path)
    if digests is not None:
        edit(tmp_path / "index.json", sha256=digests)
    for name in more:
        (tmp_path / name).write_bytes(b"")
    for name in missing:
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match=r"is not the file that .*index\.json describes\. Run the index step again"):
        item_index.load(tmp_path, "v1")


def test_item_points_are_written_with_their_distance(tmp_path):
    stored = stored_model()
    item_index.write_item_points(stored, stored.candidate_items, tmp_path / "items.parquet")
    table = pq.read_table(tmp_path / "items.parquet")
    points = torch.tensor(table["point"].to_pylist())
    K = 1 / stored.model.curvature.detach()
    torch.testing.assert_close(torch.tensor(table["distance_from_origin"].to_pylist()), lorentz.distance0(points, K=K))
