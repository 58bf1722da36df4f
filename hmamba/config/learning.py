"""Settings of the model, its training, the gate, the candidates and the working folders."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from hmamba.config.section import Section
from hmamba.score_terms import SCORE_TERMS, chosen

_MOST_ITEMS = 10_000
"""Largest length of a list of recommendations."""
_MOST_LEVELS = 100


class ModelConfig(Section):
    """HMamba. Symbols are those of the paper (arXiv 2505.09205, Algorithm 1) and of Mamba-2."""

    variant: Literal["full", "half", "euclidean"] = Field(
        "full",
        description="full: hyperbolic scan and score; half: hyperbolic embeddings only; euclidean: the flat twin.",
    )
    dim: int = Field(64, ge=2, le=8_192, description="d: width of the tangent space at the origin.")
    layers: int = Field(1, ge=1, le=16, description="Mamba blocks.")
    d_state: int = Field(32, ge=1, le=1_024, description="N: width of the state of one head.")
    d_conv: int = Field(4, ge=1, le=4, description="Width of the causal convolution.")
    expand: int = Field(2, ge=1, le=16, description="Inner width as a multiple of dim.")
    head_dim: int = Field(64, ge=1, le=8_192, description="P: channels of one head; divides dim * expand.")
    chunk: int | None = Field(
        None, ge=1, le=65_536, description="Tokens in a chunk of the scan; if absent, 32 to 64 for the least padding."
    )
    norm: Literal["pre", "post"] = Field("post", description="LayerNorm before each branch, or after each sum.")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="Dropout rate during training. If absent, from the data, see docs/model.md."
    )
    curvature: float = Field(1.0 / 64.0, ge=1e-6, le=1e6, description="c0 = 1/K: initial curvature.")
    learn_curvature: bool = Field(True, description="Whether the curvature is learned; otherwise it stays at c0.")
    max_norm: float = Field(4.0, ge=1e-3, le=5.0, description="Bound of tangent norms in units of sqrt(K).")
    score: Literal["squared", "linear", "paper"] = Field(
        "squared",
        description="Function of the Lorentz distance: its square with a bias, the scaled distance, or the paper's.",
    )
    item_bias: bool = Field(True, description="Adds a popularity term to the squared score.")
    score_terms: tuple[str, ...] | None = Field(
        None,
        description="Evidence that raises the scores of some items, weighted on the validation days. repeats: the "
        "user's own rates of repeat consumption, only for candidates.exclude_seen = false; cooccurrence: items that "
        "followed the user's items in other histories; attributes: items with the attributes of the user's items, from "
        "[catalogue]. If absent, all that fit candidates.exclude_seen; [] for none.",
    )
    category_levels: tuple[int, ...] | None = Field(
        None,
        description="Levels of the category path, 1 the widest, for category_vectors and for the features of repeats. "
        "If absent, the levels that the catalogue has, up to 4; [] for none.",
    )
    category_vectors: bool = Field(
        True, description="Add to each item vector the vectors of the item's categories on category_levels."
    )
    kernels: Literal["auto", "torch", "fused"] = Field("auto", description="fused: mamba_ssm's Triton kernels on CUDA.")

    def same_weights(self, other: ModelConfig) -> bool:
        """Whether training can resume from weights that were trained under the other settings."""
        free = {"kernels", "dropout", "chunk", "score_terms"}
        learned = chosen(self.score_terms or (), learned=True) == chosen(other.score_terms or (), learned=True)
        return learned and self.model_dump(exclude=free) == other.model_dump(exclude=free)

    @field_validator("score_terms")
    @classmethod
    def _terms_are_registered(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = [name for name in names or () if name not in SCORE_TERMS]
        if unknown or len(set(names or ())) < len(names or ()):
            raise ValueError(f"choose among {', '.join(SCORE_TERMS)}, each once")
        return names

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelConfig:
        levels = list(self.category_levels or ())
        if levels != sorted(set(levels)) or not all(1 <= level <= _MOST_LEVELS for level in levels):
            raise ValueError(
                f"category_levels = {levels}: name each level once, from 1, the widest, upwards, to {_MOST_LEVELS}"
            )
        if levels and "repeats" not in (self.score_terms or ()) and not self.category_vectors:
            raise ValueError(
                f"category_levels = {levels} are used by the score term repeats and by category_vectors, and neither "
                'is on: set category_vectors = true or category_levels = [], or add "repeats" to score_terms, which '
                "needs candidates.exclude_seen = false"
            )
        if (self.dim * self.expand) % self.head_dim:
            raise ValueError(f"dim * expand = {self.dim * self.expand} is not a multiple of head_dim = {self.head_dim}")
        if self.variant != "full" and self.score != "squared":
            raise ValueError(f"variant {self.variant!r} has a score of its own: leave score at 'squared'")
        return self


class TrainConfig(Section):
    """Training of the model, from scratch or from the champion."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA if torch detects it.")
    processes: int = Field(
        1,
        ge=1,
        le=1024,
        description="Number of processes that share each batch, through torchrun: one per GPU. See docs/operations.md.",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="The same seed, data and machine give the same model.")
    epochs: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Maximum number of epochs when training from scratch. If absent, from the number of steps in an "
        "epoch, see docs/model.md.",
    )
    fine_tune_epochs: int = Field(
        2, ge=1, le=100_000, description="Maximum number of epochs when fine-tuning the champion."
    )
    patience: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Epochs without a better validation NDCG before stopping. If absent, likewise.",
    )
    learning_rate: float = Field(2e-3, gt=0, le=10, description="Peak learning rate when training from scratch.")
    fine_tune_rate: float = Field(5e-4, gt=0, le=10, description="Peak learning rate when fine-tuning the champion.")
    weight_decay: float = Field(5e-2, ge=0, le=10, description="Weight decay of AdamW.")
    warm_up: float = Field(0.05, ge=0, lt=1, description="Share of all steps in which the learning rate warms up.")
    clip: float = Field(5.0, gt=0, le=1e6, description="Maximum norm of a gradient.")
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay per step of an exponential moving average of the weights, which is then evaluated and "
        "saved. Each step then updates the vectors of all items, also with the sampled softmax.",
    )
    tokens: int | None = Field(
        None,
        ge=64,
        le=2**27,
        description="Events per optimiser step. If absent, 1/64 of the training events, from 256 to 8,192.",
    )
    row_share: float = Field(1.0, gt=0, le=1, description="Share of positions that contribute to the loss of an epoch.")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of a target's weight that is spread over all items; full softmax only."
    )
    full_softmax_items: int = Field(
        200_000,
        ge=1,
        le=10_000_000,
        description="Maximum number of candidate items for a full softmax; beyond, it is sampled.",
    )
    negatives: int = Field(
        16_384,
        ge=1,
        le=2**22,
        description="Negatives drawn per step of the sampled softmax, in addition to the batch's own items.",
    )
    half_life_days: float | None = Field(
        None,
        ge=0.001,
        le=36_500,
        description="Age at which a position has half its weight in the loss; if absent, age does not matter.",
    )
    horizon: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Number of next baskets that the loss predicts; later ones weigh less. If absent, from the data.",
    )
    max_length: int = Field(1024, ge=2, le=2**20, description="Maximum number of events in one training window.")
    replay: float = Field(0.25, ge=0, le=1, description="Share of older windows that fine-tuning repeats.")
    min_item_events: int = Field(
        1,
        ge=1,
        le=1_000_000_000,
        description="Items with fewer training events are neither targets nor candidates of a model, which trains "
        "faster without many rare ones. A baseline ranks every item.",
    )
    validation_days: int = Field(1, ge=1, le=36_500, description="Days before the held-out days, for early stopping.")
    refit: bool = Field(
        False,
        description="Whether the serving model is fine-tuned after the verdict on the validation and held-out days.",
    )
    checkpoint_seconds: float = Field(
        60.0, gt=0, le=604_800, description="Seconds between checkpoints of a running training."
    )


class RankConfig(Section):
    """The ranker, which corrects the order of each user's best items."""

    model: Literal["auto", "none", "lightgbm"] = Field(
        "auto",
        description="lightgbm: trees (LambdaMART) on the scores and on what the term repeats reads, trained on the "
        "validation days and kept if they help; needs the extra rank. auto: lightgbm if that is installed and the "
        "model has the term repeats.",
    )
    depth: int = Field(100, ge=10, le=1_000, description="Number of each user's best items that are ranked again.")


class GateConfig(Section):
    """The gate, which compares champion and challenger."""

    holdout_days: int = Field(1, ge=1, le=36_500, description="Newest days, held out from the training of both.")
    min_users: int = Field(
        200,
        ge=1,
        le=1_000_000_000,
        description="Minimum number of users for evaluation, also on the validation days. If the days have fewer, more "
        "days are held out, up to a fifth of all events; if that is too little, each user's last basket is held out.",
    )
    first_night: Literal["baseline", "refuse"] = Field(
        "baseline",
        description="Action if there is no champion and the model is not shown to be better than the best baseline: "
        "publish the table of that baseline, or stop the night.",
    )
    cutoffs: tuple[int, ...] = Field((10, 20, 40), description="The k of HR@k, NDCG@k, MRR@k, recall@k and coverage@k.")
    metric: str = Field(
        "ndcg@10",
        pattern=r"^(hr|ndcg|mrr|recall)@[1-9]\d*$",
        description="Metric that decides which model serves: hr, ndcg, mrr or recall at one of cutoffs, or recall at "
        "candidates.k.",
    )
    tolerance: float = Field(0.02, ge=0, lt=1, description="Relative amount by which a challenger may be worse.")

    @model_validator(mode="after")
    def _cutoffs_are_positive(self) -> GateConfig:
        if not self.cutoffs or not all(1 <= cutoff <= _MOST_ITEMS for cutoff in self.cutoffs):
            raise ValueError(f"cutoffs = {list(self.cutoffs)}: give at least one, each from 1 to {_MOST_ITEMS:,}")
        return self


class CandidatesConfig(Section):
    """The published candidates."""

    k: int = Field(100, ge=1, le=_MOST_ITEMS, description="Number of items per user.")
    exclude_seen: bool = Field(
        True, description="Whether seen items are excluded: true for films; false where people buy items again."
    )
    float32_recall: float = Field(
        0.999,
        ge=0,
        le=1,
        description="Share of each user's best items by float64 that float32 must find; otherwise the search uses "
        "float64.",
    )
    approximate_items: int = Field(
        200_000,
        ge=1_000,
        le=1_000_000_000,
        description="With more candidate items, the search may be approximate, if it reaches recall and is faster.",
    )
    recall: float = Field(
        0.99,
        gt=0,
        le=1,
        description="Share of each user's k best items that an approximate search must find, measured each night; "
        "otherwise the search is exact.",
    )
    allowed_items: str | None = Field(
        None, description="Parquet or CSV file with a column item_id; only these items are recommended."
    )
    new_items: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Share of k that are new items at least: items of the catalogue without a training event, the best "
        "by score. 0: a new item is recommended only where its score is among the k best. See docs/model.md.",
    )
    because: bool = Field(
        False,
        description="Add the columns because and because_item: the kind of evidence that contributed most to the "
        "score, and the item of the user's history behind it. See docs/candidates.md.",
    )
    states: bool = Field(
        False,
        description="Keep users' carried states (19 kB each by default; of the newest night only), so that "
        "`hmamba refresh` reads only new events instead of whole histories. It works without them, more slowly.",
    )
