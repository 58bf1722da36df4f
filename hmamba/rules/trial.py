"""Try the rules of a root on its files, before a night does."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba import columns
from hmamba.clock import end_of
from hmamba.config import Config
from hmamba.contracts.manifest import SnapshotManifest
from hmamba.rules import document
from hmamba.rules.files import write_rules
from hmamba.rules.items import check_rules
from hmamba.sequences.described import describe
from hmamba.sources.discover import find_files
from hmamba.sources.files import FilePart
from hmamba.sources.values import ids
from hmamba.storage.layout import Layout
from hmamba.storage.run_layout import DESCRIBED_ITEMS, ITEMS, users_name
from hmamba.warehouse.connection import in_memory
from hmamba.warehouse.staging import Picked, read_unchanged
from hmamba.warehouse.tables import create_tables


@dataclass(frozen=True)
class Trial:
    """A successful trial: the number of rules, and the files whose columns they fit, in words."""

    rules: int
    columns: str


def try_rules(layout: Layout, config: Config, day: date) -> Trial:
    """Read rules.toml and every file that it needs, and evaluate the conditions over the catalogue.

    Items that are not in the catalogue are unknown here. The night warns of ids in rules that no item has.

    Args:
        layout: the root.
        config: the settings.
        day: the day for which availability is computed.

    Raises:
        ConfigError: a rule is wrong.
        InputError: a file cannot be read.
    """
    book = document.read(layout.rules)
    number = sum(1 for _ in book.described())
    if not number:
        return Trial(0, "nothing")
    with tempfile.TemporaryDirectory(prefix="hmamba-") as name, in_memory(config.warehouse) as connection:
        folder = Path(name)
        create_tables(connection)
        items = _items(connection, layout.root, config)
        pq.write_table(items, folder / ITEMS)
        manifest = _manifest(day, len(items))
        manifest = describe(connection, folder, layout.root, config, manifest)
        manifest = write_rules(connection, folder, layout.root, config, manifest, end_of(day), tell_unknown=False)
        check_rules(folder, manifest, config.warehouse)
        found = {file.name for file in manifest.files}
    known = {"the catalogue": DESCRIBED_ITEMS in found, "the users file": users_name(0) in found}
    return Trial(number, " and ".join(name for name, is_known in known.items() if is_known) or "the items")


def _items(connection: duckdb.DuckDBPyConnection, root: Path, config: Config) -> pa.Table:
    """The items of the catalogue, as a snapshot without events holds them."""
    found: list[pa.Array] = []

    def each(picked: Picked) -> None:
        read = partial(ids, null_words=config.source.null_words)
        found.append(picked.read(config.catalogue.item_id, read).texts().drop_null())

    if config.catalogue.path is not None:
        source = config.source
        follow, limits = source.follow_links, source.limits
        files = find_files(config.catalogue.path, root, "catalogue.path", follow_links=follow, limits=limits)
        for file in files:
            read_unchanged(connection, FilePart.of(file), (config.catalogue.item_id,), each)
    names = pc.unique(pa.chunked_array(found, pa.string()))
    count = len(names)
    return pa.table(
        {
            columns.ITEM_INDEX: pa.array(range(1, count + 1), pa.int32()),
            columns.ITEM_ID: names,
            columns.TITLE: names,
            columns.CATEGORY_PATH: pa.array([[]] * count, pa.list_(pa.string())),
            columns.FIRST_SEEN: pa.nulls(count, pa.timestamp("us")),
            columns.EVENTS: pa.array([0] * count, pa.int64()),
        }
    )


def _manifest(day: date, items: int) -> SnapshotManifest:
    return SnapshotManifest(
        day=day,
        end=end_of(day),
        by_position=False,
        shards=1,
        users=0,
        events=0,
        items=items,
        newest_event=None,
        batch=0,
        digest="",
        files=(),
    )
