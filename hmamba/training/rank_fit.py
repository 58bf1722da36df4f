"""Fit the ranker on the validation days (:mod:`hmamba.ranker`).

The validation events are the newest that the model was not trained on, so its scores there are those of a served night.
Trees of a part of the users rank the lists of the others; the ranker is kept only if these lists are better than the
model's own at a one-sided level of 90 %. A stricter test would ask for more users than a validation day has, and the
gate compares the models with their rankers.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.metrics import metrics_by_query
from hmamba.evaluation.ranking import score_blocks, shortlist_of, values_of_block
from hmamba.model.hmamba import HMamba
from hmamba.ranker import Ranker, Shortlist, ValueArray, lightgbm
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import IntArray
from hmamba.sequences.sets import contained

if TYPE_CHECKING:
    from hmamba.config import RankConfig

log = logging.getLogger("hmamba")

_QUERIES = 4_000  # most queries that the trees learn from; more gain nothing on The Complete Journey
_FOLDS = 3
_CUTOFF = 10
_TREES = 120
_Z = 1.2816  # quantile of the normal distribution at 90 %
_LEAF_SHARE = 250  # a leaf holds at least one of this many entries
_TREE_SETTINGS = {
    "objective": "lambdarank",
    "lambdarank_truncation_level": 2 * _CUTOFF,
    "num_leaves": 7,
    "learning_rate": 0.05,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.7,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
"""Chosen on a validation split of The Complete Journey, on which three times as many trees are worse."""


@dataclass(frozen=True)
class Lists:
    """Shortlists of Q queries.

    Attributes:
        shortlist: E entries of the Q rows.
        values: (E, F) what the trees read.
        relevant: (E,) whether the user went on to take the item.
    """

    shortlist: Shortlist
    values: ValueArray
    relevant: npt.NDArray[np.bool_]

    @classmethod
    @torch.inference_mode()
    def of(
        cls,
        model: HMamba,
        evaluation_set: EvaluationSet,
        candidate_items: CandidateItems,
        depth: int,
        exclude_seen: bool,
    ) -> Lists:
        """The ``depth`` best items of each query by the model."""
        width, parts, values = len(candidate_items), [], []
        for block in score_blocks(model, evaluation_set.past, candidate_items):
            if exclude_seen:
                block.logits[block.seen] = -np.inf
            found = shortlist_of(block, depth)
            values.append(values_of_block(model, block, found, candidate_items))
            parts.append(Shortlist(block.users[found.rows], found.columns, found.scores))
        shortlist = Shortlist(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in ("rows", "columns", "scores"))
        )
        column = candidate_items.column[evaluation_set.items]
        answers = np.sort((evaluation_set.rows * width + column)[column >= 0])
        relevant = contained(shortlist.rows * width + shortlist.columns, answers)
        return cls(shortlist, np.concatenate(values), relevant)

    def only(self, queries: npt.NDArray[np.bool_]) -> Lists:
        """The lists of the queries (Q,) that are true, which keep their numbers."""
        kept = queries[self.shortlist.rows]
        old = self.shortlist
        shortlist = Shortlist(old.rows[kept], old.columns[kept], old.scores[kept])
        return Lists(shortlist, self.values[kept], self.relevant[kept])

    def ranked(self, queries: int, candidate_items: CandidateItems) -> IntArray:
        """The first items (Q, 10) of each list; -1 where there are fewer."""
        table = np.full((queries, _CUTOFF), -1, dtype=np.int64)
        head = self.shortlist.best(_CUTOFF)
        table[head.rows, head.places] = candidate_items.eligible[head.columns]
        return table


def _grow(lists: Lists, users: IntArray, depth: int, seed: int) -> Ranker | None:
    """Train trees on lists; None if no list has a relevant item. ``users`` (Q,) is the user of each query."""
    with_answer = np.bincount(lists.shortlist.rows[lists.relevant], minlength=len(users)) > 0
    if not with_answer.any():
        return None
    part, module = lists.only(with_answer), lightgbm()
    rows = part.shortlist.rows
    sizes = np.bincount(rows, minlength=len(users))
    each_user = np.bincount(users[with_answer], minlength=int(users.max()) + 1)
    data = module.Dataset(
        part.values,
        part.relevant.astype(np.float32),
        group=sizes[sizes > 0],
        weight=1 / each_user[users[rows]],
        init_score=part.shortlist.scores.astype(np.float64),
        free_raw_data=False,
    )
    leaf = max(20, len(rows) // _LEAF_SHARE)
    settings = {**_TREE_SETTINGS, "seed": seed, "min_data_in_leaf": leaf, "num_threads": 1}
    return Ranker(module.train(settings, data, _TREES), depth)


def fit_ranker(
    model: HMamba,
    evaluation_set: EvaluationSet,
    candidate_items: CandidateItems,
    settings: RankConfig,
    *,
    enough: int,
    exclude_seen: bool,
    seed: int,
) -> tuple[Ranker | None, dict[str, Any]]:
    """Train the ranker, and keep it if it helps users that it was not trained on.

    Args:
        model: the trained model with its score terms and without a ranker.
        evaluation_set: validation users and items.
        candidate_items: the candidate items.
        settings: ``[rank]``.
        enough: smallest number of users to learn from.
        exclude_seen: whether items that the user has seen are excluded.
        seed: seed of the trees and of the parts of the users.

    Returns:
        The ranker, or None; and a record: kept, ndcg@10 with and without the ranker (None if it was not trained), both
        over users whose lists the trees had not seen, and the number of users.

    Raises:
        ConfigError: LightGBM is not installed.
    """
    from hmamba.evaluation.comparison import compare  # SciPy, which a night without a ranker can do without

    users = evaluation_set.judged
    nothing: dict[str, Any] = {"kept": False, "ndcg@10": None, "ndcg@10 without": None, "users": users}
    if users < max(enough, _FOLDS):
        log.info("train: no ranker: %d validation users, gate.min_users = %d", users, enough)
        return None, nothing
    random = np.random.default_rng(seed)
    if len(evaluation_set) > _QUERIES:
        drawn = np.sort(random.choice(len(evaluation_set), _QUERIES, replace=False))
        evaluation_set = evaluation_set.only(contained(evaluation_set.rows, drawn))
        users = evaluation_set.judged
    lists = Lists.of(model, evaluation_set, candidate_items, settings.depth, exclude_seen)
    fold = random.permutation(users) % _FOLDS
    of_query = fold[evaluation_set.users]
    before = _ndcg(lists.ranked(len(evaluation_set), candidate_items), evaluation_set)
    after = np.zeros(users)
    for number in range(_FOLDS):
        trained = _grow(lists.only(of_query != number), evaluation_set.users, settings.depth, seed)
        if trained is None:
            log.info("train: no ranker: no item that users went on to take is in a shortlist")
            return None, {**nothing, "users": users}
        held = lists.only(of_query == number)
        better = Lists(trained.corrected(held.shortlist, held.values), held.values, held.relevant)
        ndcg = _ndcg(better.ranked(len(evaluation_set), candidate_items), evaluation_set)
        after[fold == number] = ndcg[fold == number]
    compared = compare(("ranker", "model"), f"ndcg@{_CUTOFF}", after, before)
    gain = after - before
    kept = bool(gain.mean() > _Z * gain.std(ddof=1) / np.sqrt(users))
    record = {
        "kept": kept,
        "ndcg@10": round(float(after.mean()), 6),
        "ndcg@10 without": round(float(before.mean()), 6),
        "users": users,
    }
    log.info(
        "train: ranker %s: ndcg@10 %.4f, without it %.4f (%s), %d users that its trees had not seen",
        "kept" if kept else "dropped", after.mean(), before.mean(), compared, users,
    )  # fmt: skip
    return (_grow(lists, evaluation_set.users, settings.depth, seed) if kept else None), record


def _ndcg(ranked_QD: IntArray, evaluation_set: EvaluationSet) -> npt.NDArray[np.float64]:
    """NDCG@10 of each user."""
    found = metrics_by_query(ranked_QD, evaluation_set.rows, evaluation_set.items, cutoffs=(_CUTOFF,))
    return evaluation_set.by_user(found[f"ndcg@{_CUTOFF}"])
