"""The rules of a snapshot: a validated copy of rules.toml, and what its files hold, beside the shards.

All steps of a night read this copy, so that a file which changes during the night changes nothing.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba import columns
from hmamba.config import Config, SourceConfig
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.document import Document
from hmamba.contracts.manifest import SnapshotFile, SnapshotManifest
from hmamba.errors import ConfigError, InputError
from hmamba.rules import document
from hmamba.rules.document import Available, Listed, NotAgain, OfItems, OfUsers, Pin, Rule, RuleBook
from hmamba.sequences.described import describe, write_by_shard
from hmamba.sequences.files import Snapshot
from hmamba.sources.discover import find_files
from hmamba.sources.files import FilePart
from hmamba.sources.times import Moments, moments
from hmamba.sources.values import Members, decoded, ids, is_number, trimmed
from hmamba.statements import rows, statement
from hmamba.storage.run_layout import ITEMS, MANIFEST, RULE_ITEMS, RULES, rule_users_name
from hmamba.warehouse.forgotten import forgotten_salt
from hmamba.warehouse.staging import Picked, chunk_of, read_unchanged

log = logging.getLogger("hmamba")

_ROWS = 131_072
_DAY = 86_400_000_000


class RulesDocument(Document):
    """The rules of a run: ``rules.json`` beside its shards.

    Attributes:
        end: end of the day for which they hold, exclusive, UTC without offset.
        rules: rules.toml as it was, validated; lists of users are in the files of the shards.
    """

    CURE: ClassVar[str] = SnapshotManifest.CURE

    end: datetime
    rules: dict[str, Any]

    @property
    def book(self) -> RuleBook:
        """The rules.

        Raises:
            InputError: they are of another version of the program.
        """
        try:
            return document.parse(self.rules, RULES)
        except ConfigError as error:
            raise InputError(f"{error} {self.CURE}") from None


def write_rules(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    root: Path,
    config: Config,
    manifest: SnapshotManifest,
    end: datetime,
    *,
    tell_unknown: bool = True,
) -> SnapshotManifest:
    """Write the rules of a root beside the shards of a snapshot, and name them in its manifest.

    Args:
        connection: the warehouse; it is only read.
        folder: the folder of the snapshot.
        root: the root of the recommender.
        config: ``[source]``: how files are read.
        manifest: the manifest of the snapshot in the folder.
        end: end of the day that is processed, naive UTC.
        tell_unknown: whether item ids of rules that are no items of the snapshot are logged.

    Returns:
        The new manifest, as written; the same without rules.

    Raises:
        ConfigError: rules.toml is wrong.
        InputError: a file that a rule names cannot be read; the message names the rule.
    """
    book, items = document.read(root / document.RULES), pq.read_table(folder / ITEMS)
    lists = _Lists(connection, root, config.source, end, tell_unknown=tell_unknown)
    written = _write_book(lists, folder, book, items, manifest.shards)
    if not written:
        return manifest
    after = manifest.model_copy(update={"files": (*manifest.files, *written)})
    after.write(folder / MANIFEST)
    return after


def write_current_rules(
    connection: duckdb.DuckDBPyConnection, folder: Path, root: Path, config: Config, files: Snapshot, end: datetime
) -> None:
    """Write the rules of a refresh, with the descriptions of the items and users of a night as they are now.

    Args:
        connection: the warehouse; it is only read.
        folder: where to write; nothing is written without rules.
        root: the root of the recommender.
        config: the settings.
        files: the night's snapshot, whose items and shards are kept.
        end: end of the day of the refresh, naive UTC.

    Raises:
        ConfigError: rules.toml is wrong.
        InputError: a file cannot be read.
    """
    if not document.read(root / document.RULES):
        return
    shutil.copyfile(files.items, folder / ITEMS)
    items = tuple(file for file in files.manifest.files if file.name == ITEMS)
    manifest = describe(connection, folder, root, config, files.manifest.model_copy(update={"files": items}))
    write_rules(connection, folder, root, config, manifest, end)


def _write_book(lists: _Lists, folder: Path, book: RuleBook, items: pa.Table, shards: int) -> list[SnapshotFile]:
    """Write rules and what their files hold into a folder; nothing without rules."""
    if not book:
        return []
    connection = lists.connection
    for name in ("rules/create_lists", "rules/create_pairs", "rules/create_moment_of", "sequences/create_shard_of"):
        connection.execute(statement(name))
    connection.execute(statement("ingest/set_time_zone"), {"zone": lists.source.timezone})
    connection.register("snapshot_items", items.select([columns.ITEM_INDEX, columns.ITEM_ID]))
    try:
        for rule in book.rules:
            lists.read(rule)
        for row in rows(connection, "rules/unknown_items") if lists.tell_unknown else ():
            log.warning(
                "%s: rule %r: %d of %d item ids are no items of the snapshot, such as %r",
                document.RULES,
                row["rule"],
                row["unknown"],
                row["ids"],
                row["example"],
            )
        if (salt := forgotten_salt(connection)) is not None:
            connection.execute(statement("rules/drop_forgotten"), {"salt": salt})
        RulesDocument(end=lists.end, rules=_without_users(book)).write(folder / RULES)
        table = connection.execute(statement("rules/items")).to_arrow_table()
        pq.write_table(table, folder / RULE_ITEMS, compression="zstd")
        pairs = connection.execute(statement("rules/pairs"), {"shards": shards}).to_arrow_reader(_ROWS)
        files = write_by_shard(pairs, folder, rule_users_name, [columns.USER_ID, "rule", columns.ITEM_INDEX], shards)
    finally:
        connection.unregister("snapshot_items")
    own = [(folder / RULES, len(book.rules)), (folder / RULE_ITEMS, len(table))]
    return [SnapshotFile(**HashedFile.of(path).model_dump(), rows=count) for path, count in own] + files


def _without_users(book: RuleBook) -> dict[str, Any]:
    """The rules without the ids of users, which are in files from which users can be erased."""
    written: dict[str, Any] = book.model_dump(mode="json", by_alias=True, exclude_none=True)
    for kind in written.values():
        for rule in kind if isinstance(kind, list) else ():
            if rule.pop("users", None) is not None:
                rule["users_file"] = document.RULES
    return written


class _Lists:
    """Reads the ids and files of rules into the tables rule_items and rule_pairs.

    Args:
        connection: the warehouse, with these tables and snapshot_items.
        root: the root, to which paths are relative.
        source: how files are read.
        end: end of the day.
        tell_unknown: whether item ids that are no items of the snapshot are logged.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        root: Path,
        source: SourceConfig,
        end: datetime,
        *,
        tell_unknown: bool,
    ) -> None:
        self.connection, self.source, self.end, self.tell_unknown = connection, source, end, tell_unknown
        self._root = root

    def read(self, rule: Rule) -> None:
        """Read what a rule names.

        Raises:
            InputError: a file cannot be read or has a row without an id; the message names the rule.
        """
        if isinstance(rule, OfUsers):
            self._users(rule)
        if isinstance(rule, OfItems | Pin) and rule.items is not None:
            self._insert("rules/stage_items", rule, item_id=pa.array(rule.items, pa.string()))
        if isinstance(rule, OfItems) and rule.items_file is not None:
            self._read(rule, "items_file", rule.items_file, (columns.ITEM_ID,), self._item_ids)
        if isinstance(rule, Listed) and rule.pairs_file is not None:
            self._read(rule, "pairs_file", rule.pairs_file, (columns.USER_ID, columns.ITEM_ID), self._pairs)
        if isinstance(rule, Available) and rule.file is not None:
            self._available(rule, rule.file)
        if isinstance(rule, NotAgain):
            self._shown(rule)

    def _users(self, rule: OfUsers) -> None:
        if rule.users is not None:
            self._insert(
                "rules/stage_pairs",
                rule,
                user_id=pa.array(rule.users, pa.string()),
                item_id=pa.nulls(len(rule.users), pa.string()),
            )
        if rule.users_file is not None:
            self._read(rule, "users_file", rule.users_file, (columns.USER_ID,), self._user_ids)

    def _item_ids(self, rule: Rule, picked: Picked) -> None:
        self._insert("rules/stage_items", rule, item_id=self._ids(rule, picked, columns.ITEM_ID))

    def _user_ids(self, rule: Rule, picked: Picked) -> None:
        users = self._ids(rule, picked, columns.USER_ID)
        self._insert("rules/stage_pairs", rule, user_id=users, item_id=pa.nulls(len(users), pa.string()))

    def _pairs(self, rule: Rule, picked: Picked) -> None:
        users, items = (self._ids(rule, picked, name) for name in (columns.USER_ID, columns.ITEM_ID))
        self._insert("rules/stage_pairs", rule, user_id=users, item_id=items)

    def _available(self, rule: Available, path: str) -> None:
        def stage(of: Rule, picked: Picked) -> None:
            items = self._ids(of, picked, columns.ITEM_ID)
            since, until = (self._times(of, picked, name) for name in ("from", "until"))
            self._log(pa.nulls(len(items), pa.string()), items, since, until)

        self.connection.execute(statement("rules/create_log"))
        self._read(rule, "file", path, (columns.ITEM_ID, "from", "until"), stage)
        missing = {"rule": rule.name, "end_time": self.end, "missing": rule.missing == "unavailable"}
        self.connection.execute(statement("rules/unavailable"), missing)

    def _shown(self, rule: NotAgain) -> None:
        def stage(_: Rule, picked: Picked) -> None:
            words = self.source.null_words
            users, items = (
                picked.read(name, partial(ids, null_words=words)).texts() for name in (rule.user_id, rule.item_id)
            )
            time = picked.read(rule.time, self._moments)
            self._log(users, items, time, Moments(pa.nulls(len(picked), pa.string()), "utc"))

        self.connection.execute(statement("rules/create_log"))
        self._read(rule, "file", rule.file, (rule.user_id, rule.item_id, rule.time), stage)
        bounds = {
            "rule": rule.name,
            "end_time": self.end,
            "window": round(rule.window_days * _DAY),
            "cool_down": round(rule.cool_down_days * _DAY),
            "times": rule.times,
        }
        self.connection.execute(statement("rules/shown_often"), bounds)

    def _read(
        self, rule: Rule, key: str, path: str, wanted: Sequence[str], each: Callable[[Rule, Picked], None]
    ) -> None:
        """Read some columns of all files of a path."""
        source, setting = self.source, f"{document.RULES}: [[{rule.kind}]] {rule.name!r}: {key}"
        files = find_files(path, self._root, setting, follow_links=source.follow_links, limits=source.limits)
        if not files:
            raise InputError(f"{setting} = {path!r}: no such file. Put it there, or remove the rule.")
        try:
            for file in files:
                read_unchanged(self.connection, FilePart.of(file), wanted, partial(each, rule))
        except InputError as error:
            raise InputError(f"{setting} = {path!r}: {error}") from error

    def _ids(self, rule: Rule, picked: Picked, name: str) -> pa.StringArray:
        """The ids of a column. None may be missing: a row that is passed over could let a forbidden item through."""
        found = picked.read(name, partial(ids, null_words=self.source.null_words))
        text = found.texts()
        bad = np.flatnonzero(np.asarray(pc.or_(pc.is_null(text), pc.is_valid(picked.malformed))))
        if len(bad):
            raise InputError(
                f"{picked.name}, line {picked.lines[int(bad[0])].as_py()}: no readable id in the column {name!r}. "
                "Correct the row, or remove it."
            )
        return text

    def _moments(self, column: pa.Array | Members) -> Moments:
        plain = isinstance(column, Members) or not is_number(decoded(column).type)
        form = "auto" if plain else self.source.time_format
        return moments(column, form, self.source.timezone, self.source.null_words)

    def _times(self, rule: Rule, picked: Picked, name: str) -> Moments:
        """Times of a column, which may be absent but not unreadable."""
        found = picked.read(name, self._moments)
        given = picked.columns[name]
        held = given.kinds.is_valid() if isinstance(given, Members) else decoded(given).is_valid()
        if not isinstance(given, Members) and pa.types.is_string(decoded(given).type):
            held = trimmed(decoded(given), self.source.null_words).is_valid()
        bad = np.flatnonzero(np.asarray(pc.and_(held, pc.is_null(found.values))))
        if len(bad):
            raise InputError(
                f"{picked.name}, line {picked.lines[int(bad[0])].as_py()}: the column {name!r} is no time. Write it as "
                "2024-05-31, or 2024-05-31 18:00."
            )
        return found

    def _log(self, users: pa.Array, items: pa.Array, since: Moments, until: Moments) -> None:
        arrays = {"user_id": users, "item_id": items, "since": since.values, "until": until.values}
        batch = pa.RecordBatch.from_arrays([array.cast(pa.string()) for array in arrays.values()], list(arrays))
        with chunk_of(self.connection, batch):
            self.connection.execute(statement("rules/stage_log"), {"since": since.form, "until": until.form})

    def _insert(self, name: str, rule: Rule, **arrays: pa.Array) -> None:
        with chunk_of(self.connection, pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))):
            self.connection.execute(statement(name), {"rule": rule.name})
