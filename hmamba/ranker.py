"""The ranker: gradient-boosted trees that correct the scores of each user's best items (``[rank]``).

LambdaMART (Burges, "From RankNet to LambdaRank to LambdaMART", 2010) on the items that the model's score ranks highest.
The trees start from that score, so they learn what is left of the order, and the NDCG of the list is their objective.
Which items are in the shortlist does not change, so retrieval stays exact.

LightGBM is an optional package (the extra ``rank``), imported where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from hmamba.errors import ConfigError, InputError
from hmamba.sequences.histories import IntArray
from hmamba.terms.base import Entries

RealArray = npt.NDArray[np.floating[Any]]
ValueArray = npt.NDArray[np.float32]

RANKER_FILE = "ranker.txt"
"""File of the trees in a model's folder."""


def lightgbm() -> ModuleType:
    """Import LightGBM.

    Raises:
        ConfigError: it is not installed, or cannot be loaded.
    """
    import torch  # noqa: F401 (brings libgomp, which LightGBM needs and a small system may lack)

    try:
        import lightgbm as module
    except (ImportError, OSError) as error:
        raise ConfigError(
            f'A ranker needs the package lightgbm ({error}): pip install "hmamba-nightly[rank]", or set '
            'rank.model = "none" and run a night with --full-retrain.'
        ) from error
    found: ModuleType = module
    return found


@dataclass(frozen=True)
class Shortlist(Entries):
    """The best items of each of R rows, best first in each row.

    Attributes:
        scores: (E,) the model's scores, descending in each row.
    """

    scores: RealArray

    @classmethod
    def of_table(cls, columns_RD: IntArray, scores_RD: RealArray) -> Shortlist:
        """The entries with finite scores of two tables, best first in each row."""
        rows, places = np.nonzero(np.isfinite(scores_RD))
        return cls(rows, columns_RD[rows, places], scores_RD[rows, places])

    @property
    def places(self) -> IntArray:
        """(E,) place of each entry in its row, from 0."""
        found: IntArray = np.arange(len(self.rows)) - np.searchsorted(self.rows, self.rows)
        return found

    def best(self, k: int) -> Shortlist:
        """The first ``k`` entries of each row."""
        kept = self.places < k
        return Shortlist(self.rows[kept], self.columns[kept], self.scores[kept])


@dataclass(frozen=True)
class Known:
    """What is known of some (row, column) pairs, in no order.

    Attributes:
        keys: (N,) row * width + column, each once.
        values: (N, F) numbers.
    """

    keys: IntArray
    values: ValueArray

    def at(self, keys: IntArray) -> ValueArray:
        """(E, F) the numbers of these pairs, each once; NaN where nothing is known."""
        order = np.argsort(keys)
        place = np.minimum(np.searchsorted(keys[order], self.keys), max(len(keys) - 1, 0))
        found = np.full((len(keys), self.values.shape[1]), np.nan, dtype=np.float32)
        if len(keys):
            wanted = keys[order[place]] == self.keys
            found[order[place[wanted]]] = self.values[wanted]
        return found


def values_of(
    shortlist: Shortlist,
    base_E: RealArray,
    events_R: IntArray,
    of_item: ValueArray,
    known: Known | None,
    width: int,
) -> ValueArray:
    """What the trees read of each entry of a shortlist.

    Args:
        shortlist: E entries of R rows.
        base_E: their base scores, without score terms.
        events_R: number of events that the model reads of each row's user.
        of_item: (width, C) counts of each column's item.
        known: the learned term's numbers; None without such a term.
        width: number of columns.

    Returns:
        (E, 4 + C + F): score and base score less the best score of the row, place in the row, log of 1 + the number of
        events, the item's counts, and the learned term's numbers (NaN for items that it does not raise).
    """
    places = shortlist.places
    best = shortlist.scores[np.arange(len(places)) - places]
    own = [shortlist.scores - best, base_E - best, places, np.log1p(events_R)[shortlist.rows]]
    parts = [np.stack(own, axis=1), of_item[shortlist.columns]]
    if known is not None:
        parts.append(known.at(shortlist.rows * width + shortlist.columns))
    return np.concatenate(parts, axis=1).astype(np.float32)


@dataclass(frozen=True)
class Ranker:
    """Trained trees.

    Attributes:
        trees: a LightGBM booster.
        depth: length of the shortlists.
    """

    trees: Any
    depth: int

    def corrected(self, shortlist: Shortlist, values: ValueArray) -> Shortlist:
        """The shortlist with corrected scores, best first in each row again."""
        if not len(shortlist.rows):
            return shortlist
        scores = shortlist.scores + self.trees.predict(values, raw_score=True)
        order = np.lexsort((shortlist.columns, -scores, shortlist.rows))
        return Shortlist(shortlist.rows, shortlist.columns[order], scores[order])

    def reranked(self, shortlist: Shortlist, values: ValueArray) -> Shortlist:
        """A shortlist of any length with its first ``depth`` entries of each row corrected; the others stay behind.

        Args:
            shortlist: E entries.
            values: what the trees read of ``shortlist.best(depth)``.
        """
        head = shortlist.places < self.depth
        first = self.corrected(shortlist.best(self.depth), values)
        if head.all():
            return first
        # Scores must descend: the others keep their distance from the last corrected entry.
        rest = Shortlist(shortlist.rows[~head], shortlist.columns[~head], shortlist.scores[~head])
        last = np.searchsorted(first.rows, rest.rows, side="right") - 1
        moved = rest.scores + np.minimum(first.scores[last] - shortlist.scores[head][last], 0)
        rows = np.concatenate([first.rows, rest.rows])
        order = np.argsort(rows, kind="stable")  # within a row, the corrected entries are first
        columns, scores = np.concatenate([first.columns, rest.columns]), np.concatenate([first.scores, moved])
        return Shortlist(rows[order], columns[order], scores[order])

    def save(self, folder: Path) -> None:
        """Write the trees into a model's folder, as text."""
        (folder / RANKER_FILE).write_text(self.trees.model_to_string(), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, depth: int) -> Ranker:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: LightGBM is not installed, or the file is missing or damaged.
        """
        try:
            module = lightgbm()
        except ConfigError as error:
            raise InputError(f"{folder}: {error}") from error
        file = folder / RANKER_FILE
        try:
            return cls(module.Booster(model_str=file.read_text(encoding="utf-8")), depth)
        except (OSError, UnicodeDecodeError, module.basic.LightGBMError) as error:
            raise InputError(
                f"{file} is missing or damaged ({error}). Restore it, or train again with --full-retrain."
            ) from error
