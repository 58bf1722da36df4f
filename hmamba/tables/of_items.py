"""The tables about items of a run, written by the index step, which has the model and the items at hand."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import ITEM_ID, ITEM_INDEX
from hmamba.config import Config
from hmamba.contracts.models import IndexDescription
from hmamba.contracts.steps import IndexMetrics
from hmamba.contracts.tables import WrittenTable
from hmamba.errors import InputError
from hmamba.index.index import ItemIndex
from hmamba.index.narrowed import narrowed
from hmamba.models.files import StoredModel, item_events, vocabulary
from hmamba.rules.night import NightRules
from hmamba.sequences.attributes import read_attributes
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import Histories, IntArray, read_histories
from hmamba.sources.ids import read_ids
from hmamba.storage.layout import Layout
from hmamba.tables.files import described, write
from hmamba.tables.popular import popular
from hmamba.tables.settings import made_with, wanted
from hmamba.tables.similar import Alike, Choice, Near, Similarity, Together, similar_items
from hmamba.tables.vectors import write_item_vectors
from hmamba.terms.attributes import Attributes
from hmamba.terms.cooccurrence import Cooccurrence
from hmamba.warehouse.connection import in_memory

log = logging.getLogger("hmamba")

_Term = TypeVar("_Term", Cooccurrence, Attributes)


@dataclass(frozen=True)
class ItemTables:
    """What the tables about items are made of.

    Attributes:
        layout: the root.
        config: the settings.
        files: the run's snapshot.
        served: the items that may be recommended; rules may leave out some of them.
        stored, index: the model that serves and its index; None for a baseline.
    """

    layout: Layout
    config: Config
    files: Snapshot
    served: CandidateItems
    stored: StoredModel | None = None
    index: ItemIndex | None = None

    def write(self) -> dict[str, WrittenTable]:
        """Write all tables about items that are wanted; of segments, the items.

        Raises:
            InputError: a setting names a column or a file that does not exist, or a list without an item that is
                recommended.
        """
        names = wanted(self.config, has_model=self.stored is not None)
        if left_out := [name for name in self.config.publish.tables if name not in names]:
            log.warning("index: no model serves, so that these tables are not published: %s", ", ".join(left_out))
        run, written = self.files.run, {}
        for name in names:
            if name != "user_vectors":
                place = run.table(name)
                with run.storage.write_file(place) as path:
                    getattr(self, f"_{name}")(path)
                    written[name] = described(path, place.name, made_with(self.config, name))
        return written

    @cached_property
    def _rules(self) -> NightRules | None:
        return NightRules.open(self.files, self.config.warehouse)

    @cached_property
    def _shown(self) -> CandidateItems:
        """The items that may be recommended, without those that the rules remove for everybody."""
        if self._rules is None:
            return self.served
        kept = self.served.eligible[~self._rules.always[self.served.eligible]]
        return CandidateItems.only(kept, len(self.served.column))

    @cached_property
    def _ids(self) -> pa.Array:
        return vocabulary(self.files.items)

    @cached_property
    def _events(self) -> IntArray:
        return item_events(self.files.items, len(self._ids))

    def _counted(self, kind: type[_Term]) -> _Term | None:
        """The counts of a kind, of the model or else of the snapshot; None if the data holds no such evidence."""
        for weighted in self.stored.model.counted_terms if self.stored is not None else ():
            if isinstance(weighted.term, kind):
                return weighted.term
        size = len(self._ids)
        if kind is Attributes:
            # Only the items with events matter for the attributes, not who took them.
            items = np.flatnonzero(self._events)
            each = Histories(pa.array([""]), np.array([0, len(items)]), items, np.zeros(len(items), dtype=np.int64))
            return kind.count(each, size, read_attributes(self.files.items, size))
        return kind.count(read_histories(self.files.shards), size, None)  # takes the memory of a training

    def _similar_items(self, path: Path) -> None:
        settings = self.config.publish.similar_items
        choice = Choice.of(self._shown.eligible, self._events)
        sources: list[Similarity] = []
        if (attributes := self._counted(Attributes)) is not None:
            sources.append(Alike.of(attributes.vectors, choice))
        if (cooccurrence := self._counted(Cooccurrence)) is not None:
            sources.append(Together(cooccurrence.table, choice))
        if self.stored is not None and self.index is not None:
            known = np.concatenate([self.stored.candidate_items.eligible, self.stored.new_items])
            index, device = self.index, self.stored.model.tangents.weight.device
            if self._rules is not None:
                index = narrowed(index, self._rules.always, device)
            sources.append(Near(self.stored.model, known, index, choice))
        items = self._most_events(np.flatnonzero(np.asarray(self._ids.is_valid())), settings.items)
        write(path, "similar_items", similar_items(sources, items, self._ids, settings.k))

    def _popular(self, path: Path) -> None:
        with in_memory(self.config.warehouse) as connection:
            write(path, "popular", popular(connection, self.files, self._shown, self.config.publish.popular))

    def _segments(self, path: Path) -> None:
        settings = self.config.publish.segments
        items = self._most_events(self._shown.eligible, settings.items)
        if settings.item_list is not None:
            items = self._listed(settings.item_list)
        ids = self._ids.take(pa.array(items))
        pq.write_table(pa.table({ITEM_INDEX: pa.array(items, pa.int32()), ITEM_ID: ids}), path)

    def _listed(self, name: str) -> IntArray:
        listed = read_ids(self.layout.root / name, ITEM_ID, "publish.segments.item_list", self.config.source).unique()
        shown = self._ids.take(pa.array(self._shown.eligible))
        items: IntArray = self._shown.eligible[pc.is_in(shown, value_set=listed).to_numpy(zero_copy_only=False)]
        missing = listed.filter(pc.invert(pc.is_in(listed, value_set=shown)))
        if len(items) == 0:
            raise InputError(
                f"publish.segments.item_list: {name} holds no item that may be recommended tonight: check the ids in "
                "that file."
            )
        if len(missing):
            log.warning(
                "index: publish.segments.item_list names %d items that may not be recommended, such as %s: they are "
                "left out of segments",
                len(missing),
                missing[0].as_py(),
            )
        return items

    def _item_vectors(self, path: Path) -> None:
        assert self.stored is not None  # otherwise the table is not wanted
        write_item_vectors(self.stored, self._shown, path)

    def _most_events(self, items: IntArray, most: int) -> IntArray:
        """Those with the most events; of equally many, the lowest index."""
        chosen: IntArray = items[np.argsort(-self._events[items], kind="stable")[:most]]
        return chosen


def item_table(files: Snapshot, metrics: IndexMetrics, config: Config, name: str) -> tuple[Path, WrittenTable]:
    """The local file of a table about items, and what is recorded of it; the file is not verified.

    Raises:
        InputError: the index step has not written it with these settings and this snapshot.
    """
    written = metrics.tables.get(name)
    changed = None
    if written is None:
        changed = f"publish.tables names {name}, which the index step has not written"
    elif metrics.snapshot != files.manifest.files_digest:
        changed = f"the table {name} was written before the snapshot of this run"
    elif written.made_with != made_with(config, name):
        changed = f"[publish.{name}] has changed since the table was written"
    if written is None or changed:
        raise InputError(f"{changed}. {IndexDescription.CURE}")
    return files.run.storage.local_path(files.run.table(name)), written
