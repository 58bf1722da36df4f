"""Scoring users under five rules that remove half of the items, against scoring them without rules.

The target is of a whole night, see :mod:`bench.rules`.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from bench.speed.rounds import Figure, check, in_turns
from hmamba.candidates.ruled import Ruled
from hmamba.candidates.score import ModelScorer, write_candidates
from hmamba.clock import end_of
from hmamba.columns import ITEM_ID, USER_ID
from hmamba.config import Config, ModelConfig
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.manifest import SnapshotFile, SnapshotManifest
from hmamba.index import index as item_index
from hmamba.model.hmamba import HMamba
from hmamba.models.files import Provenance, StoredModel
from hmamba.rules.files import write_rules
from hmamba.rules.night import NightRules
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import MICROSECONDS_A_DAY, Histories, midnight, offsets_of
from hmamba.storage.layout import Layout
from hmamba.storage.run_layout import DESCRIBED_ITEMS, ITEMS, users_name
from hmamba.terms.base import WeightedTerm
from hmamba.terms.cooccurrence import Cooccurrence
from hmamba.warehouse.tables import create_tables

log = logging.getLogger("hmamba")

OURS, PEER = "with five rules", "without rules"
DAY = date(2024, 6, 1)
_ITEMS, _LENGTH, _K, _BLOCK, _SPREAD = 30_000, 50, 100, 1 << 14, 0.3
RULES = """
[[deny]]
name = "in stock"
where = "items.stock = 0"

[[deny]]
name = "no alcohol under 18"
where = "items.kind < 15"
users_where = "coalesce(users.age, 0) < 18"

[[allow]]
name = "sold in the country"
where = "items.country = users.country OR items.country = 'all'"
users_where = "users.country IS NOT NULL"

[[boost]]
name = "new arrivals"
half_life_days = 14
factor = 1.5

[[cap]]
name = "three of a kind"
by = "items.kind"
most = 3
"""


class _Shop:
    """One shard of users, an untrained model of the default shape with co-occurrence, and rules."""

    def __init__(self, users: int, root: Path) -> None:
        torch.manual_seed(0)
        model = HMamba(ModelConfig(score_terms=()), _ITEMS).eval()
        with torch.no_grad():  # scores as far apart as those of a trained model
            model.tangents.weight.normal_(std=_SPREAD)
        random = np.random.default_rng(0)
        names = pa.array([f"user-{number:08d}" for number in range(users)], pa.large_string())
        items = np.minimum(random.zipf(1.2, users * _LENGTH), _ITEMS).astype(np.int64)
        times = midnight(DAY) - np.tile(np.arange(_LENGTH, 0, -1), users) * MICROSECONDS_A_DAY
        asked = np.full(users, midnight(DAY) + MICROSECONDS_A_DAY)
        self.histories = Histories(names, offsets_of(np.full(users, _LENGTH)), items, times, asked=asked)
        counted = Cooccurrence.count(self.histories, _ITEMS + 1)
        model.counted_terms = [WeightedTerm(counted, Cooccurrence.features)]
        ids = pa.array([None, *(f"item-{number}" for number in range(1, _ITEMS + 1))])
        mask = np.r_[0, np.ones(_ITEMS, dtype=np.int64)]
        origin = Provenance(DAY, None, "s", 0, "x")
        self.stored = StoredModel("v1", origin, model, CandidateItems.of(mask, 1), ids)
        self.index = item_index.build(self.stored, self.stored.candidate_items)
        self.root, self.popularity = root, np.ones(_ITEMS + 1, dtype=np.int64)
        self.rules = self._rules(ids, names, random)

    def _rules(self, ids: pa.Array, names: pa.Array, random: np.random.Generator) -> NightRules:
        self.root.mkdir()
        (self.root / "rules.toml").write_text(RULES, encoding="utf-8")
        run = Layout.at(self.root).run(DAY, "one")
        folder = run.sequences
        folder.mkdir(parents=True)
        countries = np.array(["all", "all", "all", "DE", "FR", "AT"])
        described = {
            "item_index": pa.array(np.arange(1, _ITEMS + 1), pa.int32()),
            "item_id": ids.slice(1),
            "first_seen": pa.array(midnight(DAY) - random.integers(0, 400, _ITEMS) * MICROSECONDS_A_DAY).cast(
                pa.timestamp("us")
            ),
            "stock": random.integers(0, 5, _ITEMS),
            "kind": random.integers(0, 150, _ITEMS),
            "country": countries[random.integers(0, 6, _ITEMS)],
        }
        pq.write_table(pa.table(described).select(["item_index", "item_id"]), folder / ITEMS)
        pq.write_table(pa.table(described), folder / DESCRIBED_ITEMS)
        people = {
            USER_ID: names.cast(pa.string()),
            "age": random.integers(10, 80, len(names)),
            "country": countries[random.integers(2, 6, len(names))],
        }
        pq.write_table(pa.table(people), folder / users_name(0))
        written = [folder / name for name in (ITEMS, DESCRIBED_ITEMS, users_name(0))]
        manifest = SnapshotManifest(
            day=DAY, end=end_of(DAY), by_position=False, shards=1, users=len(names), events=self.histories.events,
            items=_ITEMS, newest_event=None, batch=1, digest="x",
            files=tuple(SnapshotFile(**HashedFile.of(path).model_dump(), rows=1) for path in written),
        )  # fmt: skip
        with duckdb.connect() as connection:
            create_tables(connection)
            write_rules(connection, folder, self.root, Config(), manifest, end_of(DAY))
        rules = NightRules.open(Snapshot.open(run))
        assert rules is not None
        return rules

    def score(self, name: str, ruled: Ruled | None = None) -> pa.Table:
        """Score the users; returns their candidates."""
        part = self.root / f"{name}.parquet"
        users = len(self.histories)
        blocks = (
            self.histories.select(np.arange(start, min(start + _BLOCK, users))) for start in range(0, users, _BLOCK)
        )
        scorer = ModelScorer(self.stored, self.index, self.popularity, _K, True, ruled=ruled)
        points = self.root / f"{name}-points.parquet"
        write_candidates(scorer, self.stored.item_ids, blocks, candidates=part, vectors=points)
        return pq.read_table(part)

    def with_rules(self) -> pa.Table:
        """Under the rules."""
        return self.score("ruled", Ruled(self.rules, _K, 0, self.index))

    def without_rules(self) -> pa.Table:
        """Without rules."""
        return self.score("plain")


def figures(*, quick: bool) -> Iterator[Figure]:
    """One figure: the score step of one shard, encoding and writing included."""
    users, rounds = (2_000, 3) if quick else (20_000, 5)
    with tempfile.TemporaryDirectory(prefix="hmamba-") as folder:
        shop = _Shop(users, Path(folder) / "root")
        ruled = shop.with_rules()
        described = pq.read_table(shop.rules.files.described_items)
        stock = described.filter(pc.equal(described["stock"], 0))[ITEM_ID].combine_chunks()
        check(not pc.any(pc.is_in(ruled[ITEM_ID], value_set=stock)).as_py(), "an item without stock is recommended")
        plain = shop.without_rules()
        best, last = (plain.filter(pc.equal(plain["rank"], rank))["score"].to_numpy() for rank in (1, _K))
        log.info("bench: the score falls by %.2f from rank 1 to rank %d", np.mean(best - last), _K)
        check(len(ruled) == users * _K, f"{users * _K - len(ruled)} rows are missing")
        seconds, spread = in_turns({OURS: shop.with_rules, PEER: shop.without_rules}, rounds)
        what = f"score of {users:,} users, {_ITEMS:,} items, k = {_K}"
        yield Figure(what, OURS, PEER, (users, "users"), seconds, spread)
