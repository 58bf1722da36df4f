"""Fit the weights of the counted score terms on the validation days.

The fit is a conditional logit (McFadden, 1974): each answer is a choice among the items at the top of the list, with
the utility theta_0 * base score + theta @ features. It is convex, and a few thousand users are enough for a few
numbers. The weights are not trained with the model, because the model would then learn only the residual of the terms
and generalise worse (docs/model.md).

Only the top of the list is published, so the alternatives of a query are the items that some part of the score or the
default weights rank among their best. A normal prior with the default weights as means and standard deviations keeps
them where few users were seen.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.metrics import best_gain
from hmamba.evaluation.ranking import ScoreBlock, score_blocks
from hmamba.model.hmamba import HMamba
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import IntArray, owners, run_starts
from hmamba.sequences.sets import contained, distinct
from hmamba.terms.base import CountedTerm, WeightedTerm

log = logging.getLogger("hmamba")

RealArray = npt.NDArray[np.float64]

_SHORTLIST = 20  # best items by each part of the score; NDCG@10 was no better with 100 on Beauty and Toys
_BASE_PRIOR = 0.5  # a trained model is more certain than it is right on new events
_LEAST_BASE = 0.05  # smallest weight of the base score
_DISCOUNT_DEPTH = 10
_SIGNIFICANCE = 0.95  # of the likelihood-ratio test by which a term is kept


@dataclass(frozen=True)
class Choices:
    """What the fit reads: N items of Q queries, sorted by query.

    Attributes:
        starts: (Q,) first item of each query; each has an answer.
        values: (N, 1 + F) base score and features.
        is_answer: (N,) whether the user went on to take the item.
        weight: (Q,) weight of each query, so that each user counts once.
        ideal: (Q,) DCG@10 of the best ranking of the query's answers.
        users: number of evaluated users.
    """

    starts: IntArray
    values: RealArray
    is_answer: npt.NDArray[np.bool_]
    weight: RealArray
    ideal: RealArray
    users: int

    def loss(self, theta: RealArray) -> tuple[float, RealArray]:
        """Minus the log-likelihood of the answers, and its gradient (1 + F,)."""
        log_share, of_answer = self._log_shares(theta), self._of_answer
        residual = of_answer * (self._spread(self._answers) * np.exp(log_share) - self.is_answer)
        return -float(of_answer[self.is_answer] @ log_share[self.is_answer]), residual @ self.values

    def information(self, theta: RealArray) -> RealArray:
        """Second derivatives (1 + F, 1 + F) of the loss."""
        share = np.exp(self._log_shares(theta))
        mean = np.add.reduceat(share[:, None] * self.values, self.starts)
        apart = self.values - self._spread(mean)
        found: RealArray = (self._of_answer * self._spread(self._answers) * share * apart.T) @ apart
        return found

    def ndcg(self, theta: RealArray) -> float:
        """NDCG@10 of the ranking by theta, each user once."""
        utility = self.values @ theta
        order = np.lexsort((-utility, self._spread(np.arange(len(self.starts)))))
        place = np.arange(len(order)) - self._spread(self.starts)
        gain = np.where(self.is_answer[order] & (place < _DISCOUNT_DEPTH), 1 / np.log2(place + 2), 0)
        return float(self.weight @ (np.add.reduceat(gain, self.starts) / self.ideal) / self.users)

    def _spread(self, of_query: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Values of queries (Q, ...) at each of their items (N, ...)."""
        return np.repeat(of_query, np.diff(self.starts, append=len(self.values)), axis=0)

    @cached_property
    def has_values(self) -> npt.NDArray[np.bool_]:
        """(1 + F,) whether the base score (always) and each feature have values other than 0."""
        return np.append(True, self.values[:, 1:].any(axis=0))

    @cached_property
    def _answers(self) -> RealArray:
        """(Q,) number of answers among each query's items."""
        return np.add.reduceat(self.is_answer.astype(np.float64), self.starts)

    @cached_property
    def _of_answer(self) -> RealArray:
        """(N,) weight of each answer of the item's query; a query's answers share its weight."""
        return self._spread(self.weight / self._answers)

    def _log_shares(self, theta: RealArray) -> RealArray:
        """(N,) log-probability of each item among its query's items."""
        utility = self.values @ theta
        utility -= self._spread(np.maximum.reduceat(utility, self.starts))
        found: RealArray = utility - self._spread(np.log(np.add.reduceat(np.exp(utility), self.starts)))
        return found


def weigh(
    model: HMamba,
    counted: Sequence[CountedTerm],
    evaluation_set: EvaluationSet,
    candidate_items: CandidateItems,
    *,
    enough: int,
    exclude_seen: bool,
) -> tuple[list[WeightedTerm], dict[str, dict[str, Any]]]:
    """Weight the features of all terms together, and drop terms that do not help.

    A term is dropped if NDCG@10 is larger without it, the others fitted again; with enough users also if the answers
    are not significantly more likely with it (likelihood-ratio test), because counting and searching a term costs time
    each night. The test is strict: weights have a lower bound, and the answers of one user count as one.

    Args:
        model: the trained model; its counted terms are removed.
        counted: the terms, counted from the training events only.
        evaluation_set: validation users and items. The terms get their default weights if it is empty, or no answer is
            near the top of any part of the score.
        candidate_items: the candidate items.
        enough: smallest number of users for the test. With fewer, the default weights are the better evidence.
        exclude_seen: whether items that the user has seen are excluded.

    Returns:
        The terms that help, and a record of each: weights (None if it is dropped); the half widths of their 95 %
        intervals, of features with values; ndcg@10 with the term and without it, beside all terms that are kept (of a
        dropped term, beside those that were kept until then; None if the set is empty); and the number of users.
    """
    users = evaluation_set.judged
    model.counted_terms = []
    if not counted:
        return [], {}
    choices = _choices(model, counted, evaluation_set, candidate_items, exclude_seen) if users else None
    if choices is None:
        ndcg = 0.0 if users else None
        nothing: dict[str, Any] = {"intervals": {}, "ndcg@10": ndcg, "ndcg@10 without": ndcg, "users": users}
        defaults = [WeightedTerm(term, dict(term.features)) for term in counted]
        return defaults, {each.term.name: {"weights": dict(each.weights), **nothing} for each in defaults}
    spans = _spans(counted)
    kept = [term.name for term in counted]
    judged: dict[str, tuple[float, float]] = {}
    theta = _fit(choices, counted, kept)
    while kept:
        with_all, loss = choices.ndcg(theta), choices.loss(theta)[0]
        without = {name: _fit(choices, counted, [other for other in kept if other != name]) for name in kept}
        judged |= {name: (with_all, choices.ndcg(fitted)) for name, fitted in without.items()}
        gains = {
            name: choices.loss(fitted)[0] - loss - _least_gain(choices.has_values[spans[name]])
            for name, fitted in without.items()
        }
        weak = {name for name in kept if gains[name] < 0} if users >= enough else set()
        useless = [name for name in kept if name in weak or judged[name][1] > with_all]
        if not useless:
            break
        dropped = min(useless, key=gains.__getitem__)
        kept.remove(dropped)
        theta = without[dropped]
    half_widths = _half_widths(choices, counted, kept, theta)
    found, records = [], {}
    for term in counted:
        span, weights = spans[term.name], None
        if term.name in kept:
            weights = _named(term, theta[span] / theta[0])
            found.append(WeightedTerm(term, weights))
        with_it, without_it = judged[term.name]
        records[term.name] = {
            "weights": weights,
            "intervals": {
                name: width for name, width in _named(term, half_widths[span]).items() if weights and width > 0
            },
            "ndcg@10": round(with_it, 6),
            "ndcg@10 without": round(without_it, 6),
            "users": users,
        }
        shown = "dropped" if weights is None else "with " + ", ".join(f"{k} {v:.3g}" for k, v in weights.items())
        log.info(
            "train: score term %s %s: ndcg@10 %.4f, without it %.4f, %d users",
            term.name, shown, with_it, without_it, users,
        )  # fmt: skip
    return found, records


def _named(term: CountedTerm, values: RealArray) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in zip(term.features, values, strict=True)}


def _spans(counted: Sequence[CountedTerm]) -> dict[str, slice]:
    """Place of each term's features in theta."""
    ends = np.cumsum([1, *(len(term.features) for term in counted)]).tolist()
    return {term.name: slice(start, end) for term, start, end in zip(counted, ends[:-1], ends[1:], strict=True)}


def _defaults(counted: Sequence[CountedTerm]) -> RealArray:
    """The weights (1 + F,) without validation events; 1 for the base score."""
    return np.array([1.0, *(weight for term in counted for weight in term.features.values())])


def _is_kept(counted: Sequence[CountedTerm], kept: Sequence[str]) -> npt.NDArray[np.bool_]:
    """(1 + F,) whether a weight is that of the base score or of a kept term."""
    return np.concatenate([[True], *(np.repeat(term.name in kept, len(term.features)) for term in counted)])


def _least_gain(has_values: npt.NDArray[np.bool_]) -> float:
    """Smallest gain in log-likelihood that is significant, for a term whose features have values or not."""
    from scipy.stats import chi2

    return float(chi2.ppf(_SIGNIFICANCE, max(int(has_values.sum()), 1))) / 2


def _fit(choices: Choices, counted: Sequence[CountedTerm], kept: Sequence[str]) -> RealArray:
    """Theta (1 + F,) that minimises the loss with the prior; the weights are theta / theta_0.

    It is 0 for features of terms that are not kept. A feature of the others without values gets its default weight.
    """
    from scipy.optimize import minimize

    default, is_kept = _defaults(counted), _is_kept(counted, kept)
    free, idle = (np.flatnonzero(is_kept & part) for part in (choices.has_values, ~choices.has_values))
    prior = default[free] * _BASE_PRIOR

    def objective(ratio: RealArray) -> tuple[float, RealArray]:
        """The loss at multiples of the prior means."""
        theta = np.zeros(len(default))
        theta[free] = ratio * prior
        loss, gradient = choices.loss(theta)
        return loss + 0.5 * float((ratio - 1) @ (ratio - 1)), gradient[free] * prior + ratio - 1

    bounds = [(_LEAST_BASE / prior[0], None), *[(0.0, None)] * (len(free) - 1)]
    ratio = minimize(objective, np.ones(len(free)), jac=True, bounds=bounds, method="L-BFGS-B").x
    theta = np.zeros(len(default))
    theta[free] = ratio * prior
    theta[idle] = default[idle] * theta[0]
    return theta


def _half_widths(choices: Choices, counted: Sequence[CountedTerm], kept: Sequence[str], theta: RealArray) -> RealArray:
    """Half widths (1 + F,) of 95 % intervals of the weights of :func:`_fit`, by the delta method.

    They are 0 for theta_0, for features of terms that are not kept, and for features without values.
    """
    prior = _defaults(counted) * _BASE_PRIOR
    free = np.flatnonzero(_is_kept(counted, kept) & choices.has_values)
    covariance = np.linalg.inv(choices.information(theta)[np.ix_(free, free)] + np.diag(prior[free] ** -2))
    # The derivatives of theta / theta_0 in theta.
    slope = np.eye(len(free)) / theta[0]
    slope[:, 0] -= theta[free] / theta[0] ** 2
    half = np.zeros(len(theta))
    half[free] = 1.96 * np.sqrt(np.einsum("ij,jk,ik->i", slope, covariance, slope))
    half[0] = 0
    return half


@torch.inference_mode()
def _choices(
    model: HMamba,
    counted: Sequence[CountedTerm],
    evaluation_set: EvaluationSet,
    candidate_items: CandidateItems,
    exclude_seen: bool,
) -> Choices | None:
    """The alternatives and answers of all queries with an answer among the alternatives; None without any."""
    width, parts = len(candidate_items), []
    column = candidate_items.column[evaluation_set.items]
    answers = np.sort((evaluation_set.rows * width + column)[column >= 0])
    for block in score_blocks(model, evaluation_set.past, candidate_items):
        key, values = _alternatives(block, counted, candidate_items, exclude_seen)
        is_answer = contained(key, answers)
        kept = contained(key // width, distinct(key[is_answer] // width))
        parts.append((key[kept], values[kept], is_answer[kept]))
    key, values, is_answer = (np.concatenate(part) for part in zip(*parts, strict=True))
    if not len(key):
        return None
    query = key // width
    starts = run_starts(query)
    ideal = best_gain(np.bincount(evaluation_set.rows)[query[starts]], _DISCOUNT_DEPTH)
    weight = 1 / np.bincount(evaluation_set.users)[evaluation_set.users]
    return Choices(starts, values, is_answer, weight[query[starts]], ideal, evaluation_set.judged)


def _alternatives(
    block: ScoreBlock, counted: Sequence[CountedTerm], candidate_items: CandidateItems, exclude_seen: bool
) -> tuple[IntArray, RealArray]:
    """The best items of each query of a block by each part of the score: (query, column) as one number, and values.

    Only the items that the base score ranks high, and those with evidence, can be among them: all parts but the base
    score are 0 for the others. So memory grows with the evidence, and not with the candidate items.
    """
    width, logits = len(candidate_items), block.logits
    if exclude_seen:
        logits[block.seen] = -torch.inf
    top = torch.topk(logits, min(_SHORTLIST, width), dim=1).indices.cpu().numpy()
    by_base = (owners(np.full(len(top), top.shape[1])), top.ravel())
    evidence = [term.entries(block.past, candidate_items) for term in counted]
    every = [by_base, *((entries.rows, entries.columns) for entries in evidence)]
    key = distinct(np.concatenate([rows * width + columns for rows, columns in every]))
    base = logits[torch.from_numpy(key // width).to(logits.device), torch.from_numpy(key % width).to(logits.device)]
    values = np.zeros((len(key), 1 + sum(len(term.features) for term in counted)))
    values[:, 0] = base.double().cpu().numpy()
    for entries, span in zip(evidence, _spans(counted).values(), strict=True):
        values[np.searchsorted(key, entries.rows * width + entries.columns), span] = entries.features
    is_open = np.isfinite(values[:, 0])
    key, values = key[is_open], values[is_open]
    starts = np.searchsorted(key, np.arange(len(top) + 1) * width)
    listed = _best(values[:, 0], starts) | _best(values @ _defaults(counted), starts)
    for feature in values.T[1:]:
        listed |= _best(np.where(feature > 0, feature, -np.inf), starts)
    key = key[listed]
    return block.users[key // width] * width + key % width, values[listed]


def _best(scores: RealArray, offsets: IntArray) -> npt.NDArray[np.bool_]:
    """Whether each score is among the largest of its row; of equal ones the first, and -inf never is."""
    best = np.isfinite(scores)
    for start, end in pairwise(offsets.tolist()):
        if end - start > _SHORTLIST:
            best[start + np.argsort(-scores[start:end], kind="stable")[_SHORTLIST:]] = False
    return best
