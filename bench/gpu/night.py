"""A night: the champion of the night before is fine-tuned, judged on the held-out day, and scores everybody."""

from __future__ import annotations

import copy
import time

import numpy as np
import pyarrow.parquet as pq
import torch

from bench.gpu.context import Context
from bench.gpu.search import overlap
from hmamba.candidates.score import ModelScorer, write_candidates
from hmamba.evaluation.baselines import most_bought, popular
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.metrics import ranking_metrics
from hmamba.evaluation.ranking import rank_all
from hmamba.evaluation.split import Split
from hmamba.index.index import build
from hmamba.index.matmul import MatmulSearcher
from hmamba.models.files import StoredModel
from hmamba.sequences.histories import Histories, IntArray
from hmamba.training.fit import Fit

_CPU_USERS = 200
_CPU_OVERLAP = 0.99
_CPU_SCORE = 1e-3
"""What the CPU must agree on with the same weights: mean share of the best k, and relative error of the best score."""


def night(context: Context) -> None:
    """Train from nothing on all but the last day, fine-tune on it, rank, score, compare with the CPU."""
    record, shop = context.record, context.shop
    histories, config = shop.histories, shop.config
    started = time.perf_counter()
    champion = shop.champion()
    trained = time.perf_counter()
    ready = shop.ready(histories, "challenger", champion)
    told = Fit(ready.model, ready.plan).run()
    stored = shop.stored(ready)
    tuned = time.perf_counter()
    record.measure(
        "training", events=histories.events, items=len(stored.candidate_items), from_nothing_s=trained - started
    )
    record.measure("fine-tuning", epochs=len(told) - 1, seconds=tuned - trained)
    losses = [facts["loss"] for facts in told if facts["loss"] is not None]
    record.check("every loss is finite", bool(losses) and bool(np.isfinite(losses).all()), last=float(losses[-1]))

    split = Split.of(histories, config)
    evaluation_set = split.holdout_set(histories, config)
    if len(evaluation_set):
        _judge(context, stored, champion, evaluation_set, split.before_holdout(histories))
        _compare_with_cpu(context, stored, evaluation_set)
    else:
        record.skip("ranking the held-out day", "nobody with a past bought anything on it")
    _score(context, stored)


def _judge(
    context: Context, stored: StoredModel, champion: StoredModel, evaluation_set: EvaluationSet, before: Histories
) -> None:
    """NDCG@10 of both models and both baselines on the held-out day."""
    exclude_seen = context.shop.config.candidates.exclude_seen
    counts = before.item_events(len(context.shop.ids))

    def ndcg(ranked: IntArray) -> float:
        candidate_items = len(stored.candidate_items)
        return ranking_metrics(
            ranked, evaluation_set.rows, evaluation_set.items, cutoffs=(10,), catalogue=candidate_items
        )["ndcg@10"]

    def of(model: StoredModel) -> float:
        best, _ = rank_all(model.model, evaluation_set.past, model.candidate_items, k=10, exclude_seen=exclude_seen)
        return ndcg(best)

    tuned, older = of(stored), of(champion)
    general = ndcg(popular(evaluation_set.past, counts, 10, exclude_seen=exclude_seen))
    own = ndcg(most_bought(evaluation_set.past, counts, 10))
    figures = {"fine_tuned": tuned, "champion": older, "most_bought": own, "popularity": general}
    # A trial's few steps teach nothing; there the figures only have to be numbers.
    passed = bool(np.isfinite(tuned)) if context.tiny else tuned > general
    context.record.check(
        "NDCG@10 on the held-out day is above popularity's", passed, users=len(evaluation_set.past), **figures
    )
    context.record.measure("NDCG@10 against most bought", ratio=tuned / own if own else float("nan"))


def _compare_with_cpu(context: Context, stored: StoredModel, evaluation_set: EvaluationSet) -> None:
    """The same weights on the CPU: the same ranking for a sample of users."""
    users = np.sort(np.random.default_rng(0).permutation(len(evaluation_set.past))[:_CPU_USERS])
    past = evaluation_set.past.select(users)
    k = min(context.shop.config.candidates.k, len(stored.candidate_items))
    ranked = []
    for model in (stored.model, copy.deepcopy(stored.model).cpu()):
        ranked.append(
            rank_all(
                model,
                past,
                stored.candidate_items,
                k=k,
                exclude_seen=context.shop.config.candidates.exclude_seen,
            )
        )
    (here, scores), (there, right) = ranked
    shared = overlap(here, there)
    first = float(np.abs(scores[:, 0] - right[:, 0]).max() / np.abs(right[:, 0]).max())
    context.record.check(
        "the same ranking as on the CPU",
        shared >= _CPU_OVERLAP and first <= _CPU_SCORE,
        users=len(past),
        **{f"overlap@{k}": shared, "least": _CPU_OVERLAP, "error_of_the_best_score": first, "tolerance": _CPU_SCORE},
    )


def _score(context: Context, stored: StoredModel) -> None:
    """Write everybody's candidates as a shard of the night would be, and read them back."""
    shop, settings = context.shop, context.shop.config.candidates
    candidates, vectors = shop.folder / "part.parquet", shop.folder / "users.parquet"
    started = time.perf_counter()
    popularity = shop.histories.item_events(len(shop.ids))
    index = build(stored, stored.candidate_items, MatmulSearcher.name)
    scorer = ModelScorer(stored, index, popularity, settings.k, settings.exclude_seen)
    done = write_candidates(scorer, stored.item_ids, [shop.histories], candidates=candidates, vectors=vectors)
    seconds = time.perf_counter() - started
    table = pq.read_table(candidates)
    k = min(settings.k, len(stored.candidate_items))
    score = table["score"].to_numpy()
    rank = table["rank"].to_numpy()
    falling = bool((np.diff(score)[rank[1:] > 1] <= 0).all())
    context.record.check(
        f"candidates of all users: {k} each, no score rises, none is not a number",
        table.num_rows == done.users * k and falling and bool(np.isfinite(score).all()),
        users=done.users,
        rows=table.num_rows,
        seconds=seconds,
    )
    points = torch.tensor(pq.read_table(vectors)["point"].combine_chunks().values.to_numpy())
    context.record.check("every user's point is finite", bool(torch.isfinite(points).all()), points=done.users)
