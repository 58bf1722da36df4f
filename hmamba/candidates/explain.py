"""Explain one item for one user: its place, what each kind of evidence adds to its score, or why it is not listed.

The night's own model, index and histories are read from its run folder, and scores are divided by the code that writes
the column ``because`` (:mod:`hmamba.candidates.because`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import torch

from hmamba.candidates.baseline import Baseline
from hmamba.candidates.because import Attribution
from hmamba.candidates.explanation import SAME, Explanation, Part, RankedItems, Source, explanation_of
from hmamba.candidates.lookup import SUGGESTIONS, published_manifest, unknown_user
from hmamba.candidates.night import NightScorer
from hmamba.columns import FALLBACK_VERSION
from hmamba.contracts.manifest import Manifest
from hmamba.contracts.verdict import read_serving
from hmamba.errors import InputError
from hmamba.evaluation.ranking import rank_all
from hmamba.index.index import ItemIndex
from hmamba.inference.encode import encode_users
from hmamba.models.files import StoredModel
from hmamba.score_terms import POPULAR, SCORE_TERMS, TASTE
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import Histories, midnight, read_user
from hmamba.statements import one, statement
from hmamba.storage.layout import Layout
from hmamba.warehouse.connection import in_memory

_SOURCES = 5
"""Most items of the history that are named for one kind of evidence."""
_WORDS = {
    TASTE: "the model's base score for the user, without the item's popularity",
    POPULAR: "the item's popularity, as the model has learned it",
    **{term.because: term.evidence for term in SCORE_TERMS.values()},
}


def explain(layout: Layout, user: str, item: str) -> Explanation:
    """Explain an item for a user by the night of the newest published table.

    Args:
        layout: the root.
        user: the user's id.
        item: the item's id.

    Raises:
        InputError: nothing is published, the night's run folder has been deleted or has changed since, or the user or
            the item is unknown (the message lists similar ids).
    """
    manifest = published_manifest(layout)
    files = _night(layout, manifest)
    with in_memory() as connection:
        rows, version = _published(connection, layout, manifest, user)
        number, name = _item(connection, files, item)
        shard, history = _history(connection, files, manifest, user)
        if not rows and not history.events:
            raise unknown_user(connection, layout, manifest, user)
        scorer = NightScorer.open(files, torch.device("cpu"))
        found = _Explainer(files, connection, scorer, manifest, shard).ranked(history, number, version)
    is_ruled = scorer.rules is not None
    return explanation_of(manifest, user, item, name, number, history, rows, found, is_ruled)


def _night(layout: Layout, manifest: Manifest) -> Snapshot:
    """The snapshot of the night that has published a table.

    Raises:
        InputError: its folder has been deleted, or holds another night since.
    """
    run = layout.run(manifest.day, manifest.run_id)
    again = f"Run the night again: {layout.command('run', '--day', manifest.day.isoformat())}."
    if not run.storage.exists(run.manifest):
        raise InputError(
            f"{run.folder} has been deleted: without it, an item cannot be explained. {again} To keep more of these "
            "folders, raise keep.runs."
        )
    files = Snapshot.open(run)
    if manifest.snapshot != files.digest or manifest.model_version not in (read_serving(run), FALLBACK_VERSION):
        raise InputError(f"{run.folder} does not match {layout.latest}: it has been run again since. {again}")
    return files


def _published(
    connection: duckdb.DuckDBPyConnection, layout: Layout, manifest: Manifest, user: str
) -> tuple[dict[str, tuple[int, float]], str | None]:
    """Rank and score of the user's published items, and their model_version; None without any."""
    files = [str(layout.storage.local_path(layout.root / file.path)) for file in manifest.files]
    bound = {"files": files, "user": user, "most": manifest.k}
    rows = connection.execute(statement("published/of_user"), bound).fetchall()
    return {item: (rank, score) for rank, item, score, _ in rows}, rows[0][3] if rows else None


def _item(connection: duckdb.DuckDBPyConnection, files: Snapshot, item: str) -> tuple[int, str | None]:
    """Index and title of an item.

    Raises:
        InputError: the snapshot has no such item.
    """
    bound = {"file": str(files.items), "item": item}
    found = connection.execute(statement("published/index_of_item"), bound).fetchone()
    if found is None:
        similar = connection.execute(statement("published/similar_items"), {**bound, "most": SUGGESTIONS}).fetchall()
        raise InputError(
            f"item {item!r} is not among the {files.manifest.items:,} items of {files.manifest.day}. Ids that look "
            f"alike: {', '.join(repr(row[0]) for row in similar)}. Neither an event nor the catalogue names it."
        )
    return int(found[0]), found[1]


def _history(
    connection: duckdb.DuckDBPyConnection, files: Snapshot, manifest: Manifest, user: str
) -> tuple[int, Histories]:
    """The shard of one user, and their history in the night's snapshot, without events if they have none."""
    connection.execute(statement("sequences/create_shard_of"))
    bound = {"user": user, "shards": files.manifest.shards}
    shard = int(one(connection, "sequences/shard_of_user", bound)["shard"])
    history = read_user(files.shard(shard), user)
    next_day = midnight(manifest.day + timedelta(days=1))
    return shard, history.asked_next() if files.manifest.by_position else history.asked_at(next_day)


@dataclass(frozen=True)
class _Explainer:
    """Ranks all items for a user, as the night did."""

    files: Snapshot
    connection: duckdb.DuckDBPyConnection
    scorer: NightScorer
    manifest: Manifest
    shard: int

    def ranked(self, history: Histories, item: int, version: str | None) -> RankedItems:
        """Rank all items for one user, and divide the score of one of them.

        Args:
            history: the user's history.
            item: item index.
            version: model_version of the user's published rows; None without any.
        """
        system, experiment = self.scorer.system, self.manifest.experiment
        if experiment is not None and version == experiment.version:
            return self._by_baseline(self.scorer.control(experiment), history, item, has_fallback=False)
        if isinstance(system, Baseline):
            return self._by_baseline(system, history, item, has_fallback=self.scorer.has_fallback)
        stored, index = system
        read, is_known = stored.readable(history)
        if not is_known[0]:
            return self._by_popularity(read, len(index.served_items), _not_served(stored, index, item))
        return self._by_model(stored, index, read, item)

    def _by_baseline(self, baseline: Baseline, history: Histories, item: int, *, has_fallback: bool) -> RankedItems:
        most, column = len(baseline.candidate_items), baseline.candidate_items.column
        refused = None
        if item >= len(column) or column[item] < 0:
            refused = "The item may not be recommended: it has no events, or is not in candidates.allowed_items."
        if has_fallback and not history.read.events:
            return self._by_popularity(history, most, refused)
        ranked = baseline.rank(history, most, exclude_seen=self.manifest.exclude_seen)
        return RankedItems(baseline.version, ranked.items, ranked.scores, refused=refused)

    def _by_popularity(self, history: Histories, most: int, refused: str | None) -> RankedItems:
        """What a user without usable history gets."""
        fallback = self.scorer.fallback(self.shard)
        ranked = fallback.rank(history, most, exclude_seen=self.manifest.exclude_seen)
        return RankedItems(FALLBACK_VERSION, ranked.items, ranked.scores, refused=refused)

    def _by_model(self, stored: StoredModel, index: ItemIndex, read: Histories, item: int) -> RankedItems:
        hidden, attribution = encode_users(stored.model, read), Attribution(stored, index, self.scorer.popularity)
        tables = []
        for part in [index] if index.new is None else [index, index.new]:
            table = rank_all(
                attribution.model,
                read,
                part.candidate_items,
                k=len(part.candidate_items),
                exclude_seen=self.manifest.exclude_seen,
                rerank=part is index,
                hidden_Ud=hidden,
            )
            tables.append(table)
        items, scores = (np.concatenate(parts, axis=1)[0] for parts in zip(*tables, strict=True))
        order = np.argsort(-scores, kind="stable")[: int((items >= 0).sum())]
        found = RankedItems(stored.version, items[order], scores[order], refused=_not_served(stored, index, item))
        if found.refused is not None:
            return found
        zero = np.zeros(1, dtype=np.int64)
        divided = attribution.parts(read, hidden, zero, np.array([item]))
        parts = [
            Part(name, _WORDS[name], float(value), self._sources(attribution, name, read, item))
            for name, value in zip(divided.names, divided.values[0], strict=True)
            if value or name in (TASTE, POPULAR)
        ]
        place = np.flatnonzero(found.items == item)
        if len(place) and stored.model.ranker is not None:
            correction = float(found.scores[place[0]] - divided.scores[0])
            if abs(correction) > SAME:
                parts.append(Part("ranker", "the correction of the order by trees ([rank])", correction))
        parts.sort(key=lambda part: -part.value)
        mean, is_new = float(divided.means[0]), bool(divided.is_new[0])
        return RankedItems(found.version, found.items, found.scores, mean, tuple(parts), is_new=is_new)

    def _sources(self, attribution: Attribution, name: str, read: Histories, item: int) -> tuple[Source, ...]:
        """The items of the history behind a kind of evidence."""
        row = attribution.behind(name, read, np.zeros(1, dtype=np.int64), np.array([item]))
        if row is None or not row.sum() > 0:
            return ()
        values = np.asarray(row.toarray())[0]
        best = np.argsort(-values, kind="stable")[:_SOURCES]
        best = best[values[best] > 0]
        ids = self.scorer.item_ids.take(pa.array(best)).to_pylist()
        titles = _titles(self.connection, self.files.items, ids)
        shares = values[best] / values.sum()
        return tuple(Source(id_, titles.get(id_), float(share)) for id_, share in zip(ids, shares, strict=True))


def _titles(connection: duckdb.DuckDBPyConnection, items: Path, ids: list[str]) -> dict[str, str]:
    rows = connection.execute(statement("published/items"), {"file": str(items), "items": ids}).fetchall()
    return {item: title for item, title, _ in rows}


def _not_served(stored: StoredModel, index: ItemIndex, item: int) -> str | None:
    """Why a model's night cannot recommend an item to anybody, a sentence; None if it can."""
    served = index.served_items.column
    if item < len(served) and served[item] >= 0:
        return None
    column = stored.candidate_items.column
    if item < len(column) and (column[item] >= 0 or item in stored.new_items):
        return "The item is not in candidates.allowed_items."
    return (
        "The item is not a candidate item of the model: it has fewer training events than train.min_item_events, or "
        "was first seen after the training."
    )
