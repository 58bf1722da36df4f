"""A new score term is one file and one entry: it is trained, saved, recounted, and used in ranking and retrieval."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hmamba.candidates.retrieve import retrieve
from hmamba.config import Config, parse
from hmamba.errors import ConfigError
from hmamba.evaluation.ranking import rank_all
from hmamba.index import index as item_index
from hmamba.inference.encode import encode_users
from hmamba.models import files as model_files
from hmamba.score_terms import SCORE_TERMS, RegisteredTerm
from hmamba.storage.layout import Layout
from hmamba.terms.base import WeightedTerm
from hmamba.terms.cooccurrence import Cooccurrence
from hmamba.training.fit import Fit
from hmamba.training.recount import Counts, recount
from tests.histories import histories_of, random_histories
from tests.stored import ITEMS, stored_model
from tests.terms.neighbour import Neighbour
from tests.training.trainings import prepared, settings


def weighted(weight):
    return WeightedTerm(Neighbour(tuple(range(1, ITEMS + 1))), {"next": weight})


@pytest.fixture
def registered(monkeypatch):
    term = RegisteredTerm("tests.terms.neighbour:Neighbour", False, None, "the item after the newest one", "next")
    monkeypatch.setitem(SCORE_TERMS, "neighbour", term)


@pytest.mark.parametrize("name", SCORE_TERMS)
@torch.inference_mode()
def test_registered_terms_are_of_their_kind_and_never_lower_a_score(name):
    entry = SCORE_TERMS[name]
    assert issubclass(entry.load(), torch.nn.Module) == entry.learned
    stored, histories = stored_model(score_terms=(name,)), random_histories(items=ITEMS)
    (term,) = stored.model.terms
    assert isinstance(term if entry.learned else stored.model.counted_terms[0].term, entry.load())
    assert entry.learned or (entry.load().name == name and min(entry.load().features.values()) > 0)
    entries = term.entries(histories, stored.candidate_items)
    hidden = encode_users(stored.model, histories)
    for scale in (0.1, 30.0):
        base = torch.randn(len(entries.rows)) * scale
        raised = term.combine(base, entries, hidden)
        assert (raised >= base).all()
        assert (raised > base).any()
    # A user's entries depend on that user's history only.
    alone = term.entries(histories.select(np.array([7])), stored.candidate_items)
    assert alone.columns.tolist() == entries.columns[entries.rows == 7].tolist()


def by_both(stored, histories, exclude_seen, k=5):
    """Items (U, k), -1 for none, and scores by retrieval; asserts that they equal those of ranking all items."""
    items, scores = rank_all(stored.model, histories, stored.candidate_items, k=k, exclude_seen=exclude_seen)
    built = item_index.build(stored, stored.candidate_items)
    hidden = encode_users(stored.model, histories)
    found = retrieve(stored, built, histories, hidden, k=k, exclude_seen=exclude_seen)
    assert found.items.tolist() == items[items >= 0].tolist()
    np.testing.assert_allclose(found.scores, scores[items >= 0], rtol=1e-4, atol=1e-4)
    return items, scores


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("before", [[], ["cooccurrence"]])
@pytest.mark.parametrize("learned", [(), ("repeats",)])
def test_ranking_and_retrieval_agree_with_a_new_term(exclude_seen, before, learned):
    stored, histories = stored_model(score_terms=learned), random_histories(items=ITEMS, baskets=False)
    counted = [WeightedTerm(Cooccurrence.count(histories, ITEMS + 1), Cooccurrence.features) for _ in before]
    stored.model.counted_terms = [*counted]
    old, old_scores = by_both(stored, histories, exclude_seen, k=ITEMS)
    stored.model.counted_terms = [*counted, weighted(2.0)]
    new, new_scores = by_both(stored, histories, exclude_seen, k=ITEMS)
    raised = 0
    for user in range(len(histories)):
        was = dict(zip(old[user].tolist(), old_scores[user].tolist(), strict=True))
        now = dict(zip(new[user].tolist(), new_scores[user].tolist(), strict=True))
        neighbour = int(histories.items[histories.offsets[user + 1] - 1]) + 1
        assert set(was) == set(now)
        for item in set(was) - {-1}:
            assert now[item] == pytest.approx(was[item] + 2.0 * (item == neighbour), abs=1e-4)
        raised += neighbour in now
    assert raised > 0


def test_an_item_far_down_by_base_score_is_retrieved():
    stored, histories = stored_model(), random_histories(items=ITEMS, baskets=False)
    stored.model.counted_terms = [weighted(1e3)]
    items, _ = by_both(stored, histories, exclude_seen=False)
    newest = histories.items[histories.offsets[1:] - 1]
    assert (items[:, 0] == newest + 1)[newest < ITEMS].all()


def test_a_night_trains_weighs_saves_and_recounts_a_new_term(registered, tmp_path):
    walks = histories_of(*([(day, 1 + (start + day) % 20) for day in range(8)] for start in range(40)))
    ready = prepared(
        walks, tmp_path / "checkpoints", settings(model={"score_terms": ("neighbour",)}, train={"epochs": 1})
    )
    fit = Fit(ready.model, ready.plan)
    fit.run()
    (term,) = ready.model.counted_terms
    assert fit.weighed["neighbour"]["weights"] == term.weights
    assert term.weights["next"] > 1
    assert fit.weighed["neighbour"]["ndcg@10"] > fit.weighed["neighbour"]["ndcg@10 without"]
    assert term.term.known == tuple(range(1, 21))
    layout = Layout.at(tmp_path)
    version = model_files.save(layout, ready.model, ready.provenance, ready.plan.candidate_items, ready.ids)
    stored = model_files.load(layout, version, torch.device("cpu"))
    assert stored.model.counted_terms == [term]
    recount(stored, Counts.of(walks.select(np.array([0])), 30, [stored.model]))
    assert stored.model.counted_terms == [WeightedTerm(Neighbour(tuple(range(1, 9))), term.weights)]


def test_settings_accept_registered_terms(registered):
    assert parse({"model": {"score_terms": ("neighbour",)}}, "here").model.score_terms == ("neighbour",)
    assert Config().model.score_terms == ("cooccurrence", "attributes", "neighbour")
    with pytest.raises(ConfigError, match="choose among repeats, cooccurrence, attributes, neighbour, each once"):
        parse({"model": {"score_terms": ["neighbor"]}}, "here")
