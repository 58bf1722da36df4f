"""The log-likelihood against a plain softmax over the candidate items, one query at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.likelihood import mean_log_likelihood
from hmamba.terms.repeats import RepeatFeatures
from tests.histories import histories_of, random_histories, randomly_valued
from tests.stored import ITEMS, stored_model


def queries(histories, *, exclude_seen):
    return EvaluationSet.of(histories, histories.offsets[:-1], histories.offsets[1:], exclude_seen=exclude_seen)


@torch.inference_mode()
def by_hand(stored, evaluation_set, *, exclude_seen):
    model, candidate_items, past = stored.model, stored.candidate_items, evaluation_set.past
    eligible = torch.from_numpy(candidate_items.eligible)
    found = []
    for row in range(len(evaluation_set)):
        own = slice(past.offsets[row], past.offsets[row + 1])
        items, weights, seen = past.items[own], past.weights[own], past.seen[own]
        hidden = model.encode(torch.from_numpy(items[weights > 0])[None])[0, -1:]
        logits = model.score().logits(model.query_vectors(hidden) @ model.item_vectors(eligible).T)[0].double()
        rates = torch.exp(logits)
        if model.learned_term is not None:
            alone = past.select(np.array([row])).read
            repeats = RepeatFeatures.before(alone, candidate_items, np.array([0]), alone.offsets[1:], asked=alone.asked)
            rates[torch.from_numpy(repeats.columns)] += torch.exp(
                model.learned_term.log_rates(hidden, repeats)
            ).double()
        if exclude_seen:
            columns = candidate_items.column[items[seen]]
            rates[columns[columns >= 0]] = 0
        for item in evaluation_set.items[evaluation_set.rows == row]:
            if item < len(candidate_items.column) and candidate_items.column[item] >= 0:
                found.append(float(torch.log(rates[candidate_items.column[item]] / rates.sum())))
    return np.mean(found)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("kind", [{}, {"score_terms": ("repeats",)}, {"score": "linear"}])
def test_it_is_the_mean_log_probability_of_the_relevant_items(kind, exclude_seen):
    """More queries than a block holds, and relevant items that are not candidate items."""
    stored = stored_model(eligible=range(1, ITEMS, 2), **kind)
    histories = randomly_valued(random_histories(users=120, items=ITEMS, events=12))
    evaluation_set = queries(histories, exclude_seen=exclude_seen)
    assert len(evaluation_set) > 256
    found = mean_log_likelihood(stored.model, evaluation_set, stored.candidate_items, exclude_seen=exclude_seen)
    assert found == pytest.approx(by_hand(stored, evaluation_set, exclude_seen=exclude_seen), rel=1e-4)


def test_items_newer_than_the_model_are_ignored():
    stored = stored_model()
    evaluation_set = queries(histories_of([(0, 1), (1, 2), (1, ITEMS + 7)]), exclude_seen=False)
    only = replace(evaluation_set, rows=evaluation_set.rows[:1], items=evaluation_set.items[:1])
    found = [
        mean_log_likelihood(stored.model, part, stored.candidate_items, exclude_seen=False)
        for part in (evaluation_set, only)
    ]
    assert found[0] == found[1] < 0


def test_without_relevant_candidate_items_there_is_no_likelihood():
    stored = stored_model(eligible=[1])
    evaluation_set = queries(histories_of([(0, 1), (1, 2)]), exclude_seen=False)
    assert mean_log_likelihood(stored.model, evaluation_set, stored.candidate_items, exclude_seen=False) is None
