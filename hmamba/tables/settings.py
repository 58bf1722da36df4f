"""Which tables a night publishes, and with which settings they were made."""

from __future__ import annotations

from hmamba.columns import ITEM_ID
from hmamba.config import Config
from hmamba.contracts.steps import IndexMetrics
from hmamba.sequences.files import Snapshot
from hmamba.sources.ids import read_ids
from hmamba.storage.layout import Layout
from hmamba.storage.local import digest
from hmamba.tables.popular import members

WITHOUT_MODEL = ("similar_items", "popular")
"""Tables that are published where a baseline serves, too; similar items then without same_taste."""

PER_SHARD = ("segments", "user_vectors")
"""Tables whose parts are written with the candidates of each shard."""


def wanted(config: Config, *, has_model: bool) -> tuple[str, ...]:
    """Names of the tables that a night publishes, in the order of ``publish.tables``."""
    return tuple(name for name in config.publish.tables if has_model or name in WITHOUT_MODEL)


def made_with(config: Config, name: str) -> str:
    """Digest of the settings of a table about items; empty for one without settings."""
    section = getattr(config.publish, name, None)
    return "" if section is None else digest(section.model_dump())


def part_made_with(config: Config, name: str, metrics: IndexMetrics) -> str:
    """Digest of what a shard's part of a table is made with, beside the model and the histories."""
    if name not in metrics.tables:  # the index step has no part in it
        return made_with(config, name)
    chosen = metrics.tables[name]
    return digest([chosen.made_with, chosen.sha256, config.candidates.exclude_seen])


def check_settings(layout: Layout, config: Config, files: Snapshot) -> None:
    """Check, before a night trains, that the files and columns exist which settings of its tables name.

    Raises:
        InputError: one does not exist; the message names the setting.
    """
    if "popular" in config.publish.tables:
        for column in config.publish.popular.by:
            members(files, 0, column)
    listed = config.publish.segments.item_list
    if "segments" in config.publish.tables and listed is not None:
        read_ids(layout.root / listed, ITEM_ID, "publish.segments.item_list", config.source)
