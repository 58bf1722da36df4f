"""The training loop, from scratch or from the champion. A killed training resumes with the same result."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hmamba.errors import ConfigError
from hmamba.evaluation.evaluation_set import EvaluationSet
from hmamba.evaluation.likelihood import mean_log_likelihood
from hmamba.evaluation.metrics import metrics_by_query
from hmamba.evaluation.ranking import rank_all
from hmamba.model.hmamba import HMamba
from hmamba.progress import Progress
from hmamba.score_terms import SCORE_TERMS
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import IntArray
from hmamba.training.average import WeightAverage
from hmamba.training.batches import Batch, Batches
from hmamba.training.checkpoint import Checkpoint, Place
from hmamba.training.loss import blocked_cross_entropy
from hmamba.training.negatives import Negatives
from hmamba.training.optimizer import clip_gradients, make_optimizer
from hmamba.training.rank_fit import fit_ranker
from hmamba.training.ranks import Ranks
from hmamba.training.term_weights import weigh

if TYPE_CHECKING:
    import scipy.sparse as sp

    from hmamba.config import Config
    from hmamba.recipe import Recipe

log = logging.getLogger("hmamba")

_LAST_RATE = 0.05  # share of the learning rate at the end of the cosine


@dataclass(frozen=True)
class Plan:
    """The data and parameters of one training.

    Attributes:
        version: name of the training; a checkpoint of another version is not resumed.
        batches: training windows.
        windows: (windows,) whether each window is used; None for all.
        candidate_items: the candidate items.
        evaluation_set: validation users and items, for early stopping and term weights.
        epochs: largest number of epochs.
        learning_rate: peak learning rate.
        warm: whether the model starts from trained weights, which then are the best so far.
        counted_terms: names of the score terms that are counted and weighted after the last epoch, in order.
        attributes: (size, A) 1 where an item has an attribute, for the counted terms; None without attributes.
        folder: folder of the checkpoints.
        config: all settings.
        recipe: settings from the data.
        bf16: whether the blocks run in bfloat16; None for CUDA only.
        ranked: whether a ranker is trained after the last epoch.
    """

    version: str
    batches: Batches
    windows: npt.NDArray[np.bool_] | None
    candidate_items: CandidateItems
    evaluation_set: EvaluationSet
    epochs: int
    learning_rate: float
    warm: bool
    counted_terms: tuple[str, ...]
    attributes: sp.csr_array | None
    folder: Path
    config: Config
    recipe: Recipe
    bf16: bool | None = None
    ranked: bool = False


def rate_at(step: int, steps: int, warm_up: float) -> float:
    """Factor on the peak learning rate at a step: linear warm-up, then a cosine down to a twentieth."""
    rising = (step + 1) / max(warm_up * steps, 1.0)
    falling = _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (1 + math.cos(math.pi * min(step / max(steps, 1), 1.0)))
    return min(rising, 1.0) * falling


def batch_loss(
    model: HMamba,
    batch: Batch,
    eligible_V: Tensor,
    shift_V: Tensor | None = None,
    smoothing: float = 0.0,
    *,
    bf16: bool | None = None,
) -> Tensor:
    """Weighted sum of -log softmax over the batch's targets.

    Args:
        model: the model, in training mode.
        batch: rows, entries and targets.
        eligible_V: item indices of the columns of the softmax, on the model's device.
        shift_V: values added to the logits of the columns.
        smoothing: share of each target's weight that is spread over all columns.
        bf16: whether the blocks run in bfloat16; None for CUDA only.
    """
    device = eligible_V.device

    def put(array: IntArray) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    # Only the blocks run in bfloat16; geometry and loss stay in float32.
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda" if bf16 is None else bf16):
        tokens_Td = model.encode(put(batch.items)[None], put(batch.segments)[None])[0]
    hidden_Rd = tokens_Td[put(batch.positions)].float()
    term, entries = model.learned_term, batch.entries
    return blocked_cross_entropy(
        model.query_vectors(hidden_Rd),
        model.item_vectors(eligible_V),
        model.score(),
        entries=(put(entries.rows), put(entries.columns)),
        rate_E=hidden_Rd.new_zeros(0) if term is None else term.log_rates(hidden_Rd, entries),
        targets=(put(batch.targets[0]), put(batch.targets[1])),
        weights=torch.from_numpy(batch.weights).to(device),
        shift_V=shift_V,
        smoothing=smoothing,
    )


def _keep_no_primitives() -> None:
    """Disable the primitive cache of oneDNN, which computes the convolution on CPUs; must precede its first use.

    The cache keeps about 100 kB for each number of tokens, and nearly every batch has another number, so it has no
    hits. The cached primitives lie between the activations and fragment the heap, and larger batches then do not fit.
    A value that the environment already sets is kept.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")


def validate(model: HMamba, plan: Plan) -> tuple[float | None, dict[str, float | None]]:
    """Evaluate the model on the validation set.

    Returns:
        The value for early stopping (None if the set is empty), and all measured values by name. The value is NDCG@10,
        or the mean log-likelihood if there are fewer than ``gate.min_users`` users, since the NDCG of few users is
        mostly noise.
    """
    evaluation_set, exclude_seen = plan.evaluation_set, plan.config.candidates.exclude_seen
    if not len(evaluation_set):
        return None, {"ndcg@10": None}
    ranked, _ = rank_all(model, evaluation_set.past, plan.candidate_items, k=10, exclude_seen=exclude_seen)
    metrics = metrics_by_query(ranked, evaluation_set.rows, evaluation_set.items, cutoffs=(10,))
    ndcg = float(evaluation_set.by_user(metrics["ndcg@10"]).mean())
    if evaluation_set.judged >= plan.config.gate.min_users:
        return ndcg, {"ndcg@10": ndcg}
    likelihood = mean_log_likelihood(model, evaluation_set, plan.candidate_items, exclude_seen=exclude_seen)
    return likelihood, {"ndcg@10": ndcg, "log_likelihood": likelihood}


class Fit:
    """Runs a plan. Afterwards the model has the weights of its best epoch.

    Args:
        model: the initial model; trained in place.
        plan: data and parameters.
        ranks: the processes that train together; None for this one alone. Only rank 0 ends with the best weights.

    Attributes:
        weighed: results of :func:`hmamba.training.term_weights.weigh` in :meth:`run`, by the term's name; empty
            without counted terms, and on ranks other than 0.
        ranker: record of :func:`hmamba.training.rank_fit.fit_ranker` in :meth:`run`; None without ``rank.model``, after
            a refit, and on ranks other than 0.

    Raises:
        ConfigError: ``train.label_smoothing`` is set and the softmax is sampled.
    """

    def __init__(self, model: HMamba, plan: Plan, ranks: Ranks | None = None) -> None:
        _keep_no_primitives()
        self.model, self.plan, self.settings = model, plan, plan.config.train
        self.device = model.tangents.weight.device
        self.ranks = ranks or Ranks(device=self.device)
        self.optimizer = make_optimizer(model, plan.config)
        self.average = WeightAverage(model, self.settings.ema) if self.settings.ema is not None else None
        self.checkpoint = Checkpoint(plan.folder)
        self.weighed: dict[str, dict[str, Any]] = {}
        self.ranker: dict[str, Any] | None = None
        self.eligible_V = torch.from_numpy(plan.candidate_items.eligible).to(self.device)
        self.negatives = None
        if len(plan.candidate_items) > self.settings.full_softmax_items:
            if self.settings.label_smoothing:
                raise ConfigError(
                    f"train.label_smoothing = {self.settings.label_smoothing} needs the full softmax, but "
                    f"there are {len(plan.candidate_items)} candidate items: set it to 0, or raise "
                    "train.full_softmax_items."
                )
            events_V = plan.batches.histories.item_events(len(plan.candidate_items.column))[
                plan.candidate_items.eligible
            ]
            self.negatives = Negatives(events_V, self.settings.negatives)
            model.tangents.sparse = True  # the cost of a step then does not depend on the number of items
        self.steps = plan.epochs * len(plan.batches.epoch(self.settings.seed, plan.windows))

    def run(self) -> list[dict[str, Any]]:
        """Train; return a record of each epoch: epoch, loss, the values of :func:`validate`, seconds."""
        place = self.checkpoint.restore(self.plan.version, self.model, self.optimizer, self.average)
        self.ranks.agree([place.epoch, place.step, self.steps], "epoch, step and number of steps")
        if place.step:
            log.info("train: resuming at epoch %d, batch %d", place.epoch + 1, place.batch)
        elif self.plan.warm:
            self._judge(place, {"epoch": 0, "loss": None, "seconds": 0.0})
        while place.epoch < self.plan.epochs and not self._stalled(place):
            self._epoch(place)
        if self.ranks.leads:
            self.checkpoint.load_best(self.model)
        self.model.eval()
        if self.ranks.leads and self.plan.counted_terms:
            self._count_terms()
        if self.ranks.leads and self.plan.ranked:
            self._fit_ranker()
        return place.epochs

    def _fit_ranker(self) -> None:
        plan = self.plan
        self.model.ranker = None
        self.model.ranker, self.ranker = fit_ranker(
            self.model,
            plan.evaluation_set,
            plan.candidate_items,
            plan.config.rank,
            enough=plan.config.gate.min_users,
            exclude_seen=plan.config.candidates.exclude_seen,
            seed=self.settings.seed,
        )

    def _count_terms(self) -> None:
        plan, size = self.plan, len(self.plan.candidate_items.column)
        counted = []
        for name in plan.counted_terms:
            term = SCORE_TERMS[name].load().count(plan.batches.histories, size, plan.attributes)
            if term is None:
                log.info("train: score term %s: the data holds nothing that it could count", name)
            else:
                counted.append(term)
        self.model.counted_terms, self.weighed = weigh(
            self.model,
            counted,
            plan.evaluation_set,
            plan.candidate_items,
            enough=plan.config.gate.min_users,
            exclude_seen=plan.config.candidates.exclude_seen,
        )

    def _stalled(self, place: Place) -> bool:
        return place.epoch - max(place.best_epoch, 0) >= self.plan.recipe.patience

    def _save(self, place: Place) -> None:
        if self.ranks.leads:
            self.checkpoint.save(place, self.model, self.optimizer, self.average)

    def _judge(self, place: Place, record: dict[str, Any]) -> None:
        """Evaluate on rank 0; its best value decides on all ranks whether training stops."""
        if self.ranks.leads:
            with self.average.applied(self.model) if self.average is not None else nullcontext():
                self._judge_weights(place, record)
        place.best, best_epoch = self.ranks.from_lead([place.best, place.best_epoch])
        place.best_epoch = int(best_epoch)

    def _judge_weights(self, place: Place, record: dict[str, Any]) -> None:
        started = time.monotonic()
        value, measured = validate(self.model, self.plan)
        record |= {name: None if figure is None else round(figure, 6) for name, figure in measured.items()}
        record["validation_seconds"] = round(time.monotonic() - started, 3)
        place.epochs.append(record)
        # Without validation users there is no early stopping, and the last epoch counts as the best.
        if value is None or value > place.best:
            place.best, place.best_epoch = place.best if value is None else value, int(record["epoch"])
            self.checkpoint.keep_best(place.step, self.model)
        found = {name: figure for name in measured if (figure := record[name]) is not None}
        figures = [f"{name.replace('_', '-')} {figure:.4f}" for name, figure in found.items()]
        judged = ", ".join(figures) or "no validation users"
        shown = ""
        if record["loss"] is not None:
            loss, seconds, speed = (record[name] for name in ("loss", "seconds", "events_per_second"))
            shown = f"loss {loss:.4f}, {seconds:.0f} s, {speed} events per second, "
        log.info("train: epoch %d of at most %d: %s%s", record["epoch"], self.plan.epochs, shown, judged)

    def _epoch(self, place: Place) -> None:
        batches = self.plan.batches.epoch(self.settings.seed + place.epoch, self.plan.windows)
        started = saved = time.monotonic()
        events = 0
        self.model.train()
        what = f"train: epoch {place.epoch + 1}"
        left = batches[place.batch :]
        progress = Progress(what, len(batches), "batches", shown=self.ranks.leads)
        with progress, closing(self._loaded(left, self.settings.seed + place.step)) as loaded:
            progress.update(place.batch)
            for windows, batch in zip(left, loaded, strict=True):
                self._step(place, batch)
                events += self.plan.batches.events(windows)
                progress.update(1, f"loss {place.loss / place.weight:.3f}")
                if time.monotonic() - saved > self.settings.checkpoint_seconds:
                    self._save(place)
                    saved = time.monotonic()
        seconds = time.monotonic() - started
        place.epoch, place.batch = place.epoch + 1, 0
        record = {
            "epoch": place.epoch,
            "loss": round(place.loss / place.weight, 6),
            "seconds": round(seconds, 3),
            "events_per_second": round(events / max(seconds, 1e-9)),
            "curvature": round(float(self.model.curvature.detach()), 6),
        }
        place.loss, place.weight = 0.0, 0.0
        self._judge(place, record)
        self._save(place)

    def _loaded(self, batches: list[IntArray], seed: int) -> Generator[Batch]:
        """This rank's part of each batch; the next one is prepared while the caller computes."""
        load, rank, ranks = self.plan.batches.load, self.ranks.rank, self.ranks.count
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            ahead = None
            for number, windows in enumerate(batches):
                ready, ahead = ahead, pool.submit(load, windows, seed + number, rank, ranks)
                if ready is not None:
                    yield ready.result()
            if ahead is not None:
                yield ahead.result()

    def _step(self, place: Place, batch: Batch) -> None:
        # One seed per step and rank: dropout is the same after a resume, and differs between ranks.
        torch.manual_seed(self.settings.seed * 1_000_003 + place.step + (self.ranks.rank << 48))
        rate = self.plan.learning_rate * rate_at(place.step, self.steps, self.settings.warm_up)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        loss = torch.zeros((), device=self.device)
        touched: dict[nn.Parameter, IntArray] = {}
        eligible_V, shift_V = self.eligible_V, None
        if self.negatives is not None:
            batch, columns, shift = self.negatives.narrow(batch, self.ranks, self.settings.seed + place.step)
            eligible_V = eligible_V[torch.from_numpy(columns).to(self.device)]
            shift_V = torch.from_numpy(shift).to(self.device)
            rows = np.concatenate([batch.items, self.plan.candidate_items.eligible[columns]])
            tangents = cast(nn.Parameter, self.model.tangents.weight)
            touched[tangents] = self.ranks.union(rows, len(tangents))
        if len(batch.positions):  # a rank without rows still takes part in the sum of gradients
            loss = batch_loss(
                self.model, batch, eligible_V, shift_V, self.settings.label_smoothing, bf16=self.plan.bf16
            )
            (loss / batch.weight).backward()
        loss = self.ranks.sum_gradients(self.model.parameters(), loss.detach(), touched)
        clip_gradients(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.model, place.step)
        place.loss, place.weight = place.loss + float(loss), place.weight + batch.weight
        place.batch, place.step = place.batch + 1, place.step + 1
