"""Rules as far as they do not depend on users: checked against the columns of items and users, and evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import FIRST_SEEN, ITEM_ID, ITEM_INDEX, USER_ID
from hmamba.config import WarehouseConfig
from hmamba.contracts.manifest import SnapshotManifest
from hmamba.rules.choices import BoolArray, Choice, Items
from hmamba.rules.document import Boost, Pin, Rule, RuleBook
from hmamba.rules.expressions import Expressions
from hmamba.rules.files import RulesDocument
from hmamba.rules.tables import Likeness, Limit
from hmamba.sequences.histories import IntArray
from hmamba.storage.run_layout import DESCRIBED_ITEMS, ITEMS, RULE_ITEMS, RULES, users_name

_SECONDS_A_DAY = 86_400.0
VECTORS = "vectors"
"""Value of diversity.on for vectors of the model."""
_NO_TOP = 1 << 31


@dataclass(frozen=True)
class Boosted:
    """A boost.

    Attributes:
        choice: its items and users.
        logs: (size,) log of the factor of each item index.
    """

    choice: Choice
    logs: npt.NDArray[np.float64]


@dataclass(frozen=True)
class ItemRules:
    """Rules and the items that they are about.

    Attributes:
        book: the rules.
        items: the described items.
        choices: choice of each rule that removes items or pins them, by name.
        boosts: the boosts.
        limits: the caps.
        likeness: groups for diversity; None without diversity, or by vectors.
        pinned: item indices of each pin rule, in its order; -1 for unknown ids.
    """

    book: RuleBook
    items: Items
    choices: Mapping[str, Choice]
    boosts: tuple[Boosted, ...]
    limits: tuple[Limit, ...]
    likeness: Likeness | None
    pinned: Mapping[str, IntArray]

    @classmethod
    def of(
        cls,
        book: RuleBook,
        described: pa.Table,
        users: pa.Schema | None,
        end: datetime,
        listed: pa.Table | None = None,
        config: WarehouseConfig | None = None,
    ) -> Self:
        """Check the rules against the columns of items and users, and evaluate what depends on items only.

        Args:
            book: the rules.
            described: the described items.
            users: columns of the described users; None without any.
            end: end of the day, exclusive, naive UTC.
            listed: rule and item_index of the items that rules name; None for none.
            config: limits of DuckDB.

        Raises:
            ConfigError: a condition is wrong.
        """
        index = described[ITEM_INDEX].to_numpy()
        place = np.full(int(index.max(initial=0)) + 1, -1, dtype=np.int64)
        place[index] = np.arange(len(index))
        schema = pa.schema([(USER_ID, pa.string())]) if users is None else users.remove_metadata()
        items = Items(Expressions(described, schema, end, config), place)
        lists: dict[str, list[int]] = {}
        if listed is not None:
            for name, item in zip(listed["rule"].to_pylist(), listed[ITEM_INDEX].to_pylist(), strict=True):
                lists.setdefault(name, []).append(item)

        def choice(rule: Rule) -> Choice:
            return Choice.of(rule, items, np.array(lists.get(rule.name, []), dtype=np.int64))

        likeness = None
        if book.diversity is not None and book.diversity.on != VECTORS:
            likeness = Likeness(_groups(items, book.diversity.on, "rules.toml: [diversity]: on"))
        return cls(
            book=book,
            items=items,
            choices={rule.name: choice(rule) for rule in (*book.filters, *book.pin)},
            boosts=tuple(Boosted(choice(rule), _logs(rule, items)) for rule in book.boost),
            limits=tuple(
                Limit(_groups(items, cap.by, f"rules.toml: [[cap]] {cap.name!r}: by"), cap.most, cap.top or _NO_TOP)
                for cap in book.cap
            ),
            likeness=likeness,
            pinned={pin.name: _indices(pin, described) for pin in book.pin},
        )

    @property
    def size(self) -> int:
        """Number of item indices."""
        return len(self.items.place)

    @cached_property
    def always(self) -> BoolArray:
        """(size,) items that are not recommended to anybody."""
        removed = np.zeros(len(self.items.place), dtype=bool)
        for rule in self.book.filters:
            own = self.choices[rule.name].removed
            if own is not None:
                removed |= own
        return removed

    @cached_property
    def rise(self) -> npt.NDArray[np.float64]:
        """(size,) upper bound on the logs of the factors of each item together, at least 0."""
        total = np.zeros(self.size)
        for boost in self.boosts:
            own = np.maximum(boost.logs, 0)
            total += own if boost.choice.items is None else np.where(boost.choice.items, own, 0)
        return total

    @property
    def needs_users(self) -> bool:
        """Whether a rule reads columns of users."""
        return any(choice.needs_users for choice in (*self.choices.values(), *(boost.choice for boost in self.boosts)))


def check_rules(folder: Path, manifest: SnapshotManifest, config: WarehouseConfig | None = None) -> None:
    """Check the rules in the folder of a snapshot against its descriptions; nothing without rules.

    Raises:
        ConfigError: a condition is wrong.
    """
    names = {file.name for file in manifest.files}
    if RULES in names:
        written = RulesDocument.read(folder / RULES)
        described = pq.read_table(folder / (DESCRIBED_ITEMS if DESCRIBED_ITEMS in names else ITEMS))
        users = pq.read_schema(folder / users_name(0)) if users_name(0) in names else None
        ItemRules.of(written.book, described, users, written.end, pq.read_table(folder / RULE_ITEMS), config)


def _groups(items: Items, text: str, what: str) -> IntArray:
    """(size,) group of each item by the value of an expression; -1 where it is null or there is no item."""
    found = items.expressions
    values = found.of_items(found.checked(text, what, "value", ("items",)))
    codes, _ = found.classes(pa.table({"value": values}), ("value",))
    return items.spread(np.where(np.asarray(values.is_valid()), codes, -1), -1)


def _logs(rule: Boost, items: Items) -> npt.NDArray[np.float64]:
    """(size,) log of the factor of each item index."""
    size = len(items.place)
    if rule.half_life_days is None:
        return np.full(size, np.log(rule.factor))
    found = items.expressions
    default = f'coalesce(items.{FIRST_SEEN}, night."end")'
    what = f"rules.toml: [[boost]] {rule.name!r}: since"
    values = found.of_items(found.checked(rule.since or default, what, "time", ("items",)))
    times = values.cast(pa.timestamp("us"), safe=False)
    age = pc.subtract(pa.scalar(found.end, pa.timestamp("us")), times).cast(pa.int64())
    days = np.asarray(age.cast(pa.float64()).fill_null(np.inf)) / (1e6 * _SECONDS_A_DAY)
    factors = 1 + (rule.factor - 1) * 0.5 ** (np.maximum(days, 0) / rule.half_life_days)
    return items.spread(np.log(factors), 0.0)


def _indices(pin: Pin, described: pa.Table) -> IntArray:
    """Item indices of the items of a pin, in its order; -1 for unknown ids."""
    place = pc.index_in(pa.array(pin.items, pa.string()), value_set=described[ITEM_ID].combine_chunks())
    return np.asarray(pc.fill_null(described[ITEM_INDEX].combine_chunks().take(place), -1), dtype=np.int64)
