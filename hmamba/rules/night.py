"""The rules of a night, ready for blocks of users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import ITEM_INDEX, USER_ID
from hmamba.config import WarehouseConfig
from hmamba.rules.choices import BoolArray, Choice, Matcher, MixedBlock, taken_within, truth
from hmamba.rules.files import RulesDocument
from hmamba.rules.items import ItemRules
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import Histories, IntArray
from hmamba.sequences.sets import contained, distinct
from hmamba.storage.run_layout import RULE_ITEMS, RULES, rule_users_name


@dataclass(frozen=True)
class NightRules(ItemRules):
    """The rules of a run.

    Attributes:
        files: the snapshot that they belong to.
    """

    files: Snapshot

    @classmethod
    def open(cls, files: Snapshot, config: WarehouseConfig | None = None) -> NightRules | None:
        """Read the rules of a snapshot; None if it has none.

        Args:
            files: the snapshot.
            config: limits of DuckDB.

        Raises:
            ConfigError: a condition is wrong.
            InputError: a file is damaged.
        """
        if not files.names(RULES):
            return None
        written = RulesDocument.read(files.verified(RULES))
        listed, path = pq.read_table(files.verified(RULE_ITEMS)), files.described_users(0)
        users = None if path is None else pq.read_schema(path)
        own = ItemRules.of(written.book, pq.read_table(files.described_items), users, written.end, listed, config)
        return cls(**vars(own), files=files)

    def block(self, histories: Histories, *, shard: int | None = None, leave_out: tuple[str, ...] = ()) -> BlockRules:
        """The rules for a block of R histories.

        Args:
            histories: the histories; a user may occur several times.
            shard: the shard of the users; None: they are in any.
            leave_out: kinds of rules that are not applied.
        """
        names = histories.users.cast(pa.string()).dictionary_encode()
        users = names.dictionary
        numbers = range(self.files.manifest.shards) if shard is None else range(shard, shard + 1)
        described = self._described(users, numbers)
        pairs = self._named(users, numbers)
        return BlockRules(self, histories, names.indices.to_numpy().astype(np.int64), described, pairs, leave_out)

    def _described(self, users: pa.Array, shards: range) -> pa.Table:
        """The described users (U) in the order of ``users``; nulls where a user is not described."""
        schema = self.items.expressions.users
        if not self.needs_users:
            return pa.table({USER_ID: users})
        paths = [path for shard in shards if (path := self.files.described_users(shard)) is not None]
        found = pa.concat_tables([schema.empty_table(), *(_of_users(path, users) for path in paths)])
        place = pc.index_in(users, value_set=found[USER_ID].combine_chunks())
        taken = found.take(place)
        return taken.set_column(taken.schema.get_field_index(USER_ID), USER_ID, users)

    def _named(self, users: pa.Array, shards: range) -> dict[str, tuple[IntArray, IntArray]]:
        """Users, as positions among ``users``, and items that rules name; -1 for no item."""
        tables = [_of_users(self.files.verified(rule_users_name(shard)), users) for shard in shards]
        table = pa.concat_tables(tables)
        user = pc.index_in(table[USER_ID].combine_chunks(), value_set=users).to_numpy()
        item = pc.fill_null(table[ITEM_INDEX], -1).to_numpy()
        rules = table["rule"].to_numpy(zero_copy_only=False)
        return {str(name): (user[rules == name], item[rules == name]) for name in set(rules.tolist())}


def _of_users(path: Path, users: pa.Array) -> pa.Table:
    """Rows of a file that is sorted by user, of some users; row groups without any are not read."""
    if not len(users):
        return pq.read_schema(path).remove_metadata().empty_table()
    bounds = pc.min_max(users)
    within = (pc.field(USER_ID) >= bounds["min"]) & (pc.field(USER_ID) <= bounds["max"])
    table = pq.read_table(path, filters=within).replace_schema_metadata()
    return table.filter(pc.is_in(table[USER_ID], value_set=users))


class BlockRules:
    """The rules for R rows of U users.

    Attributes:
        night: the rules.
        filters: each rule that removes items, and for which pairs of a row and an item.
        boosts: each boost, and for which pairs.
    """

    def __init__(
        self,
        night: NightRules,
        histories: Histories,
        user_of: IntArray,
        described: pa.Table,
        named: Mapping[str, tuple[IntArray, IntArray]],
        leave_out: tuple[str, ...] = (),
    ) -> None:
        self.night, self._histories, self._user_of = night, histories, user_of
        self._described, self._named, self._size = described, named, len(night.items.place)
        self.filters = {
            rule.name: self._matcher(night.choices[rule.name])
            for rule in night.book.filters
            if rule.kind not in leave_out
        }
        self._always = np.zeros(self._size, dtype=bool)
        for matcher in self.filters.values():
            if matcher.choice.removed is not None:
                self._always |= matcher.choice.removed
        self.boosts = [(boost, self._matcher(boost.choice)) for boost in night.boosts]
        self._pins = [(rule, self._matcher(night.choices[rule.name])) for rule in night.book.pin]

    def __len__(self) -> int:
        return len(self._user_of)

    @property
    def has_pins(self) -> bool:
        """Whether there are pins."""
        return bool(self._pins)

    def keeps(self, rows: IntArray, items: IntArray) -> BoolArray:
        """Which pairs (E,) of a row and an item index no rule removes."""
        keep = ~self._always[items]
        left = np.flatnonzero(keep)
        for matcher in self.filters.values():
            if matcher.choice.removed is None:
                removed = matcher(rows[left], items[left])
                keep[left[removed]] = False
                left = left[~removed]
        return keep

    def bonus(self, rows: IntArray, items: IntArray) -> npt.NDArray[np.float64]:
        """(E,) sum of the logs of the factors of pairs of a row and an item index."""
        total = np.zeros(len(items))
        for boost, matcher in self.boosts:
            total += np.where(matcher(rows, items), boost.logs[items], 0.0)
        return total

    def pins(self, k: int, candidate: BoolArray, seen: IntArray | None) -> IntArray | None:
        """Items at fixed ranks (R, k), -1 where there is none; None without pins.

        An item that is no candidate, or that a rule removes, or that the user has seen, is left out, and those after it
        move up. A rank that is taken already is passed over.

        Args:
            k: number of ranks.
            candidate: (size,) items that may be recommended.
            seen: ascending keys (row times size plus item) of seen items that may not be; None if they may.
        """
        if not self._pins:
            return None
        rows = np.arange(len(self))
        pins = np.full((len(self), k), -1, dtype=np.int64)
        for rule, matcher in self._pins:
            next_ = np.full(len(self), rule.rank - 1)
            for item in self.night.pinned[rule.name].tolist():
                if item < 0 or item >= len(candidate) or not candidate[item]:
                    continue
                items = np.full(len(self), item)
                wanted = matcher.of_rows(rows) & self.keeps(rows, items) & ~(pins == item).any(axis=1)
                if seen is not None:
                    wanted &= ~contained(rows * self._size + items, seen)
                while True:
                    inside = np.minimum(next_, k - 1)
                    passed = wanted & (next_ < k) & (pins[rows, inside] >= 0)
                    if not passed.any():
                        break
                    next_ += passed
                wanted &= next_ < k
                pins[rows[wanted], next_[wanted]] = item
                next_ += wanted
        return pins

    def _matcher(self, choice: Choice) -> Matcher:
        found, count = self.night.items.expressions, len(self._described)
        users, pairs = None, None
        own = self._named.get(choice.rule.name, (np.zeros(0, np.int64), np.zeros(0, np.int64)))
        if choice.names_pairs:
            keys = own[0] * self._size + own[1]
            pairs = distinct(keys[own[1] >= 0])
            if choice.is_allow:
                users = np.zeros(count, dtype=bool)
                users[own[0]] = True
        elif choice.names_users:
            users = np.zeros(count, dtype=bool)
            users[own[0][own[1] < 0]] = True
        if choice.of_users is not None:
            users = truth(found.of_users(choice.of_users, self._described))
        mixed = None if choice.mixed is None else MixedBlock.of(choice.mixed, found, self._described)
        days = choice.taken_days
        taken = None if days is None else taken_within(self._histories, days, self._size)
        return Matcher(choice, self._size, users, mixed, pairs, taken, self._user_of)
