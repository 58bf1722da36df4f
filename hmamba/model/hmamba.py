"""The model: item tangents, HMamba blocks, a base score, and score terms."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from hmamba.columns import PADDING_INDEX
from hmamba.model import lorentz
from hmamba.model.block import Block, BlockState
from hmamba.model.kernels import choose
from hmamba.model.last import LastToken, Sums
from hmamba.model.repeats import log_share
from hmamba.model.scores import Score, ScoreKind
from hmamba.ranker import Ranker
from hmamba.score_terms import SCORE_TERMS, chosen
from hmamba.terms.base import AnyLearnedTerm, AnyTerm, WeightedTerm, WeightedTerms

if TYPE_CHECKING:
    from hmamba.config import ModelConfig

_CURVATURE_RANGE = math.log(10.0)
_KINDS: dict[str, ScoreKind] = {"half": "inner", "euclidean": "euclidean"}
_ITEM_STD = 0.02  # standard deviation of the initial item weights; tangents are sqrt(d) times the weights


class HMamba(nn.Module):
    """HMamba-Full or HMamba-Half (arXiv 2505.09205, Algorithm 1).

    Points are parametrised by tangents at the origin, so a Euclidean optimiser can train them (Mishne et al., 2023).

    Args:
        config: settings of the model.
        items: highest item index; index 0 is padding.
        device: device that the model will run on; determines the scan.

    Attributes:
        prior: (items + 1,) initial value of the bias, 0 where it is unknown; None without a bias.
        categories: (L, items + 1) category number of each item on L levels; None without levels.
        shared: vectors of categories, added to those of their items; None without category vectors. Row 0 is zero.
        learned_terms: score terms that are trained with the model, by name.
        counted_terms: score terms that are counted and weighted after training.
        ranker: trees that correct the order of the best items; None without a ranker.
    """

    shared_rows: Tensor | None

    def __init__(self, config: ModelConfig, items: int, device: torch.device | None = None) -> None:
        super().__init__()
        self.config = config
        scan = choose(config.kernels, device or torch.device("cpu"))
        self.tangents = nn.Embedding(items + 1, config.dim, padding_idx=PADDING_INDEX)
        self.bias = nn.Parameter(torch.zeros(items + 1)) if config.item_bias and config.score == "squared" else None
        self.prior = nn.Buffer(torch.zeros(items + 1)) if self.bias is not None else None
        self.dropout = nn.Dropout(config.dropout or 0.0)
        self.blocks = nn.ModuleList(Block(config, scan) for _ in range(config.layers))
        self.norm_out = nn.LayerNorm(config.dim)
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.log_curvature = nn.Parameter(torch.zeros(()), requires_grad=config.learn_curvature)
        levels = len(config.category_levels or ())
        learned = {
            name: SCORE_TERMS[name].load().of(config, items) for name in chosen(config.score_terms or (), learned=True)
        }
        self.learned_terms = nn.ModuleDict(learned)
        self.counted_terms: list[WeightedTerm] = []
        self.ranker: Ranker | None = None
        self.categories = nn.Buffer(torch.arange(items + 1).repeat(levels, 1)) if levels else None
        self.shared: nn.EmbeddingBag | None = None
        self.register_buffer("shared_rows", None, persistent=False)  # derived from the categories
        if self.categories is not None:
            self.hold_categories(self.categories)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Place items near the origin, where space is almost flat, and scale logits to the order of one.

        Stored weights are tangents divided by sqrt(d). The optimiser's step has about one size for all weights, so this
        factor makes tangents move fast. Without it, a model of sparse data learns nothing for ten epochs.
        """
        nn.init.normal_(self.tangents.weight, std=_ITEM_STD)
        with torch.no_grad():
            self.tangents.weight[PADDING_INDEX].zero_()
            # The last LayerNorm gives users' tangents a norm of sqrt(d). With this scale the gradient of a logit in an
            # item's tangent is that of a dot product of the user's tangent and the item's stored weight.
            if self.config.score == "squared":
                self.log_scale.fill_(-0.5 * math.log(4 * self.config.dim))

    @property
    def learned_term(self) -> AnyLearnedTerm | None:
        """The score term that is trained with the model; None without one."""
        return next(iter(cast("Iterable[AnyLearnedTerm]", self.learned_terms.values())), None)

    @property
    def terms(self) -> list[AnyTerm]:
        """All score terms, in the order in which they are combined with the base score."""
        counted = [WeightedTerms(self.counted_terms)] if self.counted_terms else []
        return [*cast("Iterable[AnyTerm]", self.learned_terms.values()), *counted]

    def hold_categories(self, category: Tensor) -> None:
        """Set the items' categories, and reset category vectors, if the model has any, to zero.

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
        """Initialise an untrained model from the counts and categories of the items.

        The bias starts at each item's log share of all events; training then changes it.

        Args:
            events: (items + 1,) number of events of each item.
            users: (items + 1,) number of users who have interacted with each item.
            category: (L, items + 1) category number of each item on each level; None if the model has no levels.

        Raises:
            ValueError: the model has levels and ``category`` is None.
        """
        if self.categories is not None:
            if category is None:
                raise ValueError(f"category_levels = {self.config.category_levels}, but no categories are given")
            self.hold_categories(category)
        if self.bias is not None and self.prior is not None:
            share = log_share(events)
            self.bias.copy_(share)
            self.prior.copy_(share)
        if self.learned_term is not None:
            self.learned_term.recount(events, users)

    @torch.no_grad()
    def recount(self, events: Tensor, users: Tensor) -> None:
        """Update a trained model's counts: the bias changes by the change of its prior.

        Args:
            events: new counts, as in :meth:`start_from_counts`.
            users: likewise.
        """
        share = log_share(events).to(self.tangents.weight.device)
        if self.bias is not None and self.prior is not None:
            is_known = self.prior != 0  # log shares are below 0
            self.bias.add_(torch.where(is_known, share - self.prior, 0.0))
            self.prior.copy_(torch.where(is_known, share, 0.0))
        if self.learned_term is not None:
            self.learned_term.recount(events, users)

    @torch.no_grad()
    def start_from(self, parent: HMamba, events: Tensor, users: Tensor, category: Tensor | None = None) -> int:
        """Copy the weights of a parent. Items that it does not know keep their small random tangents.

        With category vectors, new items start at the vectors of their categories.

        Args:
            parent: a model of the same configuration, with no more items.
            events: tonight's counts, as in :meth:`start_from_counts`.
            users: likewise.
            category: tonight's categories, likewise.

        Returns:
            The number of new items.
        """
        self.start_from_counts(events, users, category)
        known = len(parent.tangents.weight)
        own_tangents = self.tangents.weight[:known].clone()
        own = self.state_dict()
        for name, value in parent.state_dict().items():
            if name not in ("categories", "shared.weight"):  # these are of tonight's categories
                of_known = own[name] if own[name].shape == value.shape else own[name][:known]
                of_known.copy_(value)
        # Zero tangents are those of new items. LayerNorm has steep gradients at zero, so training starts beside it.
        forgotten = (self.tangents.weight[:known] == 0).all(dim=1)
        self.tangents.weight[:known][forgotten] = own_tangents[forgotten]
        if self.shared is not None and self.shared_rows is not None and parent.shared is not None:
            # Categories are numbered from scratch each night, so they are matched through the items in them.
            row_KL, parent_row_KL = self.shared_rows[:known], cast(Tensor, parent.shared_rows)
            both = (row_KL > 0) & (parent_row_KL > 0)
            self.shared.weight[row_KL[both]] = parent.shared.weight[parent_row_KL[both]]
        # The bias needs tonight's counts before training: otherwise training learns the change and the recount adds it
        # a second time.
        self.recount(events, users)
        return len(self.tangents.weight) - known

    @torch.no_grad()
    def forget_items(self, items: Tensor) -> None:
        """Set the tangents of items (N,) to zero: their points are then those of their categories."""
        self.tangents.weight[items.to(self.tangents.weight.device)] = 0.0

    @property
    def curvature(self) -> Tensor:
        """|c| = 1/K, learned as its logarithm and kept within a factor of ten of its initial value."""
        factor: Tensor = torch.exp(_CURVATURE_RANGE * torch.tanh(self.log_curvature / _CURVATURE_RANGE))
        return factor * self.config.curvature

    def _lift(self, tangents: Tensor) -> Tensor:
        """Map tangents of users or items onto the hyperboloid; the Euclidean variant prepends |v|^2 instead."""
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
        """Lorentz points (V, d + 1) of items (V,)."""
        return self._lift(self._item_tangents(item_index))

    def item_bias(self, item_index: Tensor) -> Tensor | None:
        """Biases (V,) of items (V,); None if the score has none."""
        return None if self.bias is None else self.bias[item_index]

    def item_counts(self, item_index: Tensor) -> Tensor:
        """What is counted of items (V,) in all histories, (V, C): that of the learned term, or the bias's prior."""
        if self.learned_term is not None:
            return self.learned_term.counts_of(item_index)
        return (
            self.tangents.weight.new_zeros(len(item_index), 0) if self.prior is None else self.prior[item_index, None]
        )

    def encode(self, item_index_BT: Tensor, segment_BT: Tensor | None = None) -> Tensor:
        """Hidden states (B, T, d) of users after each event, as tangents at the origin.

        Args:
            item_index_BT: item indices, oldest first.
            segment_BT: sequence of each token; None if each row is one sequence.
        """
        return self._through(item_index_BT, segment_BT, [None] * len(self.blocks))[0]

    def streams(self, item_index_BT: Tensor, segment_BT: Tensor | None = None) -> list[Tensor]:
        """Inputs (B, T, d) of each block. Those of the first block depend on the item only."""
        entering: list[Tensor] = [self.dropout(self._item_tangents(item_index_BT))]
        for block in self.blocks[:-1]:
            entering.append(block(entering[-1], segment_BT, self.curvature)[0])
        return entering

    def last_token(self, stream_Vd: Tensor, block: int = -1) -> LastToken:
        """Prepare a block for :class:`LastToken`, for sequences of these inputs (V, d)."""
        return LastToken.of(cast(Block, self.blocks[block]), stream_Vd, self.curvature)

    def after(self, last: LastToken, sums: Sums) -> Tensor:
        """Hidden states (B, d) after the last token, from the sums of the last block; as :meth:`encode` ends with."""
        hidden_Bd: Tensor = self.norm_out(last.output(sums))
        return hidden_Bd

    def start(self, rows: int) -> list[BlockState]:
        """Initial states of all blocks for ``rows`` sequences."""
        return [cast(Block, block).mixer.start(rows, self.tangents.weight) for block in self.blocks]

    def advance(
        self, item_index_BT: Tensor, states: list[BlockState], length_B: Tensor | None = None
    ) -> tuple[Tensor, list[BlockState]]:
        """Encode the events that follow a state, without the events before it.

        Encoding a sequence in parts gives the same result as encoding it whole. The cost is that of the new events, and
        memory does not grow with the length of the history.

        Args:
            item_index_BT: next items of each row, oldest first, padded at the end.
            states: state of each block, from :meth:`start` or from the previous call.
            length_B: number of items of each row, 0 or more; None if there is no padding.

        Returns:
            Hidden states (B, T, d), undefined at padding, and the states after each row's last item.
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
        """A copy whose points, queries and logits are computed in float64 from the same weights.

        Float32 cannot distinguish near items after the lift: the error of <u,v>/K is about eps e^(2R) / 4 at norm
        R sqrt(K) (:func:`hmamba.model.lorentz.bound`). The eps of float64 is 5e8 times smaller. Hidden states remain
        those of the float32 encoder.
        """
        # Large tables and trees that do not need float64.
        shared: dict[int, Any] = {id(part): part for part in (*self.counted_terms, self.ranker)}
        return copy.deepcopy(self, shared).double().eval()

    def user_points(self, hidden_Rd: Tensor) -> Tensor:
        """Lorentz points (R, d + 1) of hidden states (R, d), with the same lift as the items."""
        return self._lift(hidden_Rd)

    def score(self) -> Score:
        """The score at the current curvature."""
        return Score(_KINDS.get(self.config.variant, self.config.score), 1 / self.curvature, self.log_scale.exp())

    def query_vectors(self, hidden_Rd: Tensor) -> Tensor:
        """Query vectors (R, d + 2) whose inner product with :meth:`item_vectors` ranks the items."""
        return self.score().queries(self.user_points(hidden_Rd))

    def item_vectors(self, item_index: Tensor) -> Tensor:
        """Item vectors (V, d + 2) of items (V,)."""
        return self.score().items(self.item_points(item_index), self.item_bias(item_index))


def _shared_rows(category_LV: Tensor) -> tuple[Tensor, int]:
    """Number the category vectors from 1 through all levels; return the vector of each item (V, L), and their number.

    An item that is alone in its category gets row 0, since a vector of its own would duplicate the item's vector.
    """
    rows, count = [], 0
    for of_item in category_LV:
        together = torch.bincount(of_item) > 1
        number = torch.where(together, together.cumsum(0) + count, 0)
        rows.append(number[of_item])
        count += int(together.sum())
    return torch.stack(rows, dim=1), count
