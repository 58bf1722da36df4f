"""The recommender: item tangents, HMamba blocks, a base score, and score terms."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from hmamba.columns import PADDING_INDEX
from hmamba.model import lorentz
from hmamba.model.block import Block, BlockState
from hmamba.model.kernels import choose
from hmamba.model.last import LastToken, Sums
from hmamba.model.repeats import log_share
from hmamba.model.scores import Score, ScoreKind
from hmamba.score_terms import SCORE_TERMS, chosen
from hmamba.terms.base import AnyCountedTerm, AnyLearnedTerm, AnyTerm

if TYPE_CHECKING:
    from hmamba.config import ModelConfig

_CURVATURE_RANGE = math.log(10.0)
_KINDS: dict[str, ScoreKind] = {"half": "inner", "euclidean": "euclidean"}
_ITEM_STD = 0.02  # of the item weights; their tangents are sqrt(d) times that


class HMamba(nn.Module):
    """HMamba-Full or HMamba-Half (arXiv 2505.09205, Algorithm 1).

    Parameters of the geometry are tangents at the origin, so that an ordinary optimiser serves (Mishne et al., 2023).

    Args:
        config: the model's settings.
        items: number of item indices, the highest index included; row 0 is padding.
        device: where the model will run; decides the scan.

    Attributes:
        prior: (items + 1,) what the bias began at, zeros where that is not known; None without a bias.
        categories: (L, items + 1) number of each item's category on L levels; None where the model knows of none.
        shared: vectors of categories, to which the items' own are added; None without. Row 0 stands for none.
        learned_terms: score terms that are trained with the model, by name.
        counted_terms: score terms that are counted and weighed after the training.
    """

    shared_rows: Tensor | None

    def __init__(self, config: ModelConfig, items: int, device: torch.device | None = None) -> None:
        super().__init__()
        self.config = config
        scan = choose(config.kernels, device or torch.device("cpu"))
        self.tangents = nn.Embedding(items + 1, config.dim, padding_idx=PADDING_INDEX)
        self.bias = nn.Parameter(torch.zeros(items + 1)) if config.item_bias and config.score == "squared" else None
        self.prior = nn.Buffer(torch.zeros(items + 1)) if self.bias is not None else None
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, scan) for _ in range(config.layers))
        self.norm_out = nn.LayerNorm(config.dim)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.log_curvature = nn.Parameter(torch.zeros(()), requires_grad=config.learn_curvature)
        levels = len(config.category_levels)
        learned = {name: SCORE_TERMS[name].load().of(config, items) for name in chosen(config.score_term, learned=True)}
        self.learned_terms = nn.ModuleDict(learned)
        self.counted_terms: list[AnyCountedTerm] = []
        self.categories = nn.Buffer(torch.arange(items + 1).repeat(levels, 1)) if levels else None
        self.shared: nn.EmbeddingBag | None = None
        self.register_buffer("shared_rows", None, persistent=False)  # follows from the categories
        if self.categories is not None:
            self.hold_categories(self.categories)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Items near the origin, where space is flat and every direction is open; logits of the order of one.

        Stored weights are tangents over sqrt(d). The optimiser's step has one size for all weights, so small weights
        under a large factor are tangents that move fast: otherwise a sparse catalogue learns nothing for ten epochs.
        """
        nn.init.normal_(self.tangents.weight, std=_ITEM_STD)
        with torch.no_grad():
            self.tangents.weight[PADDING_INDEX].zero_()
            # A user's tangent leaves the last LayerNorm with a norm of sqrt(d). This makes the slope of a logit in an
            # item's tangent that of a dot product of the user's tangent and the item's stored weight.
            if self.config.score == "squared":
                self.log_scale.fill_(-0.5 * math.log(4 * self.config.dim))

    @property
    def learned_term(self) -> AnyLearnedTerm | None:
        """The score term that is trained with the model; None without one."""
        return next(iter(cast("Iterable[AnyLearnedTerm]", self.learned_terms.values())), None)

    @property
    def terms(self) -> list[AnyTerm]:
        """All score terms, in the order in which they are combined with the base score."""
        return [*cast("Iterable[AnyTerm]", self.learned_terms.values()), *self.counted_terms]

    def hold_categories(self, category: Tensor) -> None:
        """Make these the items' categories; where they have vectors, with room for those that are shared, at zero.

        Args:
            category: (L, items + 1) as of :meth:`start_from_counts`.
        """
        categories = cast(Tensor, self.categories).copy_(category)
        if self.learned_term is not None:
            self.learned_term.hold_categories(category.cpu().numpy().copy())
        if not self.config.category_vectors:
            return
        rows, count = _shared_rows(categories)
        self.shared_rows = rows
        zeros = self.tangents.weight.new_zeros(count + 1, self.config.dim)
        self.shared = nn.EmbeddingBag.from_pretrained(zeros, freeze=False, mode="sum", padding_idx=0)

    @torch.no_grad()
    def start_from_counts(self, events: Tensor, users: Tensor, category: Tensor | None = None) -> None:
        """Start from each item's events and users, and from the items' categories.

        The bias begins at each item's log share of all events, which the loss then refines.

        Args:
            events: (items + 1,) of each item.
            users: (items + 1,) users who have interacted with it.
            category: (L, items + 1) number of its category on each of the model's levels; None where it has none.

        Raises:
            ValueError: the model has levels and ``category`` is None.
        """
        if self.categories is not None:
            if category is None:
                raise ValueError(f"category_levels = {list(self.config.category_levels)}, but no categories are given")
            self.hold_categories(category)
        if self.bias is not None and self.prior is not None:
            share = log_share(events)
            self.bias.copy_(share)
            self.prior.copy_(share)
        if self.learned_term is not None:
            self.learned_term.recount(events, users)

    @torch.no_grad()
    def recount(self, events: Tensor, users: Tensor) -> None:
        """Update a trained model's counts: the bias moves by as much as the prior that it began at.

        Args:
            events: as of :meth:`start_from_counts`, of more events.
            users: likewise.
        """
        share = log_share(events).to(self.tangents.weight.device)
        if self.bias is not None and self.prior is not None:
            is_known = self.prior != 0  # a share of all events is never all of them
            self.bias.add_(torch.where(is_known, share - self.prior, 0.0))
            self.prior.copy_(torch.where(is_known, share, 0.0))
        if self.learned_term is not None:
            self.learned_term.recount(events, users)

    @torch.no_grad()
    def start_from(self, parent: HMamba, events: Tensor, users: Tensor, category: Tensor | None = None) -> int:
        """Take over a parent's weights. Items that it does not know keep their small random tangents.

        Where categories have vectors, such items begin at those of the categories that they share.

        Args:
            parent: of the same configuration, with fewer items or as many.
            events: as of :meth:`start_from_counts`, tonight's.
            users: likewise.
            category: likewise.

        Returns:
            The number of such items.
        """
        self.start_from_counts(events, users, category)
        known = len(parent.tangents.weight)
        mine = self.state_dict()
        for name, value in parent.state_dict().items():
            if name not in ("categories", "shared.weight"):  # tonight's
                of_known = mine[name] if mine[name].shape == value.shape else mine[name][:known]
                of_known.copy_(value)
        if self.shared is not None and self.shared_rows is not None and parent.shared is not None:
            # Categories are numbered again each night: one is recognised by the items in it.
            mine_KL, theirs_KL = self.shared_rows[:known], cast(Tensor, parent.shared_rows)
            again = (mine_KL > 0) & (theirs_KL > 0)
            self.shared.weight[mine_KL[again]] = parent.shared.weight[theirs_KL[again]]
        # Tonight's counts are in the bias before the training: it would else learn what a recount adds once more.
        self.recount(events, users)
        return len(self.tangents.weight) - known

    @property
    def curvature(self) -> Tensor:
        """|c| = 1/K, learnt as its logarithm and kept within a factor of ten of where it started."""
        factor: Tensor = torch.exp(_CURVATURE_RANGE * torch.tanh(self.log_curvature / _CURVATURE_RANGE))
        return factor * self.config.curvature

    def _lift(self, tangents: Tensor) -> Tensor:
        """The one map by which users and items reach the hyperboloid; the Euclidean twin prepends |v|^2 instead."""
        with torch.autocast(tangents.device.type, enabled=False):
            tangents = tangents.float() if tangents.dtype == torch.bfloat16 else tangents
            if self.config.variant == "euclidean":
                return torch.cat([tangents.square().sum(-1, keepdim=True), tangents], dim=-1)
            K = 1 / self.curvature
            return lorentz.exp0(lorentz.bound(tangents, self.config.max_norm * K.sqrt()), K=K)

    def _item_tangents(self, item_index: Tensor) -> Tensor:
        weights: Tensor = self.tangents(item_index)
        if self.shared is not None and self.shared_rows is not None:
            weights = weights + self.shared(self.shared_rows[item_index].flatten(0, -2)).view_as(weights)
        return weights * math.sqrt(self.config.dim)

    def item_points(self, item_index: Tensor) -> Tensor:
        """Lorentz points (V, d + 1) of the items given."""
        return self._lift(self._item_tangents(item_index))

    def item_bias(self, item_index: Tensor) -> Tensor | None:
        """Bias (V,) of the items given; None if the score has none."""
        return None if self.bias is None else self.bias[item_index]

    def encode(self, item_index_BT: Tensor, segment_BT: Tensor | None = None) -> Tensor:
        """Tangents (B, T, d): what the model knows of a user after each event.

        Args:
            item_index_BT: item indices, oldest first.
            segment_BT: which user's sequence a token belongs to; None if each row is one.
        """
        return self._through(item_index_BT, segment_BT, [None] * len(self.blocks))[0]

    def streams(self, item_index_BT: Tensor, segment_BT: Tensor | None = None) -> list[Tensor]:
        """What enters each block (B, T, d); the first, a function of each item alone."""
        entering: list[Tensor] = [self.dropout(self._item_tangents(item_index_BT))]
        for block in self.blocks[:-1]:
            entering.append(block(entering[-1], segment_BT, self.curvature)[0])
        return entering

    def last_token(self, stream_Vd: Tensor, block: int = -1) -> LastToken:
        """A block, ready to be computed at the end of sequences of these rows of what enters it."""
        return LastToken.of(cast(Block, self.blocks[block]), stream_Vd, self.curvature)

    def after(self, last: LastToken, sums: Sums) -> Tensor:
        """The tangents (B, d) that :meth:`encode` ends with, of the last block; see :class:`LastToken`."""
        hidden_Bd: Tensor = self.norm_out(last.output(sums))
        return hidden_Bd

    def start(self, rows: int) -> list[BlockState]:
        """The states of all blocks before any event of ``rows`` sequences."""
        return [cast(Block, block).mixer.start(rows, self.tangents.weight) for block in self.blocks]

    def advance(
        self, item_index_BT: Tensor, states: list[BlockState], length_B: Tensor | None = None
    ) -> tuple[Tensor, list[BlockState]]:
        """Encode what comes after events that have been encoded before; those are not needed again.

        Encoding a sequence in parts, each from the states that the part before it left, is encoding it whole: its
        cost is that of the new events, and its memory does not grow with the length.

        Args:
            item_index_BT: the next items of each row, oldest first, padded at the end.
            states: of each block: :meth:`start`, or what the call before returned.
            length_B: items of each row, 0 or more; None: all T.

        Returns:
            Tangents (B, T, d), meaningless at padding, and the states after each row's last item.
        """
        if not item_index_BT.shape[1]:
            return self.tangents.weight.new_zeros(len(item_index_BT), 0, self.config.dim), states
        hidden_BTd, after = self._through(item_index_BT, None, states, length_B)
        return hidden_BTd, cast("list[BlockState]", after)

    def _through(
        self,
        item_index_BT: Tensor,
        segment_BT: Tensor | None,
        states: Sequence[BlockState | None],
        length_B: Tensor | None = None,
    ) -> tuple[Tensor, list[BlockState | None]]:
        x_BTd, after = self.dropout(self._item_tangents(item_index_BT)), []
        for block, state in zip(self.blocks, states, strict=True):
            x_BTd, left = block(x_BTd, segment_BT, self.curvature, state, length_B)
            after.append(left)
        return self.norm_out(x_BTd), after

    def in_float64(self) -> HMamba:
        """A copy in float64: its points, queries and logits are those of the same weights, in double precision.

        For the lift, where float32 cannot tell near items apart. The error of <u,v>/K is about eps e^(2R) / 4 at norm
        R sqrt(K) (:func:`hmamba.model.lorentz.bound`), and the eps of float64 is 5e8 times smaller. Hidden states stay
        what the float32 encoder gave: they are input, not geometry.
        """
        shared = {id(term): term for term in self.counted_terms}  # large tables, which need no other precision
        return copy.deepcopy(self, shared).double().eval()

    def user_points(self, hidden_Rd: Tensor) -> Tensor:
        """Lorentz points (R, d + 1) of hidden states (R, d), by the same lift as the items."""
        return self._lift(hidden_Rd)

    def score(self) -> Score:
        """The score at the current curvature."""
        return Score(_KINDS.get(self.config.variant, self.config.score), 1 / self.curvature, self.log_scale.exp())

    def query_vectors(self, hidden_Rd: Tensor) -> Tensor:
        """Query vectors (R, d + 2) whose inner product with :meth:`item_vectors` ranks the items."""
        return self.score().queries(self.user_points(hidden_Rd))

    def item_vectors(self, item_index: Tensor) -> Tensor:
        """Item vectors (V, d + 2) of the items given."""
        return self.score().items(self.item_points(item_index), self.item_bias(item_index))


def _shared_rows(category_LV: Tensor) -> tuple[Tensor, int]:
    """Which vector each item shares on each level, (V, L), counted through all levels from 1; and how many there are.

    Who is alone in a category shares nothing, row 0: the vector would be the item's own once more.
    """
    rows, count = [], 0
    for of_item in category_LV:
        together = torch.bincount(of_item) > 1
        number = torch.where(together, together.cumsum(0) + count, 0)
        rows.append(number[of_item])
        count += int(together.sum())
    return torch.stack(rows, dim=1), count
