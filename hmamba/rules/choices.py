"""Which items and users a rule is about: what it names and its conditions, as masks and keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hmamba.errors import ConfigError
from hmamba.rules.document import Allow, Available, Listed, NotAgain, OfItems, OfUsers, Rule
from hmamba.rules.expressions import Expression, Expressions
from hmamba.sequences.histories import Histories, IntArray
from hmamba.sequences.sets import contained, distinct

BoolArray: TypeAlias = npt.NDArray[np.bool_]

_MICROSECONDS_A_DAY = 86_400_000_000
_MATRIX = 1 << 22
"""Largest number of pairs of a class of users and a class of items that are evaluated in advance."""


def truth(values: pa.Array) -> BoolArray:
    """A condition's values; unknown is not true."""
    return np.asarray(pc.fill_null(values.cast(pa.bool_()), False))


@dataclass(frozen=True)
class Items:
    """Described items by item index.

    Attributes:
        expressions: evaluates conditions on them.
        place: (size,) place of each item index among them; -1 for indices without an item.
    """

    expressions: Expressions
    place: IntArray

    def spread(self, values: npt.NDArray[Any], nothing: Any) -> npt.NDArray[Any]:
        """Values (I,) of the items by item index (size,); ``nothing`` where there is no item."""
        found = np.full(len(self.place), nothing, dtype=values.dtype)
        known = self.place >= 0
        found[known] = values[self.place[known]]
        return found

    def where(self, expression: Expression) -> BoolArray:
        """(size,) of which items a condition over items is true."""
        return self.spread(truth(self.expressions.of_items(expression)), False)


@dataclass(frozen=True)
class Mixed:
    """A condition over items and users. Items that agree in the columns that it reads are one class.

    Attributes:
        expression: the condition.
        item_class: (size,) class of each item index; -1 where there is no item.
        item_of: (C,) the place of an item of each class.
    """

    expression: Expression
    item_class: IntArray
    item_of: IntArray

    @classmethod
    def of(cls, expression: Expression, items: Items) -> Mixed:
        """Number the classes of the items."""
        codes, item_of = items.expressions.classes(items.expressions.items, expression.of_items)
        return cls(expression, items.spread(codes, -1), item_of)


@dataclass(frozen=True)
class MixedBlock:
    """A condition over items and users, for a block of described users (U).

    Attributes:
        mixed: the condition.
        expressions: evaluates it.
        user_class: (U,) class of each user.
        user_of: (B,) a user of each class.
        users: the described users.
        matrix: (B, C) whether it is true, if there are few pairs of classes.
    """

    mixed: Mixed
    expressions: Expressions
    user_class: IntArray
    user_of: IntArray
    users: pa.Table
    matrix: BoolArray | None

    @classmethod
    def of(cls, mixed: Mixed, expressions: Expressions, users: pa.Table) -> MixedBlock:
        """Number the classes of the users, and evaluate all pairs of classes unless there are too many."""
        user_class, user_of = expressions.classes(users, mixed.expression.of_users)
        block = cls(mixed, expressions, user_class, user_of, users, None)
        width = len(mixed.item_of)
        if len(user_of) * width > _MATRIX:
            return block
        every = block.evaluated(np.arange(len(user_of) * width))
        return cls(mixed, expressions, user_class, user_of, users, every.reshape(len(user_of), width))

    def evaluated(self, keys: IntArray) -> BoolArray:
        """Whether it is true for pairs of classes: user class times the number of item classes, plus item class."""
        width = max(len(self.mixed.item_of), 1)
        rows, places = self.user_of[keys // width], self.mixed.item_of[keys % width]
        return truth(self.expressions.of_pairs(self.mixed.expression, self.users, rows, places))

    def __call__(self, users: IntArray, items: IntArray) -> BoolArray:
        """Whether it is true for pairs (E,) of a user of the block and an item index."""
        of_user, of_item = self.user_class[users], self.mixed.item_class[items]
        if self.matrix is not None:
            return self.matrix[of_user, of_item] & (of_item >= 0) if self.matrix.size else np.zeros(len(items), bool)
        keys = of_user * len(self.mixed.item_of) + np.maximum(of_item, 0)
        needed, place = np.unique(keys, return_inverse=True)
        return self.evaluated(needed)[place] & (of_item >= 0)


@dataclass(frozen=True)
class Choice:
    """The items and users of a rule, as far as they do not depend on a block of users.

    Attributes:
        rule: the rule.
        items: (size,) its items; None for all.
        of_users: a condition over users; None without one.
        mixed: a condition over items and users; None without one.
        names_users: whether the users are named in lists.
        names_pairs: whether users and their items are named in lists.
        taken_days: only items that the user has taken within so many days; None without this condition.
        is_allow: whether all items but those are meant.
    """

    rule: Rule
    items: BoolArray | None = None
    of_users: Expression | None = None
    mixed: Mixed | None = None
    names_users: bool = False
    names_pairs: bool = False
    taken_days: float | None = None
    is_allow: bool = False

    @classmethod
    def of(cls, rule: Rule, items: Items, listed: IntArray) -> Choice:
        """The choice of a rule.

        Args:
            rule: a rule about items or users.
            items: the items.
            listed: item indices that the rule names in lists or that its file says are unavailable.

        Raises:
            ConfigError: a condition is wrong.
        """
        own = np.zeros(len(items.place), dtype=bool)
        own[listed] = True
        if isinstance(rule, NotAgain):
            return cls(rule, names_pairs=True)
        if isinstance(rule, Available):
            return cls(rule, own if rule.file is not None else _unavailable(rule, items))
        what = f"rules.toml: [[{rule.kind}]] {rule.name!r}"
        mask, of_users, mixed = None, None, None
        if isinstance(rule, OfItems):
            if rule.items is not None or rule.items_file is not None:
                mask = own
            if rule.where is not None:
                condition = items.expressions.checked(rule.where, f"{what}: where", "condition")
                if condition.is_mixed:
                    mixed = Mixed.of(condition, items)
                elif condition.of_users:
                    raise ConfigError(
                        f"{what}: where = {rule.where!r} reads columns of users only. Write it as users_where, and "
                        "name the items."
                    )
                else:
                    mask = items.where(condition)
        if isinstance(rule, OfUsers) and rule.users_where is not None:
            of_users = items.expressions.checked(rule.users_where, f"{what}: users_where", "condition", ("users",))
        return cls(
            rule,
            mask,
            of_users,
            mixed,
            isinstance(rule, OfUsers) and (rule.users is not None or rule.users_file is not None),
            isinstance(rule, Listed) and rule.pairs_file is not None,
            rule.taken_within_days if isinstance(rule, Listed) else None,
            isinstance(rule, Allow),
        )

    @property
    def is_for_all(self) -> bool:
        """Whether it is the same for all users."""
        return (
            self.of_users is None
            and self.mixed is None
            and self.taken_days is None
            and not (self.names_users or self.names_pairs)
        )

    @property
    def needs_users(self) -> bool:
        """Whether it reads columns of users."""
        return self.of_users is not None or self.mixed is not None

    @property
    def removed(self) -> BoolArray | None:
        """(size,) the items that a filter removes for all users; None if that depends on the user."""
        if not self.is_for_all or self.items is None:
            return None
        return ~self.items if self.is_allow else self.items


def _unavailable(rule: Available, items: Items) -> BoolArray:
    """(size,) items that are not available by the columns of a rule."""
    what, found = f"rules.toml: [[available]] {rule.name!r}", items.expressions
    count = len(found.items)
    since, until = np.ones(count, dtype=bool), np.ones(count, dtype=bool)
    is_known = np.zeros(count, dtype=bool)
    for key, text in (("from", rule.since), ("until", rule.until)):
        if text is not None:
            values = found.of_items(found.checked(text, f"{what}: {key}", "time", ("items",)))
            times = values.cast(pa.timestamp("us"), safe=False)
            is_known |= np.asarray(times.is_valid())
            end = pa.scalar(found.end, pa.timestamp("us"))
            if key == "from":
                since = np.asarray(pc.fill_null(pc.less_equal(times, end), True))
            else:
                until = np.asarray(pc.fill_null(pc.greater(times, end), True))
    available = since & until & (is_known | (rule.missing == "available"))
    return items.spread(~available, rule.missing == "unavailable")


@dataclass(frozen=True)
class Matcher:
    """The pairs of a user and an item that a rule is about, for a block of R rows of U users.

    Attributes:
        choice: the rule's choice.
        size: number of item indices.
        users: (U,) the users; None for all.
        mixed: a condition over users and items; None without one.
        pairs: ascending keys (user times size plus item) of named pairs; None without them.
        taken: ascending keys (row times size plus item) of what was taken lately; None without this condition.
        user_of: (R,) user of each row.
    """

    choice: Choice
    size: int
    users: BoolArray | None
    mixed: MixedBlock | None
    pairs: IntArray | None
    taken: IntArray | None
    user_of: IntArray

    def __call__(self, rows: IntArray, items: IntArray) -> BoolArray:
        """Which pairs (E,) of a row and an item index the rule is about; for an allow rule, those that it rules out."""
        users = self.user_of[rows]
        found = np.ones(len(items), dtype=bool) if self.choice.items is None else self.choice.items[items]
        if self.pairs is not None:
            found &= contained(users * self.size + items, self.pairs)
        if self.taken is not None:
            found &= contained(rows * self.size + items, self.taken)
        if self.mixed is not None:
            at = np.flatnonzero(found)
            found[at] = self.mixed(users[at], items[at])
        if self.choice.is_allow:
            found = ~found
        return found if self.users is None else found & self.users[users]

    def of_rows(self, rows: IntArray) -> BoolArray:
        """For which rows (E,) a rule holds that names no items."""
        return np.ones(len(rows), dtype=bool) if self.users is None else self.users[self.user_of[rows]]


def taken_within(histories: Histories, days: float, size: int) -> IntArray:
    """Ascending keys (row times size plus item) of what was taken within some days before the time of each row."""
    last = np.zeros(len(histories), dtype=np.int64)
    known = histories.lengths > 0
    last[known] = histories.times[histories.offsets[1:][known] - 1]
    asked = last if histories.asked is None else histories.asked
    recent = histories.wanted & (histories.times >= (asked - round(days * _MICROSECONDS_A_DAY))[histories.owner])
    return distinct((histories.owner * size + histories.items)[recent & (histories.items < size)])
