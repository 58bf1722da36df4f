"""The search uses float32 if it ranks like float64, and float64 otherwise."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hmamba.candidates.retrieve import retrieve
from hmamba.candidates.score import ModelScorer, write_candidates
from hmamba.config import CandidatesConfig
from hmamba.errors import InputError
from hmamba.index import index as item_index
from hmamba.index import matmul
from hmamba.index import precision as float32_recall
from hmamba.index.choice import choose
from hmamba.index.flat import FlatSearcher
from hmamba.index.index import ItemIndex
from hmamba.index.matmul import Float64Searcher
from hmamba.inference.encode import encode_users
from hmamba.model import lorentz
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import read_group
from hmamba.storage.local import read_json, write_json
from hmamba.terms.repeats import RepeatFeatures
from tests.histories import histories_of, random_histories, shard_table
from tests.stored import stored_model

WISHES = CandidatesConfig(k=20, float32_recall=0.999)
FAR = {"items": 600, "max_norm": 5.0, "curvature": 1.0}


def far_model(**settings):
    """A model with norms at the bound and items in tight clusters, whose order float32 cannot represent."""
    stored = stored_model(**{**FAR, **settings})
    model = stored.model
    with torch.no_grad():
        centres = torch.randn(7, 8)
        noise = 1e-6 * torch.randn_like(model.tangents.weight)
        model.tangents.weight.copy_(1e3 * (centres[torch.arange(len(noise)) % 7] + noise))
        model.norm_out.weight.mul_(1e4)
        if model.bias is not None:
            model.bias.zero_()
    return stored


def indices(queries, items):
    """The float32 and the float64 index over the same points, and the queries in both precisions."""
    candidate_items = CandidateItems.of(np.r_[0, np.ones(len(items), dtype=np.int64)], 1)
    single = items.float().numpy()
    return (
        ItemIndex("v1", candidate_items, FlatSearcher.build(single)),
        ItemIndex("v1", candidate_items, Float64Searcher.build(items.numpy())),
        queries.float().numpy(),
        queries.numpy(),
    )


def points(norm, users=8, items=4000, dim=8, K=4.0):
    """Queries and items at tangent norm ``norm`` sqrt(K): a user in each cluster of items about sqrt(K) apart."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(users, dim, generator=generator, dtype=torch.float64)
    centres = centres / centres.norm(dim=1, keepdim=True)
    noise = torch.randn(items, dim, generator=generator, dtype=torch.float64)
    near = centres[torch.arange(items) % users] + 0.5 / np.sinh(norm) * noise
    u, v = (lorentz.exp0(part / part.norm(dim=1, keepdim=True) * norm * K**0.5, K=K) for part in (centres, near))
    return lorentz.flip(u), v


@pytest.mark.parametrize(("norm", "low", "high"), [(1, 0.9999, 1), (3, 0.999, 1), (8, 0, 0.95), (10, 0, 0.3)])
def test_float32_loses_the_order_far_from_the_origin(norm, low, high):
    single, exact, queries, precise = indices(*points(norm))
    share = float32_recall.shares(single, exact, queries, precise, 100).mean()
    assert low <= share <= high
    products, columns = exact.search(precise, 100)
    # At equal radii <u,v>/K = -1 - sinh(R)^2 |u - v|^2 / 2 with unit directions u and v, which cancels nothing.
    u, v = (part[:, 1:] / np.linalg.norm(part[:, 1:], axis=1, keepdims=True) for part in (precise, exact.vectors))
    true = -4.0 * (1 + np.sinh(norm) ** 2 * np.square(u[:, None] - v[None]).sum(-1) / 2)
    assert np.array_equal(columns, np.argsort(-true, axis=1)[:, :100])
    np.testing.assert_allclose(products, np.take_along_axis(true, columns, axis=1), rtol=1e-6)


def test_missing_items_reduce_the_recall():
    """A float32 index without the best ten of a hundred items has a recall of 0.9."""
    queries, items = points(1, users=5)
    single, exact, queries, precise = indices(queries, items)
    best = exact.search(precise[:1], 10)[1][0]
    worse = single.vectors.copy()
    worse[best] *= 10
    blind = ItemIndex("v1", single.candidate_items, FlatSearcher.build(worse))
    assert float32_recall.shares(blind, exact, queries[:1], precise[:1], 100).tolist() == [0.9]


def test_exact_ties_are_no_errors(monkeypatch):
    """Every item has 49 duplicates, so any of them can end the list; blocks of rows do not change the result."""
    queries, items = points(2, users=6, items=40)
    single, exact, queries, precise = indices(queries, items.repeat(50, 1))
    assert float32_recall.shares(single, exact, queries, precise, 120).tolist() == [1.0] * 6
    monkeypatch.setattr(matmul, "_ENTRIES", 2 * len(exact.vectors))
    assert float32_recall.shares(single, exact, queries, precise, 120).tolist() == [1.0] * 6
    assert exact.search(precise, 7)[0].shape == (6, 7)


@pytest.mark.parametrize(("k", "items", "depth"), [(20, 5000, 100), (300, 5000, 300), (20, 100, 50), (20, 1, 1)])
def test_the_depth_is_k_and_at_least_a_hundred_or_half_of_the_items(k, items, depth):
    assert float32_recall.depth_of(k, items) == depth


def write_shards(folder, histories, shards=2, rows_per_group=131_072):
    files = []
    for shard in range(shards):
        part = histories.select(np.arange(shard, len(histories), shards))
        table = shard_table(part.users.take(pa.array(part.owner)), part.items, part.times)
        files.append(folder / f"shard-{shard:04d}.parquet")
        pq.write_table(table, files[-1], row_group_size=rows_per_group)
    return files


def test_the_sample_is_always_the_same_and_skips_users_without_a_readable_history(tmp_path):
    stored = stored_model()
    known, unknown = [(0.0, 3), (1.0, 4)], [(0.0, 99)]
    files = write_shards(tmp_path, histories_of(*([known, known, unknown] * 20)))
    drawn = [
        [user for part in float32_recall.sample(stored, files, 30) for user in part.users.to_pylist()] for _ in range(2)
    ]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 30
    assert not any(int(user[1:]) % 3 == 2 for user in drawn[0])
    everybody = [user for part in float32_recall.sample(stored, files) for user in part.users.to_pylist()]
    assert len(everybody) == 40


def test_the_sample_reads_a_few_row_groups_and_whole_users(tmp_path, monkeypatch):
    stored = stored_model()
    everybody = histories_of(*([[(float(n), 1 + n % 40) for n in range(1 + user % 7)] for user in range(900)]))
    files = write_shards(tmp_path, everybody, rows_per_group=20)
    read = []

    def spy(file, group):
        read.append((file, group))
        return read_group(file, group)

    monkeypatch.setattr(float32_recall, "read_group", spy)
    drawn = list(float32_recall.sample(stored, files, 64))
    assert len(read) == float32_recall.PLACES < sum(pq.read_metadata(file).num_row_groups for file in files) / 5
    assert {file for file, _ in read} == set(files)
    users = [user for part in drawn for user in part.users.to_pylist()]
    assert len(users) == len(set(users)) > 32
    lengths = dict(zip(everybody.users.to_pylist(), everybody.lengths, strict=True))
    assert [length for part in drawn for length in part.lengths] == [lengths[user] for user in users]


def test_users_longer_than_a_row_group_can_be_drawn(tmp_path):
    stored = stored_model()
    long = [(float(n), 1 + n % 40) for n in range(50)]
    files = write_shards(tmp_path, histories_of(*([long] * 6)), shards=1, rows_per_group=10)
    drawn = [
        (user, n)
        for part in float32_recall.sample(stored, files)
        for user, n in zip(part.users, part.lengths, strict=True)
    ]
    assert sorted((user.as_py(), n) for user, n in drawn) == [(f"u{number}", 50) for number in range(6)]


def brute_force(stored, histories, hidden, k, exclude_seen):
    """Items and scores (U, k) by the float64 model, without an index."""
    model = stored.model.in_float64()
    with torch.inference_mode():
        eligible = torch.from_numpy(stored.candidate_items.eligible)
        logits = model.score().logits(model.query_vectors(hidden.double()) @ model.item_vectors(eligible).T)
        users = np.arange(len(histories))
        repeats = RepeatFeatures.before(histories, stored.candidate_items, users, histories.offsets[1:])
        where = torch.from_numpy(repeats.rows), torch.from_numpy(repeats.columns)
        if exclude_seen:
            logits[where] = -torch.inf
        elif model.learned_term is not None:
            rates = model.learned_term.log_rates(hidden.double(), repeats)
            logits[where] = torch.logaddexp(logits[where], rates)
        best = logits.topk(k, dim=1)
    return stored.candidate_items.eligible[best.indices.numpy()], best.values.numpy()


@pytest.mark.parametrize("kind", [{}, {"score_terms": ("repeats",)}, {"score": "linear", "score_terms": ("repeats",)}])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_candidates_far_from_the_origin_are_those_of_float64(tmp_path, caplog, kind, exclude_seen):
    stored = far_model(**kind)
    histories = random_histories(items=600, baskets=False)
    files = write_shards(tmp_path, histories)
    chosen = choose(stored, stored.candidate_items, files, WISHES)
    built = chosen.index
    assert built.kind == "float64"
    assert chosen.float32_recall.share < 0.999
    assert "float64" in caplog.text
    hidden = encode_users(stored.model, histories)
    wanted, scores = brute_force(stored, histories, hidden, 20, exclude_seen)
    ranked = retrieve(stored, built, histories, hidden, k=20, exclude_seen=exclude_seen)
    assert ranked.scores.dtype == np.float32
    assert np.array_equal(ranked.items.reshape(wanted.shape), wanted)
    np.testing.assert_allclose(ranked.scores.reshape(wanted.shape), scores, rtol=1e-6)
    single = item_index.build(stored, stored.candidate_items)
    lossy = retrieve(stored, single, histories, hidden, k=20, exclude_seen=exclude_seen)
    assert not np.array_equal(lossy.items, ranked.items)


def test_a_float64_index_reads_back_and_publishes_float32_scores_that_never_rise(tmp_path):
    stored = far_model(score_terms=("repeats",))
    histories = random_histories(items=600)
    built = item_index.build(stored, stored.candidate_items, "float64")
    item_index.save(built, tmp_path / "index")
    again = item_index.load(tmp_path / "index", "v1")
    assert (again.kind, again.vectors.dtype) == ("float64", np.float64)
    assert np.array_equal(again.vectors, built.vectors)
    parts = {"candidates": tmp_path / "part.parquet", "vectors": tmp_path / "users.parquet"}
    write_candidates(ModelScorer(stored, again, np.arange(601), 50, False), stored.item_ids, [histories], **parts)
    table = pq.read_table(parts["candidates"])
    assert table.schema.field("score").type == pa.float32()
    assert table.to_pandas().groupby("user_id", sort=False)["score"].agg(lambda s: s.is_monotonic_decreasing).all()
    assert pq.read_schema(parts["vectors"]).field("point").type.value_type == pa.float32()
    (tmp_path / "index" / "items.npy").write_bytes(b"junk")
    with pytest.raises(InputError, match="index step again"):
        item_index.load(tmp_path / "index", "v1")


def test_an_index_of_an_unknown_kind_is_refused(tmp_path):
    stored = stored_model()
    item_index.save(item_index.build(stored, stored.candidate_items), tmp_path / "index")
    description = read_json(tmp_path / "index" / "index.json")
    write_json(tmp_path / "index" / "index.json", {**description, "kind": "HNSW"})
    with pytest.raises(InputError, match="index step again"):
        item_index.load(tmp_path / "index", "v1")
