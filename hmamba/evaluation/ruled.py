"""Metrics of the systems of a gate with the lists that the rules of the night make of theirs.

The decision of the gate does not depend on them: rules serve other ends than the metric.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from hmamba.config import Config
from hmamba.evaluation.baselines import most_bought, own_counts, popular
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.gate import Metrics, measure
from hmamba.evaluation.gate import depth as depth_of
from hmamba.evaluation.ranking import Quota, rank_all
from hmamba.inference.encode import encode_users
from hmamba.models.files import StoredModel
from hmamba.rules.apply import Found, Serving, apply
from hmamba.rules.night import NightRules
from hmamba.rules.tables import BoolArray, Lists, VectorLikeness
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import IntArray

LEFT_OUT = ("not_again",)
"""Kinds of rules that are not applied: the log of what was shown describes days that are held out."""


@dataclass(frozen=True)
class RuledMeasure:
    """Measures systems under rules.

    Attributes:
        rules: the rules of the night.
        evaluation_set: the queries.
        config: the cutoffs, and how lists are made.
    """

    rules: NightRules
    evaluation_set: EvaluationSet
    config: Config

    def model(self, stored: StoredModel) -> Metrics:
        """Metrics of a model, by exact ranking as it is served."""
        config, model = self.config, stored.model
        past = replace(self.evaluation_set.past, items=stored.known(self.evaluation_set.past.items))
        items = stored.candidate_items
        new_items = CandidateItems.only(stored.new_items, len(items.column))
        hidden_Ud = encode_users(model, past)
        rank = partial(rank_all, model, exclude_seen=config.candidates.exclude_seen)

        def best(rows: IntArray, depth: int, *, narrowed: bool) -> tuple[Found, Found | None]:
            own = partial(rank, past.select(rows), k=depth, hidden_Ud=hidden_Ud[torch.from_numpy(rows)])
            known = self._found(own(candidate_items=items), depth, items)
            new = own(candidate_items=new_items, rerank=False) if len(new_items) else None
            return known, None if new is None else self._found(new, depth, new_items)

        quota = Quota.of(config.candidates.k, config.candidates.new_items)
        join = quota.apply if len(new_items) else None
        likeness = None
        if self.rules.book.diversity is not None and self.rules.likeness is None:
            with torch.inference_mode():
                device = model.tangents.weight.device
                every = items.together(new_items)
                vectors = model.item_vectors(torch.from_numpy(every.eligible).to(device)).float().cpu().numpy()
            likeness = VectorLikeness(vectors[:, 1:-1], every.column)
        candidate = self._candidate(items.together(new_items))
        serving = Serving(depth_of(config), best, join, candidate, None, likeness=likeness)
        return self._measured(serving, len(items) + len(new_items))

    def baselines(self, counts: IntArray) -> dict[str, Metrics]:
        """Metrics of the baselines; ``counts``: (size,) events of each item index before the held-out ones."""
        exclude, past = self.config.candidates.exclude_seen, self.evaluation_set.past
        items = CandidateItems.of(counts, 1)

        def lists_of(name: str, rows: IntArray, number: int) -> Lists:
            some = past.select(rows)
            is_personal = name == "most_bought"
            table = (
                most_bought(some, counts, number)
                if is_personal
                else popular(some, counts, number, exclude_seen=exclude)
            )
            at = np.nonzero(table >= 0)
            scores = np.full(table.shape, -np.inf, dtype=np.float32)
            own = own_counts(some, at[0], table[at], len(counts)) if is_personal else 0
            scores[at] = counts[table[at]] / counts.sum() + own
            return table, scores

        def measured(name: str) -> Metrics:
            def best(rows: IntArray, depth: int, *, narrowed: bool) -> tuple[Found, Found | None]:
                return self._found(lists_of(name, rows, depth), depth, items, is_log=False), None

            serving = Serving(depth_of(self.config), best, None, self._candidate(items), None, is_log=False)
            return self._measured(serving, len(items))

        return {name: measured(name) for name in ("popularity", *(() if exclude else ("most_bought",)))}

    def _measured(self, serving: Serving, catalogue: int) -> Metrics:
        (ranked, _), _ = apply(self.rules.block(self.evaluation_set.past, leave_out=LEFT_OUT), serving)
        return measure(ranked, self.evaluation_set, self.config, catalogue).means

    def _found(self, lists: Lists, number: int, items: CandidateItems, *, is_log: bool = True) -> Found:
        rise = float(self.rules.rise[items.eligible].max(initial=0))
        return Found.of(lists, number, rise, is_log=is_log)

    def _candidate(self, items: CandidateItems) -> BoolArray:
        candidate = np.zeros(self.rules.size, dtype=bool)
        candidate[items.eligible] = True
        return candidate
