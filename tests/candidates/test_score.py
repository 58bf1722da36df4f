"""The index and the candidates against the exact ranking by the model itself."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hmamba.candidates.score import ModelScorer, retrieve, write_candidates
from hmamba.columns import FALLBACK_VERSION
from hmamba.contracts.verdict import read_serving
from hmamba.errors import InputError
from hmamba.evaluation.ranking import rank_all
from hmamba.index import index as item_index
from hmamba.inference.encode import encode_users
from hmamba.model import lorentz
from hmamba.models import files as model_files
from hmamba.models import promotions
from hmamba.storage.layout import Layout
from tests.documents import verdict
from tests.histories import histories_of, random_histories
from tests.stored import ITEMS, stored_model

KINDS = {
    "squared": {"score": "squared"},
    "linear": {"score": "linear"},
    "paper": {"score": "paper"},
    "half": {"variant": "half"},
    "euclidean": {"variant": "euclidean"},
    "repeats": {"score_terms": ("repeats",)},
    "categories": {"score_terms": ("repeats",), "category_levels": (1, 2)},
    "category vectors": {"category_levels": (1, 2), "category_vectors": True},
    "cooccurrence": {"score_terms": ("cooccurrence",)},
    "attributes": {"score_terms": ("attributes",)},
    "cooccurrence and attributes": {"score_terms": ("cooccurrence", "attributes")},
    "all terms": {"score_terms": ("repeats", "cooccurrence", "attributes")},
    "linear with repeats": {"score": "linear", "score_terms": ("repeats",)},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("k", [1, 7, 100])
@pytest.mark.parametrize("way", ["flat", "matmul"])
def test_candidates_equal_the_exact_ranking(kind, exclude_seen, k, way):
    stored = stored_model(eligible=range(1, ITEMS, 2), **KINDS[kind])
    histories = random_histories(items=ITEMS, baskets=False)  # equal scores would have no order
    expected, scores = rank_all(stored.model, histories, stored.candidate_items, k=k, exclude_seen=exclude_seen)
    built = item_index.build(stored, stored.candidate_items, way)
    hidden = encode_users(stored.model, histories)
    ranked = retrieve(stored, built, histories, hidden, k=k, exclude_seen=exclude_seen)
    for user in range(len(histories)):
        mine = ranked.users == user
        wanted = expected[user] >= 0
        assert ranked.items[mine].tolist() == expected[user][wanted].tolist()
        np.testing.assert_allclose(ranked.scores[mine], scores[user][wanted], rtol=1e-4, atol=1e-4)


def write(stored, histories, folder, **options):
    settings = {"k": 5, "exclude_seen": False, **options}
    metrics = write_candidates(
        ModelScorer(stored, item_index.build(stored, stored.candidate_items), np.arange(ITEMS + 1), **settings),
        stored.item_ids,
        [histories],
        candidates=folder / "part.parquet",
        vectors=folder / "users.parquet",
    )
    return metrics, pq.read_table(folder / "part.parquet")


def test_the_table_is_sorted_ranked_and_typed(tmp_path):
    stored = stored_model(score_terms=("repeats",))
    histories = random_histories(items=ITEMS)
    metrics, table = write(stored, histories, tmp_path)
    assert metrics.rows == table.num_rows == 5 * len(histories)
    assert table.schema.types == [pa.string(), pa.int32(), pa.string(), pa.float32(), pa.string()]
    frame = table.to_pandas()
    assert frame.groupby("user_id", sort=False)["rank"].agg(list).map(lambda r: r == [1, 2, 3, 4, 5]).all()
    assert frame.groupby("user_id", sort=False)["score"].agg(lambda s: s.is_monotonic_decreasing).all()
    assert not frame.duplicated(["user_id", "item_id"]).any()
    points = torch.tensor(pq.read_table(tmp_path / "users.parquet")["point"].to_pylist())
    K = 1 / stored.model.curvature.detach()
    torch.testing.assert_close(lorentz.inner(points, points), -K.expand(len(points)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_users_make_no_difference(tmp_path, kind):
    stored, histories = stored_model(**KINDS[kind]), random_histories(items=ITEMS + 3, baskets=False)
    whole = tmp_path / "whole"
    whole.mkdir()
    metrics, table = write(stored, histories, whole)
    blocks = [histories.select(users) for users in np.split(np.arange(len(histories)), [1, 2, 17])]
    paths = {"candidates": tmp_path / "part.parquet", "vectors": tmp_path / "users.parquet"}
    built = item_index.build(stored, stored.candidate_items)
    popularity = np.arange(ITEMS + 1)
    scorer = ModelScorer(stored, built, popularity, 5, False)
    assert metrics == write_candidates(scorer, stored.item_ids, iter(blocks), **paths)
    again = pq.read_table(paths["candidates"])
    assert again.drop_columns("score").equals(table.drop_columns("score"))
    np.testing.assert_allclose(again["score"], table["score"], rtol=1e-4, atol=1e-5)
    points = (pq.read_table(folder / "users.parquet") for folder in (tmp_path, whole))
    assert next(points)["user_id"].equals(next(points)["user_id"])


def test_users_of_whom_the_model_knows_nothing_get_popular_items_and_it_is_said(tmp_path):
    stored = stored_model()
    histories = histories_of([(0, ITEMS + 3)], [(0, 1), (1, ITEMS + 2)])
    metrics, table = write(stored, histories, tmp_path)
    assert metrics.fallback_users == 1
    assert table["model_version"].to_pylist() == [FALLBACK_VERSION] * 5 + ["v1"] * 5
    assert table["item_id"].to_pylist()[:5] == [f"item {n}" for n in range(ITEMS, ITEMS - 5, -1)]


def test_a_shard_without_users_gives_an_empty_table_of_the_right_types(tmp_path):
    metrics, table = write(stored_model(score_terms=("repeats",)), histories_of(), tmp_path)
    assert (metrics.users, metrics.rows) == (0, 0)
    assert table.schema.types == [pa.string(), pa.int32(), pa.string(), pa.float32(), pa.string()]


def test_more_is_asked_for_than_there_is(tmp_path):
    metrics, _ = write(stored_model(), histories_of([(0, 1)]), tmp_path, k=1000)
    assert metrics.rows == ITEMS


def test_excluded_items_run_out_before_k_does(tmp_path):
    stored = stored_model(eligible=[1, 2, 3])
    _, table = write(stored, histories_of([(0, 1), (1, 2)]), tmp_path, exclude_seen=True)
    assert table["item_id"].to_pylist() == ["item 3"]


def test_an_allowed_set_restricts_the_index():
    stored = stored_model()
    allowed = pa.chunked_array([["item 4", "item 9", "unheard of"]])
    assert item_index.restrict(stored.candidate_items, stored.item_ids, allowed).eligible.tolist() == [4, 9]
    with pytest.raises(InputError, match="allowed_items"):
        item_index.restrict(stored.candidate_items, stored.item_ids, pa.chunked_array([["unheard of"]]))


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
    description = json.loads((tmp_path / "index.json").read_text())
    if digests is not None:
        (tmp_path / "index.json").write_text(json.dumps(description | {"sha256": digests}))
    for name in more:
        (tmp_path / name).write_bytes(b"")
    for name in missing:
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match=r"is not the file that .*index\.json describes\. Run the index step again\."):
        item_index.load(tmp_path, "v1")


def test_item_points_are_written_with_their_distance(tmp_path):
    stored = stored_model()
    item_index.write_item_points(stored, stored.candidate_items, tmp_path / "items.parquet")
    table = pq.read_table(tmp_path / "items.parquet")
    points = torch.tensor(table["point"].to_pylist())
    K = 1 / stored.model.curvature.detach()
    torch.testing.assert_close(torch.tensor(table["distance_from_origin"].to_pylist()), lorentz.distance0(points, K=K))


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
    with pytest.raises(InputError, match=r"damaged, or stored by another version.*train again with --full-retrain\.$"):
        model_files.load(layout, version, torch.device("cpu"))


def test_a_damaged_serving_model_is_made_again_by_the_gate(tmp_path):
    run, stored = Layout.at(tmp_path).run(date(2024, 2, 1), "manual"), stored_model()
    model_files.save_serving(run, stored)
    (run.model / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"damaged, or stored by another version.*Run the gate step again") as raised:
        model_files.load_serving(run, "v1", torch.device("cpu"))
    assert "--full-retrain" not in str(raised.value)


def test_a_rebuilt_warehouse_is_noticed():
    stored = stored_model()
    same = stored.item_ids.to_pylist()
    model_files.check_vocabulary("model m", stored.item_ids, pa.array([*same, "a newer one"]))
    with pytest.raises(InputError, match=r"model m: item_index 2 was item 'item 2'.*--full-retrain"):
        model_files.check_vocabulary("model m", stored.item_ids, pa.array([*same[:2], "item 7", *same[3:]]))


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"version": "a"}', '{"schema_version": 1, "version": "a", "history": []}']
)
def test_a_damaged_list_of_promotions_is_named(tmp_path, content):
    layout = Layout.at(tmp_path)
    layout.models.mkdir()
    layout.champion.write_text(content)
    with pytest.raises(InputError, match=r"champion\.json"):
        promotions.champion_before(layout, date(2024, 1, 2))


def test_a_model_that_knows_more_than_the_warehouse_is_refused():
    with pytest.raises(InputError, match="38 items that the warehouse does not"):
        model_files.check_vocabulary("model m", stored_model().item_ids, pa.array([None, "item 1", "item 2"]))


def test_nobody_serving_is_said(tmp_path):
    run = Layout.at(tmp_path).run(date(2024, 1, 1), "manual")
    verdict(serving=None, reason="too weak").write(run.verdict)
    with pytest.raises(InputError, match="too weak"):
        read_serving(run)


FIRST, SECOND, THIRD = (date(2024, 1, day) for day in (1, 2, 3))


def versions(layout: Layout) -> list[str]:
    """Who has been promoted, oldest first; champion.json names the last one."""
    found = [promotion.version for promotion in promotions.promotions(layout)]
    assert not layout.champion.exists() or json.loads(layout.champion.read_text())["version"] == found[-1]
    return found


def test_promotions_follow_the_days(tmp_path):
    layout = Layout.at(tmp_path)
    assert promotions.champion_before(layout, FIRST) is None
    assert promotions.record_decision(layout, FIRST, "a")
    assert promotions.record_decision(layout, SECOND, "b")
    assert promotions.champion_before(layout, SECOND) == "a"
    assert promotions.champion_before(layout, THIRD) == "b"


def test_the_last_decision_on_a_day_counts(tmp_path):
    layout = Layout.at(tmp_path)
    promotions.record_decision(layout, FIRST, "a")
    for decision, expected in (("b", ["a", "b"]), ("c", ["a", "c"]), (None, ["a"]), (None, ["a"]), ("b", ["a", "b"])):
        assert promotions.record_decision(layout, SECOND, decision)
        assert versions(layout) == expected
    promotions.record_decision(layout, SECOND, None)
    assert promotions.record_decision(layout, FIRST, None)
    assert versions(layout) == []
    assert not layout.champion.exists()
    assert promotions.record_decision(layout, FIRST, None)


def test_the_same_decision_again_changes_no_file(tmp_path):
    layout = Layout.at(tmp_path)
    promotions.record_decision(layout, FIRST, "a")
    before = layout.champion.stat().st_mtime_ns
    assert promotions.record_decision(layout, FIRST, "a")
    assert layout.champion.stat().st_mtime_ns == before


def test_what_later_nights_build_on_stays(tmp_path):
    layout = Layout.at(tmp_path)
    for day, version in ((FIRST, "a"), (THIRD, "c")):
        promotions.record_decision(layout, day, version)
    assert promotions.record_decision(layout, FIRST, "a")
    assert not promotions.record_decision(layout, FIRST, "z")
    assert not promotions.record_decision(layout, FIRST, None)
    assert promotions.record_decision(layout, SECOND, None)
    assert not promotions.record_decision(layout, SECOND, "b")
    assert versions(layout) == ["a", "c"]
