"""The training loop: from nothing or from the champion, resumable after any kill, the same result either way."""

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
from hmamba.training.ranks import Ranks
from hmamba.training.term_weights import weigh

if TYPE_CHECKING:
    from hmamba.config import Config

log = logging.getLogger("hmamba")

_LAST_RATE = 0.05  # share of the learning rate that is left at the end of its cosine


@dataclass(frozen=True)
class Plan:
    """One training.

    Attributes:
        version: names it; a checkpoint of another version is not continued.
        batches: what is learnt from.
        windows: which windows take part; None for all.
        candidate_items: the items that compete.
        evaluation_set: what early stopping judges by.
        epochs: at most.
        learning_rate: at its highest.
        warm: whether the model starts from trained weights, which then count as the best so far.
        counted_terms: names of the score terms that are counted and weighed after the last epoch, in order.
        folder: of the checkpoints.
        config: all settings.
        bf16: whether the blocks run in bfloat16; None: on CUDA only.
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
    folder: Path
    config: Config
    bf16: bool | None = None


def rate_at(step: int, steps: int, warm_up: float) -> float:
    """Share of the learning rate at a step: linear warm-up, then a cosine down to a twentieth."""
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
        model: in training.
        batch: what to ask.
        eligible_V: indices of the items in the softmax, which the batch's columns count, on the model's device.
        shift_V: added to their logits.
        smoothing: share of each target's weight that is spread over all of them.
        bf16: whether the blocks run in bfloat16; None: on CUDA only.
    """
    device = eligible_V.device

    def put(array: IntArray) -> Tensor:
        return torch.from_numpy(array).to(device, non_blocking=True)

    # Geometry and loss stay in float32; only the blocks run in bfloat16, and only where the hardware has it.
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
    """Let oneDNN, which runs the convolution on CPUs, forget what it compiles; no effect once it has compiled anything.

    It would keep some 100 kB for each number of tokens that it has met, and no two batches have the same: nothing is
    ever found again, and what is kept lies between the activations and cuts the heap into pieces that the next, larger
    batch does not fit into. A setting from outside stands.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "0")


def validate(model: HMamba, plan: Plan) -> tuple[float | None, dict[str, float | None]]:
    """Answers to the validation questions.

    Returns:
        What early stopping judges by, None if nobody can be asked; and all that was measured. It is NDCG@10, or the
        mean log-likelihood of the answers where fewer than ``gate.min_users`` users are asked: the ranks of a handful
        of items are mostly luck.
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
    """Runs a plan. The model ends with the weights of its best epoch.

    Args:
        model: where training starts.
        plan: what to do.
        ranks: the processes that share it, this one among them; the model of rank 0 alone ends with the best weights.

    Attributes:
        weighed: what :func:`hmamba.training.term_weights.weigh` judged in :meth:`run`, by the term's name; empty
            without counted terms, and on ranks other than 0.

    Raises:
        ConfigError: label smoothing is asked for where the softmax is sampled.
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
        self.eligible_V = torch.from_numpy(plan.candidate_items.eligible).to(self.device)
        self.negatives = None
        if len(plan.candidate_items) > self.settings.full_softmax_items:
            if self.settings.label_smoothing:
                raise ConfigError(
                    f"train.label_smoothing = {self.settings.label_smoothing} needs the full softmax, but "
                    f"{len(plan.candidate_items)} items compete: set it to 0, or raise train.full_softmax_items."
                )
            events_V = plan.batches.histories.item_events(len(plan.candidate_items.column))[
                plan.candidate_items.eligible
            ]
            self.negatives = Negatives(events_V, self.settings.negatives)
            model.tangents.sparse = True  # a step then costs what its items cost, however many there are
        self.steps = plan.epochs * len(plan.batches.epoch(self.settings.seed, plan.windows))

    def run(self) -> list[dict[str, Any]]:
        """Train; returns what is known of each epoch: epoch, loss, what :func:`validate` measured, seconds."""
        place = self.checkpoint.restore(self.plan.version, self.model, self.optimizer, self.average)
        self.ranks.agree([place.epoch, place.step, self.steps], "epoch, step and steps in all")
        if place.step:
            log.info("train: going on at epoch %d, batch %d", place.epoch + 1, place.batch)
        elif self.plan.warm:
            self._judge(place, {"epoch": 0, "loss": None, "seconds": 0.0})
        while place.epoch < self.plan.epochs and not self._stalled(place):
            self._epoch(place)
        if self.ranks.leads:
            self.checkpoint.load_best(self.model)
        self.model.eval()
        if self.ranks.leads:
            self._count_terms()
        return place.epochs

    def _count_terms(self) -> None:
        plan, size = self.plan, len(self.plan.candidate_items.column)
        for name in plan.counted_terms:
            term, self.weighed[name] = weigh(
                self.model,
                SCORE_TERMS[name].load().count(plan.batches.histories, size),
                plan.evaluation_set,
                plan.candidate_items,
                enough=plan.config.gate.min_users,
                exclude_seen=plan.config.candidates.exclude_seen,
            )
            if term is not None:
                self.model.counted_terms.append(term)

    def _stalled(self, place: Place) -> bool:
        return place.epoch - max(place.best_epoch, 0) >= self.settings.patience

    def _save(self, place: Place) -> None:
        if self.ranks.leads:
            self.checkpoint.save(place, self.model, self.optimizer, self.average)

    def _judge(self, place: Place, figures: dict[str, Any]) -> None:
        """Rank 0 judges; what it finds decides for all whether to go on."""
        if self.ranks.leads:
            with self.average.applied(self.model) if self.average is not None else nullcontext():
                self._judge_weights(place, figures)
        place.best, best_epoch = self.ranks.from_lead([place.best, place.best_epoch])
        place.best_epoch = int(best_epoch)

    def _judge_weights(self, place: Place, figures: dict[str, Any]) -> None:
        started = time.monotonic()
        value, measured = validate(self.model, self.plan)
        figures |= {name: None if figure is None else round(figure, 6) for name, figure in measured.items()}
        figures["validation_seconds"] = round(time.monotonic() - started, 3)
        place.epochs.append(figures)
        # With nobody to ask there is no early stopping: the last epoch is the best there is.
        if value is None or value > place.best:
            place.best, place.best_epoch = place.best if value is None else value, int(figures["epoch"])
            self.checkpoint.keep_best(place.step, self.model)
        told = [f"{name.replace('_', '-')} {figure:.4f}" for name, figure in measured.items() if figure is not None]
        judged = ", ".join(told) or "nobody to validate on"
        shown = ""
        if figures["loss"] is not None:
            loss, seconds, speed = (figures[name] for name in ("loss", "seconds", "events_per_second"))
            shown = f"loss {loss:.4f}, {seconds:.0f} s, {speed} events a second, "
        log.info("train: epoch %d of at most %d: %s%s", figures["epoch"], self.plan.epochs, shown, judged)

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
        figures = {
            "epoch": place.epoch,
            "loss": round(place.loss / place.weight, 6),
            "seconds": round(seconds, 3),
            "events_per_second": round(events / max(seconds, 1e-9)),
            "curvature": round(float(self.model.curvature.detach()), 6),
        }
        place.loss, place.weight = 0.0, 0.0
        self._judge(place, figures)
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
        # A seed a step: dropout does not depend on whether the training was interrupted, and differs between ranks.
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
        if len(batch.positions):  # a rank whose part of a small batch asks nothing still joins the sum
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
