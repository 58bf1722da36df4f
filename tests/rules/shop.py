"""A small shop with described items and users, its snapshot, and rules for it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from hmamba.clock import end_of
from hmamba.config import Config, parse
from hmamba.contracts.manifest import SnapshotManifest
from hmamba.models.files import vocabulary
from hmamba.rules.files import write_rules
from hmamba.rules.night import NightRules
from hmamba.sequences.described import describe
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import Histories, midnight, read_histories
from hmamba.sequences.snapshot import write_snapshot
from hmamba.storage.layout import Layout
from hmamba.warehouse.tables import create_tables
from tests.landing import DAY
from tests.scored import fill
from tests.synthetic import make_interactions

ITEMS, USERS, SHARDS = 60, 40, 2
CATEGORIES = ("wine", "beer", "bread", "toys", "books", "games")
COUNTRIES = ("DE", "FR", "AT")
SETTINGS = """
[catalogue]
path = "landing/products.parquet"
[users]
path = "landing/users.parquet"
"""


def products() -> pd.DataFrame:
    """Described items: a kind in four, a stock, a price, times of sale, countries and whether it is alcohol."""
    random, number = np.random.default_rng(1), np.arange(ITEMS)
    start = pd.Timestamp(DAY) - pd.to_timedelta(random.integers(-10, 40, ITEMS), "D")
    return pd.DataFrame(
        {
            "item_id": [f"item-{n:03d}" for n in number],
            "kind": [("wine", "beer", "bread", "toys")[n % 4] if n % 11 else None for n in number],
            "category": [
                ("wine", "beer", "bread", "toys", "books", "games")[n % 6] if n % 11 else None for n in number
            ],
            "min_age": np.where(number % 4 < 2, 18, 0),
            "stock": np.where(number % 5 == 0, 0, number),
            "price": np.round(random.random(ITEMS) * 50, 2),
            "on_sale": start.astype("datetime64[us]"),
            "off_sale": (start + pd.to_timedelta(random.integers(1, 40, ITEMS), "D")).astype("datetime64[us]"),
            "countries": [[c for c in COUNTRIES if random.random() < 0.6] for _ in number],
            "alcohol": number % 4 < 2,
        }
    )


def people() -> pd.DataFrame:
    """Described users: age, country and segment; every seventh is not described."""
    number = np.array([n for n in range(USERS) if n % 7])
    return pd.DataFrame(
        {
            "user_id": [f"user-{n:03d}" for n in number],
            "age": 10 + number,
            "country": [COUNTRIES[n % 3] if n % 5 else None for n in number],
            "segment": ["family" if n % 3 == 0 else "new" if n % 2 else "loyal" for n in number],
        }
    )


@dataclass
class Shop:
    """A root with landing files and a snapshot, whose rules can be written again."""

    root: Path
    config: Config
    snapshot: SnapshotManifest

    @classmethod
    def open(cls, root: Path, settings: str = SETTINGS) -> Shop:
        landing = root / "landing"
        landing.mkdir(parents=True)
        products().to_parquet(landing / "products.parquet", index=False)
        people().to_parquet(landing / "users.parquet", index=False)
        config = parse(tomllib.loads(settings), "settings")
        run = Layout.at(root).run(DAY, "manual")
        with duckdb.connect() as connection:
            fill(connection, make_interactions(users=USERS, items=ITEMS))
            manifest = write_snapshot(connection, run.sequences, DAY, SHARDS)
            manifest = describe(connection, run.sequences, root, config, manifest)
        return cls(root, config, manifest)

    def rules(self, text: str, day: date = DAY) -> NightRules:
        """The rules of a night, from the text of rules.toml."""
        (self.root / "rules.toml").write_text(text, encoding="utf-8")
        run = Layout.at(self.root).run(DAY, "manual")
        with duckdb.connect() as connection:
            create_tables(connection)
            write_rules(connection, run.sequences, self.root, self.config, self.snapshot, end_of(day))
        files = Snapshot.open(run)
        found = NightRules.open(files)
        assert found is not None
        return found

    def histories(self) -> Histories:
        """The histories of all users, asked for the day after."""
        return self._histories

    @cached_property
    def _histories(self) -> Histories:
        files = Snapshot.open(Layout.at(self.root).run(DAY, "manual"))
        return read_histories(files.shards).asked_at(midnight(DAY + timedelta(days=1)))

    def write(self, name: str, text: str) -> None:
        """Write a file into the landing folder."""
        (self.root / "landing" / name).write_text(text, encoding="utf-8")

    @cached_property
    def ids(self) -> list[str | None]:
        """Item ids by index."""
        files = Snapshot.open(Layout.at(self.root).run(DAY, "manual"))
        return list(vocabulary(files.items).to_pylist())


def end() -> datetime:
    """The end of the day."""
    return end_of(DAY)
