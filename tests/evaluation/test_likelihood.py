"""The log-likelihood of answers against a softmax over the catalogue that is written out, one question at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hmamba.evaluation.likelihood import mean_log_likelihood
from hmamba.evaluation.question import Question
from hmamba.model.habit import Had
from tests.histories import histories_of, random_histories, randomly_valued
from tests.stored import ITEMS, stored_model


def asked(histories, *, exclude_seen):
    return Question.ask(histories, histories.offsets[:-1], histories.offsets[1:], exclude_seen=exclude_seen)


@torch.inference_mode()
def by_hand(stored, question, *, exclude_seen):
    model, catalogue, past = stored.model, stored.catalogue, question.past
    eligible = torch.from_numpy(catalogue.eligible)
    found = []
    for row in range(len(question)):
        own = slice(past.offsets[row], past.offsets[row + 1])
        items, weights, seen = past.items[own], past.weights[own], past.seen[own]
        hidden = model.encode(torch.from_numpy(items[weights > 0])[None])[0, -1:]
        logits = model.score().logits(model.query_vectors(hidden) @ model.item_vectors(eligible).T)[0].double()
        rates = torch.exp(logits)
        if exclude_seen:
            for item in items[seen]:
                rates[catalogue.column[item]] = 0 if catalogue.column[item] >= 0 else rates[catalogue.column[item]]
        elif model.habit is not None:
            alone = past.select(np.array([row])).read
            had = Had.before(alone, catalogue, np.array([0]), alone.offsets[1:])
            rates[torch.from_numpy(had.columns)] += torch.exp(model.habit_rates(hidden, had, eligible)).double()
        for item in question.items[question.rows == row]:
            if item < len(catalogue.column) and catalogue.column[item] >= 0:
                found.append(float(torch.log(rates[catalogue.column[item]] / rates.sum())))
    return np.mean(found)


@pytest.mark.parametrize("exclude_seen", [True, False])
@pytest.mark.parametrize("kind", [{}, {"repeat": True}, {"score": "linear"}])
def test_it_is_the_mean_log_probability_of_the_answers(kind, exclude_seen):
    """More questions than a block holds, and answers that do not compete."""
    stored = stored_model(eligible=range(1, ITEMS, 2), **kind)
    histories = randomly_valued(random_histories(users=120, items=ITEMS, events=12))
    question = asked(histories, exclude_seen=exclude_seen)
    assert len(question) > 256
    found = mean_log_likelihood(stored.model, question, stored.catalogue, exclude_seen=exclude_seen)
    assert found == pytest.approx(by_hand(stored, question, exclude_seen=exclude_seen), rel=1e-4)


def test_items_that_came_after_the_model_are_no_answers():
    stored = stored_model()
    question = asked(histories_of([(0, 1), (1, 2), (1, ITEMS + 7)]), exclude_seen=False)
    only = replace(question, rows=question.rows[:1], items=question.items[:1])
    found = [mean_log_likelihood(stored.model, part, stored.catalogue, exclude_seen=False) for part in (question, only)]
    assert found[0] == found[1] < 0


def test_nothing_competing_has_no_likelihood():
    stored = stored_model(eligible=[1])
    question = asked(histories_of([(0, 1), (1, 2)]), exclude_seen=False)
    assert mean_log_likelihood(stored.model, question, stored.catalogue, exclude_seen=False) is None
