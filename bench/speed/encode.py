"""Users encoded per second, with histories of equal length, against the network of SASRec.

The peer has two layers of attention and feed-forward networks of the model's width, as in SASRec (arXiv 1808.09781) and
RecTools. It uses PyTorch's fused causal attention, no padding, and computes its last layer at the last position only.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.speed.rounds import Figure, check, in_turns
from hmamba.config import ModelConfig
from hmamba.inference.encode import encode_users
from hmamba.model.hmamba import HMamba
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories

TARGETS = {50: None, 200: 3.0, 1_000: 6.0, 4_000: 15.0}
OURS, PEER, WHOLE = "HMamba, 1 layer", "SASRec's network, 2 layers", "HMamba, all positions by the scan"
_ITEMS, _DIM, _HEADS = 10_000, 64, 2
_PEER_TOKENS = 8_192  # tokens of a batch; larger and smaller batches were not faster


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.norm_ffn = nn.LayerNorm(_DIM), nn.LayerNorm(_DIM)
        self.query, self.key_value = nn.Linear(_DIM, _DIM), nn.Linear(_DIM, 2 * _DIM)
        self.out, self.widen, self.narrow = (nn.Linear(_DIM, _DIM) for _ in range(3))

    def forward(self, x_BTd: Tensor, *, last: bool) -> Tensor:
        def heads(part_BTd: Tensor) -> Tensor:
            split: Tensor = part_BTd.unflatten(-1, (_HEADS, -1))
            return split.transpose(1, 2)

        query_BTd = self.norm(x_BTd[:, -1:] if last else x_BTd)
        key, value = (heads(part) for part in self.key_value(x_BTd).chunk(2, dim=-1))
        seen = F.scaled_dot_product_attention(heads(self.query(query_BTd)), key, value, is_causal=not last)
        x_BTd = self.norm_ffn(query_BTd + self.out(seen.transpose(1, 2).flatten(2)))
        out: Tensor = x_BTd + self.narrow(F.relu(self.widen(x_BTd)))
        return out


class Peer(nn.Module):
    """SASRec's network at each user's last position."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.items, self.places = nn.Embedding(_ITEMS + 1, _DIM), nn.Embedding(length, _DIM)
        self.layers = nn.ModuleList(_Attention() for _ in range(2))
        self.norm = nn.LayerNorm(_DIM)

    def forward(self, items_BT: Tensor, *, all_positions: bool = False) -> Tensor:
        """Hidden states (B, d), or (B, T, d)."""
        x_BTd = self.items(items_BT) + self.places.weight
        for number, layer in enumerate(self.layers):
            x_BTd = layer(x_BTd, last=number == 1 and not all_positions)
        hidden: Tensor = self.norm(x_BTd)
        return hidden if all_positions else hidden[:, -1]


def _histories(users: int, length: int) -> Histories:
    """Histories with items by Zipf's law."""
    random = np.random.default_rng(0)
    items = np.minimum(random.zipf(1.2, users * length), _ITEMS).astype(np.int64)
    times = np.tile(np.arange(length), users) * MICROSECONDS_A_DAY
    ids = pa.array([f"u{user}" for user in range(users)], pa.large_string())
    return Histories(ids, np.arange(users + 1) * length, items, times)


def _by_peer(peer: Peer, batches: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([peer(batch) for batch in batches])


def _by_scan(model: HMamba, batches: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([model.encode(batch)[:, -1] for batch in batches])


@torch.inference_mode()
def figures(*, quick: bool) -> Iterator[Figure]:
    """One figure for each length of history."""
    torch.manual_seed(0)
    model = HMamba(ModelConfig(dim=_DIM, layers=1, score_terms=()), _ITEMS).eval()
    tokens, rounds = (40_000, 5) if quick else (200_000, 7)
    for length, target in TARGETS.items():
        users = max(1, tokens // length)
        histories, peer = _histories(users, length), Peer(length).eval()
        items_UT = torch.from_numpy(histories.items).view(users, length)
        batches = items_UT.split(max(1, _PEER_TOKENS // length))

        few = slice(0, min(8, len(batches[0])))
        states = encode_users(model, histories.select(np.arange(users)[few]))
        expected = _by_scan(model, batches[:1])[few]
        check(torch.allclose(states, expected, atol=1e-4), f"states after {length} events differ from the scan's")
        check(
            torch.allclose(peer(items_UT[few]), peer(items_UT[few], all_positions=True)[:, -1], atol=1e-4),
            "the peer's last layer at the last position differs from its last output",
        )
        ways = {
            OURS: partial(encode_users, model, histories),
            PEER: partial(_by_peer, peer, batches),
            WHOLE: partial(_by_scan, model, batches),
        }
        seconds, spread = in_turns(ways, rounds)
        yield Figure(
            f"encode, {length:,} events a user", OURS, PEER, (users, "users"), seconds, spread, target, ways[OURS]
        )
