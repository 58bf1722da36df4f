"""A refresh of 1 % of the users from their carried states, against scoring all users."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from bench.speed.rounds import Figure, check, in_turns
from hmamba.candidates.replace import replace_users
from hmamba.candidates.score import ModelScorer, write_candidates
from hmamba.columns import ITEM_ID, SCORE, USER_ID
from hmamba.config import ModelConfig
from hmamba.index import index as item_index
from hmamba.index.index import ItemIndex
from hmamba.inference.encode import Encode, encode_users
from hmamba.inference.user_states import CarriedStates, StateFiles, write_states
from hmamba.model.hmamba import HMamba
from hmamba.models.files import Provenance, StoredModel
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories, offsets_of

TARGET = 30.0
OURS, PEER = "1 % from carried states", "all users"
_ITEMS, _LENGTH, _NEW, _K, _BLOCK = 10_000, 200, 3, 100, 1 << 13


class _Shard:
    """One shard before and after new events of 1 % of its users."""

    def __init__(self, users: int, folder: Path) -> None:
        torch.manual_seed(0)
        model = HMamba(ModelConfig(score_terms=()), _ITEMS).eval()
        mask = np.r_[0, np.ones(_ITEMS, dtype=np.int64)]
        ids = pa.array([None, *(f"item-{number}" for number in range(1, _ITEMS + 1))])
        self.stored = StoredModel(
            "v1", Provenance(date(2024, 1, 1), None, "s", 0, "x"), model, CandidateItems.of(mask, 1), ids
        )
        self.index: ItemIndex = item_index.build(self.stored, self.stored.candidate_items)
        self.folder, self.files = folder, StateFiles(folder / "states.parquet", folder / "names.parquet")
        random = np.random.default_rng(0)
        length = np.full(users, _LENGTH)
        length[::100] += _NEW
        items = np.minimum(random.zipf(1.2, length.sum()), _ITEMS).astype(np.int64)
        day = np.concatenate([np.arange(n) for n in length])
        names = pa.array([f"user-{number:08d}" for number in range(users)], pa.large_string())
        offsets = offsets_of(length)
        self.now = Histories(names, offsets, items, day * MICROSECONDS_A_DAY)
        self.touched = self.now.select(np.arange(0, users, 100))
        with write_states(self.files, model, "v1") as states:
            self.score(self.now.between(None, _LENGTH * MICROSECONDS_A_DAY), "night", states.encode)

    def score(self, histories: Histories, name: str, encode: Encode = encode_users) -> Path:
        """Score users and write their candidates; returns the file."""
        part = self.folder / f"{name}.parquet"
        blocks = (
            histories.select(np.arange(start, min(start + _BLOCK, len(histories))))
            for start in range(0, len(histories), _BLOCK)
        )
        popularity = np.ones(_ITEMS + 1, dtype=np.int64)
        scorer = ModelScorer(self.stored, self.index, popularity, _K, True, encode)
        points = self.folder / f"{name}-points.parquet"
        write_candidates(scorer, self.stored.item_ids, blocks, candidates=part, vectors=points)
        return part

    def all_users(self) -> Path:
        """Score all users from their whole histories."""
        return self.score(self.now, "all")

    def refresh(self) -> Path:
        """Score the users with new events from their carried states, and replace their rows."""
        with CarriedStates.opened(self.files, self.stored.model, "v1") as carried:
            fresh = self.score(self.touched, "fresh", carried.encode)
        check(carried.reencoded == 0, f"{carried.reencoded} users were encoded from their whole histories")
        target = self.folder / "refreshed.parquet"
        replace_users(self.folder / "night.parquet", self.touched.users.cast(pa.string()), fresh, target)
        return target


def figures(*, quick: bool) -> Iterator[Figure]:
    """One figure, of one shard. The pull, the checks and the copy of the table are the same in both and not timed."""
    users, rounds = (2_000, 3) if quick else (20_000, 5)
    with tempfile.TemporaryDirectory(prefix="hmamba-") as folder:
        shard = _Shard(users, Path(folder))
        tables = [pq.read_table(path) for path in (shard.refresh(), shard.all_users())]
        is_touched = [pc.is_in(table[USER_ID], value_set=shard.touched.users.cast(pa.string())) for table in tables]
        refreshed, expected = (table.filter(mask) for table, mask in zip(tables, is_touched, strict=True))
        check(len(tables[0]) == len(tables[1]), "the refreshed part has another number of rows")
        check(refreshed[USER_ID].equals(expected[USER_ID]), "the refreshed part has other users")
        check(np.allclose(refreshed[SCORE], expected[SCORE], atol=1e-4), "the refreshed scores differ")
        same = np.mean(np.asarray(pc.equal(refreshed[ITEM_ID], expected[ITEM_ID])))
        check(same > 0.99, f"only {same:.1%} of the ranks hold the same item")  # equal scores may swap ranks
        seconds, spread = in_turns({OURS: shard.refresh, PEER: shard.all_users}, rounds)
        what = f"refresh of 1 % of {users:,} users, {_LENGTH} events each, {_NEW} new"
        yield Figure(what, OURS, PEER, (users, "users"), seconds, spread, TARGET, shard.refresh)
