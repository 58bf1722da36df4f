"""Compute users' hidden states after their last events, the only output of the encoder that ranking needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from hmamba.model.block import BlockState
from hmamba.model.hmamba import HMamba
from hmamba.parallel import each
from hmamba.progress import Progress
from hmamba.sequences.histories import Histories, IntArray, owners, spans

GROUP_TOKENS = 8_192
"""Events per group, padding included. Half or twice as many are no faster."""

LONGEST = 16_384
"""Largest number of events that are encoded at once; longer histories are encoded in pieces of this length."""

_PADDING = 0.05  # largest share of padding in a group's tokens
_TABLE_ITEMS = 200_000  # largest number of items whose projections are computed in advance, about 4 kB each

Keep = Callable[[IntArray, list[BlockState]], None]
"""Receives positions of a group of users and the states of all blocks after their last events."""

Encode = Callable[[HMamba, Histories], Tensor]
"""Computes hidden states (U, d) of users, like :func:`encode_users`."""


def alike(lengths: IntArray, tokens: int) -> Iterator[IntArray]:
    """Group users with events by the lengths of their histories, shortest first.

    Args:
        lengths: (U,) number of events of each user.
        tokens: largest number of tokens per group, padding included; a single user may have more.

    Yields:
        Positions of users. Padding to the longest history of a group is at most 5 % of its tokens.
    """
    users = np.flatnonzero(lengths > 0)
    users = users[np.argsort(lengths[users], kind="stable")]
    ordered, start = lengths[users], 0
    while start < len(users):
        similar = int(np.searchsorted(ordered, int(ordered[start] / (1 - _PADDING)), side="right")) - start
        most = max(1, min(similar, tokens // int(ordered[start])))
        stop = start + max(1, min(most, tokens // int(ordered[start + most - 1])))
        yield users[start:stop]
        start = stop


@torch.inference_mode()
def encode_users(model: HMamba, histories: Histories, keep: Keep | None = None) -> Tensor:
    """Hidden states (U, d) of users after their last event, on the CPU; zeros for users without events.

    The last block is computed at the last events only (:mod:`hmamba.model.last`). On the CPU, groups of users are
    computed at once on several threads (:func:`hmamba.parallel.each`).

    Args:
        model: the encoder.
        histories: whole histories of U users, in item indices that the model knows; events of weight 0 are not read.
        keep: receives the states from which :meth:`HMamba.advance` can continue, for all users with events. It does
            not change the hidden states, to the bit.
    """
    model.eval()
    histories = histories.read
    hidden_Ud = torch.zeros(len(histories), model.config.dim)
    lengths = histories.lengths
    table = None
    if len(model.blocks) == 1:
        present = np.flatnonzero(np.bincount(histories.items))
        if len(present) <= _TABLE_ITEMS:
            row = np.zeros(int(present.max(initial=0)) + 1, dtype=np.int64)
            row[present] = np.arange(1, len(present) + 1)
            table = model.last_token(model.streams(_on(model, present)[None])[0][0]), row

    def encode(users: IntArray) -> tuple[IntArray, Tensor, list[BlockState]]:
        place_BL = _aligned(lengths[users])
        if table is not None:
            blocks, row = [table[0]], table[1]
            flat = spans(histories.offsets[users], lengths[users])
            rows = np.concatenate([[0], row[histories.items[flat]]])[place_BL]
        else:
            part = histories.select(users)
            streams = model.streams(_on(model, part.items)[None], _on(model, part.owner)[None])
            first = len(streams) - 1 if keep is None else 0
            blocks = [model.last_token(streams[block][0], block) for block in range(first, len(streams))]
            rows = place_BL
        sums = [block.sums(_on(model, rows)) for block in blocks]
        hidden_Bd = model.after(blocks[-1], sums[-1]).float().cpu()
        states = [] if keep is None else [block.state(read) for block, read in zip(blocks, sums, strict=True)]
        return users, hidden_Bd, states

    groups = alike(np.where(lengths <= LONGEST, lengths, 0), GROUP_TOKENS)
    with Progress("encode", histories.events, "events") as progress:
        for users, hidden_Bd, states in each(encode, groups, model.tangents.weight.device):
            hidden_Ud[torch.from_numpy(users)] = hidden_Bd
            if keep is not None:
                keep(users, states)
            progress.update(int(lengths[users].sum()))
        for user in np.flatnonzero(lengths > LONGEST):
            hidden_Ud[user], states = _in_pieces(
                model, histories.items[histories.offsets[user] : histories.offsets[user + 1]]
            )
            if keep is not None:
                keep(np.array([user]), states)
            progress.update(int(lengths[user]))
    return hidden_Ud


def _on(model: HMamba, array: IntArray) -> Tensor:
    return torch.from_numpy(array).to(model.tangents.weight.device)


def _aligned(lengths: IntArray) -> IntArray:
    """Numbers (B, L) from 1 of the events of consecutive sequences, aligned to the right; 0 is left padding."""
    place = np.zeros((len(lengths), int(lengths.max())), dtype=np.int64)
    column = spans(place.shape[1] - lengths, lengths)
    place[owners(lengths), column] = np.arange(1, len(column) + 1)
    return place


def _in_pieces(model: HMamba, items: IntArray) -> tuple[Tensor, list[BlockState]]:
    """Hidden state (d,) and block states after a sequence that is encoded piece by piece."""
    states = model.start(1)
    for start in range(0, len(items), LONGEST):
        hidden_BTd, states = model.advance(_on(model, items[start : start + LONGEST])[None], states)
    return hidden_BTd[0, -1].float().cpu(), states
