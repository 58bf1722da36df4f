"""Floors: simple recommenders that a trained model must beat.

popularity    the items with most training events
most bought   the user's most frequent items, followed by popular ones
most recent   the user's last items, followed by popular ones
item-kNN      items of the same users (cosine of co-occurrence); neighbours and shrinkage are chosen on validation

item-kNN is implemented in a few lines over scipy.sparse, so that each step can be checked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bench.protocols import MASKED, Exam, Experiment, measure
from hmamba.evaluation.baselines import most_bought, popular
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.progress import track
from hmamba.sequences.histories import Histories, IntArray

NEIGHBOURS = (10, 20, 50, 100, 200)
SHRINKAGE = (0.0, 10.0, 50.0)

_ROWS = 256
_TUNING_USERS = 5_000  # sample that the settings of item-kNN are chosen on


def popularity(experiment: Experiment, exam: Exam) -> IntArray:
    """The items (U, depth) with most training events, the same for all users."""
    counts, past = experiment.train.item_events(experiment.size), exam.evaluation_set.past
    ranked = popular(past.select(np.zeros(1, dtype=np.int64)), counts, exam.depth, exclude_seen=False)
    return np.repeat(ranked, len(past), axis=0)


def _known(experiment: Experiment, past: Histories) -> IntArray:
    """Training events of each item; 1 for items that occur in the users' pasts only, because users may repeat them."""
    own = past.item_events(experiment.size) > 0
    return np.maximum(experiment.train.item_events(experiment.size), own)


def bought_most(experiment: Experiment, exam: Exam) -> IntArray:
    """The most frequent items (U, depth) of each user, followed by popular ones."""
    past = exam.evaluation_set.past
    return most_bought(past, _known(experiment, past), exam.depth)


def most_recent(experiment: Experiment, exam: Exam) -> IntArray:
    """The last items (U, depth) of each user, at equal times the more frequent first, followed by popular ones."""
    past, depth, size = exam.evaluation_set.past, exam.depth, experiment.size
    counts = _known(experiment, past)
    keys, inverse, often = np.unique(past.owner * size + past.items, return_inverse=True, return_counts=True)
    last = np.zeros(len(keys), dtype=np.int64)
    np.maximum.at(last, inverse, past.times)
    owner, items = keys // size, keys % size
    order = np.lexsort((items, -counts[items], -often, -last, owner))
    own = np.split(items[order], np.cumsum(np.bincount(owner, minlength=len(past)))[:-1])
    common = np.lexsort((np.arange(size), -counts))[: int((counts > 0).sum())]
    ranked = np.full((len(past), depth), -1, dtype=np.int64)
    for row, own_items in enumerate(own):
        # At most len(own_items) of these popular items are the user's own, so depth of them remain.
        rest = common[: depth + len(own_items)]
        listed = np.concatenate([own_items, rest[~np.isin(rest, own_items)]])[:depth]
        ranked[row, : len(listed)] = listed
    return ranked


@dataclass(frozen=True)
class Neighbours:
    """The most similar other items of each item, best first; index 0 is padding.

    Attributes:
        items: (size, K) item indices of the neighbours.
        similarity: (size, K) similarities; 0 if an item has fewer neighbours.
    """

    items: IntArray
    similarity: npt.NDArray[np.float32]

    def matrix(self, k: int) -> sparse.csr_array:
        """Similarities (size, size) of each row's first ``k`` neighbours."""
        size = len(self.items)
        k = min(k, self.items.shape[1])
        values, columns = self.similarity[:, :k].ravel(), self.items[:, :k].ravel()
        matrix = sparse.csr_array((values, columns, np.arange(size + 1) * k), shape=(size, size))
        matrix.eliminate_zeros()
        return matrix


def _users_items(histories: Histories, size: int) -> sparse.csr_array:
    """Matrix (U, size): 1 if the user has interacted with the item."""
    pairs = np.unique(histories.owner * size + histories.items)
    ones = np.ones(len(pairs), dtype=np.float32)
    return sparse.csr_array((ones, (pairs // size, pairs % size)), shape=(len(histories), size))


def neighbours(train: Histories, size: int, *, most: int, shrinkage: float) -> Neighbours:
    """Cosine of co-occurrence: |users of i and j| / (sqrt(|users of i| |users of j|) + shrinkage)."""
    repeats = _users_items(train, size)
    users = np.sqrt(np.asarray(repeats.sum(axis=0)))
    by_item = repeats.T.tocsr()
    k = min(most, size - 1)
    items, similarity = np.zeros((size, k), dtype=np.int64), np.zeros((size, k), dtype=np.float32)
    blocks = range(0, size, _ROWS)
    for start in track(blocks, f"item-kNN: shrinkage {shrinkage:g}", len(blocks), "blocks of items"):
        rows = np.arange(start, min(start + _ROWS, size))
        common = (by_item[rows] @ repeats).toarray()
        cosine = common / np.maximum(users[rows, None] * users + shrinkage, 1e-12)
        cosine[np.arange(len(rows)), rows] = 0.0
        best = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        value = np.take_along_axis(cosine, best, 1)
        order = np.lexsort((best, -value), axis=1)
        items[rows], similarity[rows] = np.take_along_axis(best, order, 1), np.take_along_axis(value, order, 1)
    return Neighbours(items, similarity)


def rank_by_neighbours(experiment: Experiment, exam: Exam, matrix: sparse.csr_array) -> IntArray:
    """Items (U, depth) by the sum of their similarities to the user's items; ties by popularity."""
    counts = experiment.train.item_events(experiment.size)
    eligible = experiment.candidate_items.eligible
    general = 1e-6 * counts[eligible] / (counts.max() + 1.0)
    repeats = _users_items(exam.evaluation_set.past, experiment.size)
    depth = min(exam.depth, len(eligible))
    ranked = np.full((repeats.shape[0], exam.depth), -1, dtype=np.int64)
    columns = matrix[:, eligible].tocsr()
    blocks = range(0, repeats.shape[0], _ROWS)
    for start in track(blocks, "item-kNN: rank", len(blocks), "blocks of users"):
        scores = (repeats[start : start + _ROWS] @ columns).toarray() + general
        top = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        order = np.lexsort((top, -np.take_along_axis(scores, top, 1)), axis=1)
        ranked[start : start + len(scores), :depth] = eligible[np.take_along_axis(top, order, 1)]
    return ranked


def _sample(exam: Exam, most: int) -> Exam:
    """The same exam for a fixed random sample of at most ``most`` users; each user has one relevant item."""
    users = len(exam.evaluation_set.past)
    if users <= most:
        return exam
    rows = np.sort(np.random.default_rng(0).choice(users, most, replace=False))
    evaluation_set, all_rows = exam.evaluation_set, np.arange(most)
    inside = np.isin(evaluation_set.rows, rows)
    small = EvaluationSet(
        evaluation_set.past.select(rows),
        evaluation_set.as_of[rows],
        np.searchsorted(rows, evaluation_set.rows[inside]),
        evaluation_set.items[inside],
    )
    return replace(exam, evaluation_set=small, seen=exam.seen.select(rows), groups={"sample": all_rows})


def tuned_neighbours(experiment: Experiment) -> tuple[sparse.csr_array, dict[str, Any]]:
    """The similarity matrix with the best validation NDCG@10 (masked), and its settings."""
    exam = replace(_sample(experiment.stop, _TUNING_USERS), views=(MASKED,))
    group = next(iter(exam.groups))
    best: tuple[float, sparse.csr_array, dict[str, Any]] | None = None
    for shrinkage in SHRINKAGE:
        found = neighbours(experiment.train, experiment.size, most=max(NEIGHBOURS), shrinkage=shrinkage)
        for k, matrix in ((k, found.matrix(k)) for k in NEIGHBOURS):
            ranked = rank_by_neighbours(experiment, exam, matrix)
            value = measure(ranked, exam, len(experiment.candidate_items))[group][MASKED]["ndcg@10"]
            if best is None or value > best[0]:
                best = value, matrix, {"neighbours": k, "shrinkage": shrinkage}
    assert best is not None
    return best[1], best[2]
