"""The fit of the terms' weights recovers known ones, and keeps only terms that help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.metrics import metrics_by_query
from hmamba.evaluation.ranking import rank_all
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.terms.base import Evidence
from hmamba.terms.cooccurrence import Cooccurrence
from hmamba.training import term_weights
from hmamba.training.term_weights import Choices, weigh
from tests.histories import histories_of, random_histories
from tests.stored import stored_model


@dataclass(frozen=True)
class Two:
    """A term of two features."""

    name: ClassVar[str] = "two"
    features: ClassVar[Mapping[str, float]] = {"a": 0.5, "b": 2.0}


@dataclass(frozen=True)
class One:
    """A term of one feature."""

    name: ClassVar[str] = "one"
    features: ClassVar[Mapping[str, float]] = {"c": 1.0}


TERMS = (Two(), One())


def simulated(queries, theta, seed=0, answers=1):
    """Choices by the model of the fit: 2 to 60 items per query, most features 0."""
    random = np.random.default_rng(seed)
    lengths = random.integers(answers + 1, 60, queries)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    values = random.gamma(1.0, 1.0, (lengths.sum(), len(theta))) * (random.random((lengths.sum(), len(theta))) < 0.4)
    values[:, 0] = random.normal(size=len(values))
    noisy = values @ np.asarray(theta) + random.gumbel(size=len(values))
    is_answer = np.zeros(len(values), dtype=bool)
    for start, length in zip(starts, lengths, strict=True):
        is_answer[start + np.argsort(-noisy[start : start + length])[:answers]] = True
    return Choices(starts, values, is_answer, np.ones(queries), np.ones(queries), queries)


def fit(choices, kept):
    """Theta and the half widths of the weights' intervals."""
    theta = term_weights._fit(choices, TERMS, kept)
    return theta, term_weights._half_widths(choices, TERMS, kept, theta)


def some_choices():
    """Queries of several weights and numbers of answers."""
    random, choices = np.random.default_rng(1), simulated(40, (0.5, 1.0, 0.2, 0.7), answers=2)
    is_answer = choices.is_answer | (random.random(len(choices.is_answer)) < 0.05)
    return replace(choices, is_answer=is_answer, weight=random.random(40))


def test_the_gradient_is_that_of_the_loss_and_the_information_that_of_the_gradient():
    choices, theta = some_choices(), np.array([0.4, 0.9, 0.0, 1.3])
    gradient = choices.loss(theta)[1]
    np.testing.assert_allclose(gradient, approx_fprime(theta, lambda at: choices.loss(at)[0], 1e-7), rtol=1e-4)
    steps = 1e-6 * np.eye(4)
    second = [(choices.loss(theta + step)[1] - choices.loss(theta - step)[1]) / 2e-6 for step in steps]
    np.testing.assert_allclose(choices.information(theta), second, rtol=1e-4, atol=1e-6)


def test_the_loss_equals_its_definition():
    choices, theta = some_choices(), np.array([0.4, 0.9, 0.1, 1.3])
    expected, ends = 0.0, np.append(choices.starts[1:], len(choices.values))
    for start, end, weight in zip(choices.starts, ends, choices.weight, strict=True):
        utility = choices.values[start:end] @ theta
        log_share = utility - np.log(np.exp(utility).sum())
        expected -= weight * log_share[choices.is_answer[start:end]].mean()
    assert choices.loss(theta)[0] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_known_weights_are_recovered_within_their_intervals(seed):
    true = np.array([0.8, 1.2, 0.4, 0.0])
    theta, half = fit(simulated(3_000, true, seed), ["two", "one"])
    weights = theta / theta[0]
    assert (theta >= 0).all()
    assert (np.abs(weights - true / 0.8)[1:] < 1.6 * half[1:]).all()  # 1.6 * 1.96 standard errors
    assert half[0] == 0
    assert (half[1:] < 0.2).all()


def test_the_intervals_have_the_spread_of_repeated_fits():
    fits = [fit(simulated(300, (0.8, 1.2, 0.4, 0.6), seed), ["two", "one"]) for seed in range(60)]
    weights = np.array([theta / theta[0] for theta, _ in fits])
    np.testing.assert_allclose(
        1.96 * weights.std(axis=0)[1:], np.mean([half for _, half in fits], axis=0)[1:], rtol=0.4
    )


def test_few_users_keep_the_defaults():
    default = np.array([1.0, 0.5, 2.0, 1.0])
    apart = []
    for queries in (1, 10, 2_000):
        theta, _ = fit(simulated(queries, (0.8, 1.2, 0.0, 0.0)), ["two", "one"])
        apart.append(np.abs(theta / theta[0] / default - 1).max())
    assert apart[0] < 0.7 < apart[1] < apart[2]


def test_terms_that_are_not_kept_and_features_without_values_are_not_fitted():
    choices = simulated(500, (0.8, 1.2, 0.4, 0.6))
    theta, half = fit(choices, ["one"])
    assert theta[1:3].tolist() == half[1:3].tolist() == [0, 0]
    choices = replace(choices, values=choices.values * [1, 1, 0, 1])
    theta, half = fit(choices, ["two", "one"])
    assert theta[2] / theta[0] == pytest.approx(2.0)
    assert half[2] == 0 < half[1]


def walkers(users):
    """Users who interact with 1, 2, 3, ... of 40 items, and an untrained model of these items."""
    walks = histories_of(*([(day, 1 + (start + day) % 40) for day in range(6)] for start in range(users)))
    return walks, stored_model().model, CandidateItems.of(np.r_[0, np.ones(40, dtype=np.int64)], 1)


def after_walks(walks, steps):
    rows = np.arange(len(walks))
    return EvaluationSet(walks, 0 * rows, rows, 1 + (rows + 5 + steps) % 40)


class Noise(Cooccurrence):
    """Evidence for items that have nothing to do with the next one."""

    name = "noise"
    features: ClassVar[Mapping[str, float]] = {"random": 3.0}

    def entries(self, histories, candidate_items):
        rows = np.repeat(np.arange(len(histories)), 20)
        chosen = [np.random.default_rng(len(user.as_py()) + user.as_py()[-1:].encode()[0]) for user in histories.users]
        columns = np.concatenate([np.sort(random.permutation(len(candidate_items))[:20]) for random in chosen])
        return Evidence(rows, columns, np.ones((len(rows), 1), dtype=np.float32))


@pytest.mark.parametrize("users", [40, 240])
def test_a_term_is_kept_if_it_helps_and_dropped_if_it_misleads(users):
    """In the table the next item always follows an item, or never does."""
    walks, model, candidate_items = walkers(users)
    counted = Cooccurrence.count(walks, 41)
    terms, weighed = weigh(model, [counted], after_walks(walks, 1), candidate_items, enough=1, exclude_seen=True)
    assert [term.term for term in terms] == [counted]
    record = weighed["cooccurrence"]
    assert terms[0].weights == record["weights"]
    assert record["users"] == users
    assert record["ndcg@10"] > record["ndcg@10 without"]
    assert set(record["intervals"]) == {"new"}  # seen items are excluded, so their feature has no values
    terms, weighed = weigh(model, [counted], after_walks(walks, 20), candidate_items, enough=1, exclude_seen=True)
    record = weighed["cooccurrence"]
    assert (terms, record["weights"], record["intervals"]) == ([], None, {})
    assert record["ndcg@10"] <= record["ndcg@10 without"]
    assert model.counted_terms == []


class Twin(Cooccurrence):
    """The same evidence under another name."""

    name = "twin"


def test_of_two_terms_that_say_the_same_one_stays():
    walks, model, candidate_items = walkers(240)
    table = Cooccurrence.count(walks, 41).table
    expected = after_walks(walks, 1)  # with a chance of one half
    others = np.random.default_rng(0).integers(1, 41, 240)
    mixed = replace(expected, items=np.where(np.arange(240) % 2, others, expected.items))
    terms, _ = weigh(model, [Cooccurrence(table), Twin(table)], mixed, candidate_items, enough=1, exclude_seen=True)
    assert len(terms) == 1


def test_the_test_needs_a_gain_for_each_feature_and_enough_users(monkeypatch):
    """A term of two features needs 3.0 in log-likelihood, one of a single feature 1.92."""
    both, one = np.array([True, True]), np.array([True, False])
    assert term_weights._least_gain(both) == pytest.approx(2.996, abs=1e-3)
    assert term_weights._least_gain(one) == pytest.approx(1.921, abs=1e-3)
    walks, model, candidate_items = walkers(5)
    counted = [Cooccurrence.count(walks, 41)]
    monkeypatch.setattr(term_weights, "_least_gain", lambda _: 1e9)
    kept = [
        bool(weigh(model, counted, after_walks(walks, 1), candidate_items, enough=enough, exclude_seen=True)[0])
        for enough in (5, 6)
    ]
    assert kept == [False, True]


def test_a_likelier_term_that_lowers_ndcg_is_dropped(monkeypatch):
    walks, model, candidate_items = walkers(240)
    counted = [Cooccurrence.count(walks, 41)]
    monkeypatch.setattr(Choices, "ndcg", lambda self, theta: 0.2 if theta[1:].any() else 0.3)
    terms, weighed = weigh(model, counted, after_walks(walks, 1), candidate_items, enough=1, exclude_seen=True)
    assert terms == []
    assert (weighed["cooccurrence"]["ndcg@10"], weighed["cooccurrence"]["ndcg@10 without"]) == (0.2, 0.3)


def test_each_user_counts_once_in_the_fit():
    walks, model, candidate_items = walkers(4)
    rows = np.array([0, 1, 2, 3])
    evaluation_set = EvaluationSet(walks, 0 * rows, rows, 1 + (rows + 6) % 40, np.array([0, 1, 1, 1]))
    choices = term_weights._choices(model, [Cooccurrence.count(walks, 41)], evaluation_set, candidate_items, True)
    assert choices.weight == pytest.approx([1, 1 / 3, 1 / 3, 1 / 3])
    assert choices.users == 2


def test_a_useless_term_beside_a_good_one_is_dropped():
    walks, model, candidate_items = walkers(240)
    good, noise = Cooccurrence.count(walks, 41), Noise(Cooccurrence.count(walks, 41).table)
    terms, weighed = weigh(model, [noise, good], after_walks(walks, 1), candidate_items, enough=1, exclude_seen=True)
    assert [term.term.name for term in terms] == ["cooccurrence"]
    assert weighed["noise"]["weights"] is None
    alone, expected = weigh(model, [good], after_walks(walks, 1), candidate_items, enough=1, exclude_seen=True)
    assert alone[0].weights == terms[0].weights
    assert weighed["cooccurrence"] == expected["cooccurrence"]


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("per_user", [1, 3])
def test_the_recorded_ndcg_is_that_of_the_ranking(exclude_seen, per_user):
    """Three answers a query, some of which are no candidate items, and several queries a user."""
    histories, random = random_histories(users=90, items=40), np.random.default_rng(0)
    model, mask = stored_model().model, np.r_[0, np.ones(40, dtype=np.int64)]
    mask[[5, 6]] = 0
    candidate_items = CandidateItems.of(mask, 1)
    rows = np.repeat(np.arange(90), 3)
    items = np.concatenate([random.permutation(40)[:3] + 1 for _ in range(90)])
    evaluation_set = EvaluationSet(histories, np.zeros(90, np.int64), rows, items, np.arange(90) // per_user)

    def ndcg(terms):
        model.counted_terms = terms
        ranked, _ = rank_all(model, histories, candidate_items, k=10, enough=1, exclude_seen=exclude_seen)
        found = metrics_by_query(ranked, rows, items, cutoffs=(10,))["ndcg@10"]
        return evaluation_set.by_user(found).mean()

    counted = [
        Cooccurrence.count(random_histories(users=90, items=40), 41),
        Noise(Cooccurrence.count(histories, 41).table),
    ]
    terms, weighed = weigh(model, counted, evaluation_set, candidate_items, enough=1, exclude_seen=exclude_seen)
    for term in terms:
        record = weighed[term.term.name]
        assert record["ndcg@10"] == pytest.approx(ndcg(terms), abs=2e-6)
        others = [other for other in terms if other is not term]
        assert record["ndcg@10 without"] == pytest.approx(ndcg(others), abs=2e-6)
    again = weigh(model, counted, evaluation_set, candidate_items, enough=1, exclude_seen=exclude_seen)[1]
    assert again == weighed


def test_the_shortlist_has_the_best_of_each_part(monkeypatch):
    monkeypatch.setattr(term_weights, "_SHORTLIST", 3)
    walks, model, candidate_items = walkers(60)
    counted = Cooccurrence.count(walks, 41)
    choices = term_weights._choices(model, [counted], after_walks(walks, 1), candidate_items, True)
    lengths = np.diff(choices.starts, append=len(choices.values))
    assert 3 <= lengths.min() <= lengths.max() <= 9
    ranked, _ = rank_all(model, walks, candidate_items, k=3, exclude_seen=True)
    entries = counted.entries(walks, candidate_items)
    best = {row: entries.features[entries.rows == row, 0].max() for row in range(60)}
    assert {round(float(value), 4) for value in choices.values[:, 1]} >= {
        round(float(best[row]), 4) for row in range(len(choices.starts))
    }
    assert len(choices.starts) == 60
    assert choices.is_answer.sum() == 60
    assert ranked.shape == (60, 3)


def test_without_answers_near_the_top_the_terms_keep_their_defaults():
    """None of three users gets a hit with or without the term, which is no evidence against it."""
    walks, model, candidate_items = walkers(40)
    counted = Cooccurrence.count(walks, 41)
    missed = replace(after_walks(walks.select(np.arange(3)), 20), items=walks.items[walks.offsets[:3]])
    terms, weighed = weigh(model, [counted], missed, candidate_items, enough=1, exclude_seen=True)
    assert terms[0].weights == weighed["cooccurrence"]["weights"] == dict(Cooccurrence.features)
    assert weighed["cooccurrence"]["ndcg@10"] == weighed["cooccurrence"]["ndcg@10 without"] == 0


def test_without_validation_users_the_terms_keep_their_defaults():
    walks, model, candidate_items = walkers(40)
    counted = Cooccurrence.count(walks, 41)
    empty = after_walks(walks.select(np.zeros(0, dtype=np.int64)), 1)
    terms, weighed = weigh(model, [counted], empty, candidate_items, enough=1, exclude_seen=True)
    assert [term.term for term in terms] == [counted]
    assert weighed == {
        "cooccurrence": {
            "weights": dict(Cooccurrence.features),
            "intervals": {},
            "ndcg@10": None,
            "ndcg@10 without": None,
            "users": 0,
        }
    }
    assert weigh(model, [], after_walks(walks, 1), candidate_items, enough=1, exclude_seen=True) == ([], {})


def test_a_single_candidate_item():
    walks, model, _ = walkers(40)
    candidate_items = CandidateItems.of(np.r_[np.zeros(7, np.int64), 1, np.zeros(33, np.int64)], 1)
    counted = Cooccurrence.count(walks, 41)
    terms, weighed = weigh(model, [counted], after_walks(walks, 1), candidate_items, enough=1, exclude_seen=True)
    assert (terms, weighed["cooccurrence"]["weights"]) == ([], None)  # one item is no choice
    assert weighed["cooccurrence"]["ndcg@10"] == weighed["cooccurrence"]["ndcg@10 without"] == pytest.approx(1 / 40)
