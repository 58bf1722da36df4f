"""Check that a table keeps the rules: one figure for each rule that removes items and for each cap.

The figures are counted in SQL over the rows of the table, independently of the code that made the lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import EVENT_TIME, IS_TARGET, ITEM_INDEX, USER_ID, WEIGHT
from hmamba.quality.expectations import Figure
from hmamba.rules.document import Allow, Available, Listed, NotAgain, OfItems, OfUsers, Rule
from hmamba.rules.night import NightRules
from hmamba.statements import statement
from hmamba.storage.run_layout import RULE_ITEMS, rule_users_name

_CONDITION = "coalesce(CAST(({}\n) AS BOOLEAN), false)"
_LISTED = "EXISTS (SELECT 1 FROM rule_items AS l WHERE l.rule = $rule AND l.item_index = items.item_index)"
_NAMED = "EXISTS (SELECT 1 FROM rule_users AS l WHERE l.rule = $rule AND l.user_id = c.user_id AND l.item_index {})"
_TAKEN = """EXISTS (
    SELECT 1 FROM events AS e
    WHERE e.user_id = c.user_id AND e.item_index = items.item_index AND e.event_time >= $since
)"""


@dataclass(frozen=True)
class RuledPart:
    """A part of the table to check.

    Attributes:
        shard: the shard of its users.
        part: the candidates.
        events: files with complete histories of the users.
    """

    shard: int
    part: Path
    events: tuple[Path, ...]


def rule_figures(rules: NightRules, parts: Iterable[RuledPart]) -> list[Figure]:
    """Rows of the table that each rule should have removed.

    Args:
        rules: the rules under which the lists were made.
        parts: the parts of the table that were made under these rules.
    """
    database, book = rules.items.expressions.connection, rules.book
    conditions = {rule.name: _removed_by(rule) for rule in book.filters}
    caps = {cap.name: f"({cap.by}\n)" for cap in book.cap}
    total = dict.fromkeys((*conditions, *caps), 0)
    database.register("items", rules.items.expressions.items)
    database.register("rule_items", pq.read_table(rules.files.verified(RULE_ITEMS)))
    pins = [item for pin in book.pin for item in pin.items]
    for each in parts:
        _register(rules, each)
        for rule in book.filters:
            query = statement("rules/removed_rows").replace("the_condition", conditions[rule.name])
            total[rule.name] += _count(database, query, _values(rule, rules.items.expressions.end))
        for cap in book.cap:
            query = statement("rules/rows_above").replace("the_group", caps[cap.name])
            values = {"most": cap.most, "top": cap.top or 1 << 31, "pins": pins}
            total[cap.name] += _count(database, query, values)
    meanings = {rule.name: f"rows that the rule {rule.name!r} removes" for rule in book.filters}
    meanings |= {cap.name: f"rows above the number that the rule {cap.name!r} allows of a group" for cap in book.cap}
    return [Figure(f"rows_denied_by: {name}", count, None, 0, meaning=meanings[name]) for name, count in total.items()]


def _count(database: duckdb.DuckDBPyConnection, query: str, values: dict[str, Any]) -> int:
    (count,) = database.execute(query, values).fetchone() or (0,)
    return int(count)


def _register(rules: NightRules, each: RuledPart) -> None:
    """The tables of one shard."""
    database, users = rules.items.expressions.connection, rules.files.described_users(each.shard)
    database.register("part", pq.read_table(each.part, columns=[USER_ID, "rank", "item_id"]))
    none = pa.table({USER_ID: pa.array([], pa.string())})
    database.register("users", none if users is None else pq.read_table(users))
    database.register("rule_users", pq.read_table(rules.files.verified(rule_users_name(each.shard))))
    if any(isinstance(rule, Listed) and rule.taken_within_days is not None for rule in rules.book.filters):
        columns = [USER_ID, ITEM_INDEX, EVENT_TIME, WEIGHT, IS_TARGET]
        events = pa.concat_tables([pq.read_table(path, columns=columns) for path in each.events])
        database.register("events", events.filter(pc.and_(events[IS_TARGET], pc.greater(events[WEIGHT], 0))))


def _values(rule: Rule, end: datetime) -> dict[str, Any]:
    """The bound values of the condition of a rule."""
    values: dict[str, Any] = {}
    if isinstance(rule, Available) and rule.file is None:
        return {"end": end}
    listed = isinstance(rule, Available | NotAgain) or (isinstance(rule, Listed) and rule.pairs_file is not None)
    if listed or (isinstance(rule, Listed) and any((rule.items, rule.items_file, rule.users, rule.users_file))):
        values["rule"] = rule.name
    if isinstance(rule, Listed) and rule.taken_within_days is not None:
        values["since"] = end - timedelta(days=rule.taken_within_days)
    return values


def _removed_by(rule: Rule) -> str:
    """SQL of whether a rule removes a row, in terms of c (the row), items, users and night."""
    if isinstance(rule, NotAgain):
        return _NAMED.format("= items.item_index")
    if isinstance(rule, Available):
        return _LISTED if rule.file is not None else _unavailable(rule)
    assert isinstance(rule, Listed)
    if rule.pairs_file is not None:
        pair, user = _NAMED.format("= items.item_index"), _NAMED.format("IS NOT NULL")
        return f"{user} AND NOT {pair}" if isinstance(rule, Allow) else pair
    items = " AND ".join(_of_items(rule)) or "true"
    users = " AND ".join(_of_users(rule)) or "true"
    return f"{users} AND {'NOT ' if isinstance(rule, Allow) else ''}({items})"


def _of_items(rule: Listed) -> Iterable[str]:
    if isinstance(rule, OfItems) and (rule.items is not None or rule.items_file is not None):
        yield _LISTED
    if rule.where is not None:
        yield _CONDITION.format(rule.where)
    if rule.taken_within_days is not None:
        yield _TAKEN


def _of_users(rule: OfUsers) -> Iterable[str]:
    if rule.users is not None or rule.users_file is not None:
        yield _NAMED.format("IS NULL")
    if rule.users_where is not None:
        yield _CONDITION.format(rule.users_where)


def _unavailable(rule: Available) -> str:
    since, until = rule.since or "NULL", rule.until or "NULL"
    bounds = f"CAST(({since}\n) AS TIMESTAMP) <= $end", f"CAST(({until}\n) AS TIMESTAMP) > $end"
    is_open = " AND ".join(f"coalesce({bound}, true)" for bound in bounds)
    unknown = f"(({since}\n) IS NULL AND ({until}\n) IS NULL)"
    return f"NOT ({is_open})" + (f" OR {unknown}" if rule.missing == "unavailable" else "")
