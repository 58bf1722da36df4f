"""Floors: simple recommenders that a trained model must beat.

popularity    the items with most training events
most recent   the user's last items, followed by popular ones
most bought   the user's most frequent items, followed by popular ones
Markov        the items that followed the user's last item most often, followed by popular ones
item-kNN      items of the same users (cosine of co-occurrence); neighbours and shrinkage are chosen on validation
V-SKNN        items of similar users, recent items counting more; neighbours, sample and decay are chosen on validation

They are implemented in a few lines over NumPy and scipy.sparse, so that each step can be checked. All may rank items
that the user has interacted with; the view that is measured decides whether these count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from bench.protocols import Exam, Experiment, measure
from hmamba.evaluation.baselines import most_bought, popular
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.progress import track
from hmamba.sequences.histories import Histories, IntArray, offsets_of, run_starts

Settings = dict[str, Any]
Ranker = Callable[[Exam], IntArray]
"""Ranks ``exam.depth`` items (U, depth) for each query, best first; -1 where there is no further item."""

NEIGHBOURS = (10, 20, 50, 100, 200)
SHRINKAGE = (0.0, 10.0, 50.0)

SIMILAR_USERS = (10, 20, 50, 100, 200, 500)
SAMPLES = (500, 2_000, 10_000)
DECAYS: dict[str, Callable[[IntArray, IntArray], npt.NDArray[np.float64]]] = {
    "linear": lambda age, length: 1 - age / length,
    "quadratic": lambda age, length: (1 - age / length) ** 2,
    "reciprocal": lambda age, length: 1 / (age + 1),
}
"""Weight of an event by its age (0 for the last) and the length of the history; the last event has 1."""

_ROWS = 256
_TUNING_USERS = 5_000  # sample of validation that settings are chosen on


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
        # Copies: eliminate_zeros moves entries in place, and all of a row's neighbours would be a view of these arrays.
        values, columns = self.similarity[:, :k].flatten(), self.items[:, :k].flatten()
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


def _rank(experiment: Experiment, exam: Exam, scores: Callable[[IntArray], sparse.csr_array], name: str) -> IntArray:
    """Rank the candidate items (U, depth) by the scores (rows, V) of blocks of queries; ties by popularity."""
    counts = experiment.train.item_events(experiment.size)
    eligible, users = experiment.candidate_items.eligible, len(exam.evaluation_set.past)
    general = 1e-6 * counts[eligible] / (counts.max() + 1.0)
    depth = min(exam.depth, len(eligible))
    ranked = np.full((users, exam.depth), -1, dtype=np.int64)
    blocks = range(0, users, _ROWS)
    for start in track(blocks, f"{name}: rank", len(blocks), "blocks of users"):
        rows = np.arange(start, min(start + _ROWS, users))
        dense = scores(rows).toarray() + general
        top = np.argpartition(-dense, depth - 1, axis=1)[:, :depth]
        order = np.lexsort((top, -np.take_along_axis(dense, top, 1)), axis=1)
        ranked[rows, :depth] = eligible[np.take_along_axis(top, order, 1)]
    return ranked


def rank_by_neighbours(experiment: Experiment, exam: Exam, matrix: sparse.csr_array) -> IntArray:
    """Items (U, depth) by the sum of their similarities to the user's items; ties by popularity."""
    own = _users_items(exam.evaluation_set.past, experiment.size)
    columns = matrix[:, experiment.candidate_items.eligible].tocsr()
    return _rank(experiment, exam, lambda rows: own[rows] @ columns, "item-kNN")


def markov(experiment: Experiment, exam: Exam) -> IntArray:
    """Items (U, depth) by how often they followed the user's last item in the training events; ties by popularity.

    A first-order Markov chain; an item may follow itself, and the user's own items are ranked like others.
    """
    train, past, size = experiment.train, exam.evaluation_set.past, experiment.size
    follows = train.owner[1:] == train.owner[:-1]
    pairs = train.items[:-1][follows], train.items[1:][follows]
    counts = sparse.coo_array((np.ones(len(pairs[0])), pairs), shape=(size, size)).tocsr()
    columns = counts[:, experiment.candidate_items.eligible].tocsr()
    last = past.items[past.offsets[1:] - 1]
    return _rank(experiment, exam, lambda rows: columns[last[rows]], "Markov")


def _weighted(past: Histories, size: int, decay: str) -> sparse.csr_array:
    """Matrix (U, size): the weight of the newest event of each of the user's items."""
    age = past.offsets[1:][past.owner] - 1 - np.arange(past.events)
    weights = DECAYS[decay](age, past.lengths[past.owner])
    pairs, newest = np.unique((past.owner * size + past.items)[::-1], return_index=True)
    return sparse.csr_array((weights[::-1][newest], (pairs // size, pairs % size)), shape=(len(past), size))


def _first(rows: IntArray, most: int) -> npt.NDArray[np.bool_]:
    """(N,) whether an entry is among the first ``most`` of its row; rows ascend."""
    begin = run_starts(rows)
    return np.arange(len(rows)) - np.repeat(begin, np.diff(np.append(begin, len(rows)))) < most


def rank_by_users(experiment: Experiment, exam: Exam, *, users: int, sample: int, decay: str) -> IntArray:
    """Items (U, depth) by V-SKNN: the sum of the similarities of the similar users who have them; ties by popularity.

    Vector multiplication session kNN, section 3.2 of Ludewig and Jannach, "Evaluation of session-based recommendation
    algorithms", UMUAI 28 (2018), with each user's history as one session. The similarity of two users is the dot
    product of the first one's items, weighted by how recent they are, and the set of the other one's items.

    Args:
        experiment: the training events are the sessions of the neighbours, those of the user among them.
        exam: the queries.
        users: number of neighbours, the most similar of the sample; at equal similarity the more recent ones.
        sample: number of users who share an item with the query, those with the most recent training events.
        decay: name of a weight in ``DECAYS``.
    """
    train, size = experiment.train, experiment.size
    known = np.flatnonzero(train.lengths)
    recent = known[np.argsort(-train.times[train.offsets[1:][known] - 1], kind="stable")]
    sessions = _users_items(train, size)[recent]
    by_item, columns = sessions.T.tocsr(), sessions[:, experiment.candidate_items.eligible].tocsr()
    weights = _weighted(exam.evaluation_set.past, size, decay)

    def scores(rows: IntArray) -> sparse.csr_array:
        similar = (weights[rows] @ by_item).tocoo()
        order = np.lexsort((similar.col, similar.row))
        order = order[_first(similar.row[order], sample)]
        order = order[np.lexsort((similar.col[order], -similar.data[order], similar.row[order]))]
        order = order[_first(similar.row[order], users)]
        offsets = offsets_of(np.bincount(similar.row[order], minlength=len(rows)))
        chosen = (similar.data[order], similar.col[order], offsets)
        return sparse.csr_array(chosen, shape=(len(rows), len(recent))) @ columns

    return _rank(experiment, exam, scores, "V-SKNN")


def _sample(exam: Exam, most: int) -> Exam:
    """The same exam for a fixed random sample of at most ``most`` users."""
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


def _chosen(experiment: Experiment, choices: Iterable[tuple[Settings, Ranker]]) -> tuple[Settings, Ranker]:
    """The choice with the best validation NDCG@10 in the view that is shown; the first at equal values."""
    exam = _sample(experiment.stop, _TUNING_USERS)
    exam, group = replace(exam, views=exam.views[:1]), next(iter(exam.groups))
    best: tuple[float, Settings, Ranker] | None = None
    for settings, rank in choices:
        measured = measure(rank(exam), exam, len(experiment.candidate_items))[group][exam.views[0]]
        if best is None or measured["ndcg@10"] > best[0]:
            best = measured["ndcg@10"], settings, rank
    assert best is not None
    return best[1:]


def _item_knn(experiment: Experiment) -> Iterator[tuple[Settings, Ranker]]:
    for shrinkage in SHRINKAGE:
        found = neighbours(experiment.train, experiment.size, most=max(NEIGHBOURS), shrinkage=shrinkage)
        for k in NEIGHBOURS:
            rank = partial(rank_by_neighbours, experiment, matrix=found.matrix(k))
            yield {"neighbours": k, "shrinkage": shrinkage}, rank


def _v_sknn(experiment: Experiment) -> Iterator[tuple[Settings, Ranker]]:
    for decay in DECAYS:
        for sample in SAMPLES:
            for users in SIMILAR_USERS:
                settings: Settings = {"users": users, "sample": sample, "decay": decay}
                yield settings, partial(rank_by_users, experiment, **settings)


FIXED: dict[str, Callable[[Experiment, Exam], IntArray]] = {
    "popularity": popularity,
    "most recent": most_recent,
    "most bought": bought_most,
    "Markov": markov,
}
TUNED: dict[str, Callable[[Experiment], Iterator[tuple[Settings, Ranker]]]] = {
    "item-kNN": _item_knn,
    "V-SKNN": _v_sknn,
}


def floor(name: str, experiment: Experiment) -> tuple[Settings, Ranker]:
    """A floor of ``FIXED`` or ``TUNED``: its settings, those of the latter chosen on validation, and its ranking."""
    if name in TUNED:
        return _chosen(experiment, TUNED[name](experiment))
    return {}, partial(FIXED[name], experiment)
