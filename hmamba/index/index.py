"""The index over the items' Lorentz points.

<u,v>_L is a plain inner product once the query's time coordinate is negated, and an item's bias is one more coordinate,
multiplied by a 1 in the query. An inner-product index over (v_0, v_1, ..., v_d, b) therefore ranks exactly as every
base score of the model. It is searched by one of :data:`hmamba.index.registry.SEARCHERS`, chosen by its speed and
recall on the night's own queries (:mod:`hmamba.index.choice`). Vectors are float32, or float64 if float32 cannot
distinguish near items (:mod:`hmamba.index.precision`).

New items (:mod:`hmamba.training.new_items`) have a search of their own, always exact and of the same precision, because
a share of each user's candidates is reserved for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hmamba.columns import ITEM_ID, ITEM_INDEX, POINT
from hmamba.errors import InputError
from hmamba.index.base import Excluded, FloatArray, RealArray, Searcher
from hmamba.index.flat import FlatSearcher
from hmamba.index.matmul import Float64Searcher, MatmulSearcher
from hmamba.index.registry import SEARCHERS
from hmamba.model import lorentz
from hmamba.models.files import StoredModel
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import IntArray
from hmamba.storage.local import atomic_folder, sha256
from hmamba.storage.run_layout import INDEX_DESCRIPTION

ROWS = 512
"""Number of queries per search call, both in the choice of a search and in scoring."""

_CANDIDATE_ITEMS = "candidate_items.npy"
"""Whether each item index (size,) is a candidate item."""
_NEW_ITEMS = "new_items.npz"
"""The new items: their indices ``items``, ``vectors`` and ``share``; absent without new items."""


@dataclass(frozen=True)
class ItemIndex:
    """Candidate items and the search over their vectors.

    Attributes:
        model_version: identity of the model, see :attr:`hmamba.models.files.StoredModel.identity`.
        candidate_items: the items in the index; their columns are the ids in the index.
        searcher: the search over their vectors.
        new: index of the new items, none of which is a candidate item; None without any.
        new_share: share of a user's candidates that are new items at least, in [0, 1).
    """

    model_version: str
    candidate_items: CandidateItems
    searcher: Searcher
    new: ItemIndex | None = None
    new_share: float = 0.0

    @property
    def served_items(self) -> CandidateItems:
        """All items that may be recommended."""
        return self.candidate_items if self.new is None else self.candidate_items.together(self.new.candidate_items)

    @property
    def kind(self) -> str:
        """Name of the searcher."""
        return self.searcher.name

    @property
    def vectors(self) -> RealArray:
        """Item vectors (V, d + 2), float32 or float64."""
        return self.searcher.vectors

    def search(self, queries: RealArray, k: int, excluded: Excluded | None = None) -> tuple[RealArray, IntArray]:
        """Return the ``k`` largest products of each query and their columns, or all if there are fewer items.

        Arguments and results are those of :meth:`hmamba.index.base.Searcher.search`.
        """
        return self.searcher.search(queries, min(k, len(self.candidate_items)), excluded)


def restrict(ids: pa.Array, allowed: pa.ChunkedArray | None, *items: CandidateItems) -> tuple[CandidateItems, ...]:
    """Restrict items to allowed ones.

    Args:
        ids: (size,) item ids by index.
        allowed: allowed item ids; None for all.
        items: the items that the model can score, in one or more parts.

    Raises:
        InputError: no part holds an allowed item.
    """
    if allowed is None:
        return items
    kept = tuple(part.among(ids, allowed.combine_chunks()) for part in items)
    if not any(len(part) for part in kept):
        raise InputError("candidates.allowed_items holds no item that the model knows: check the ids in that file.")
    return kept


def build(stored: StoredModel, candidate_items: CandidateItems, kind: str = FlatSearcher.name) -> ItemIndex:
    """Index the points of the items in ``candidate_items`` with the searcher that is registered as ``kind``."""
    searcher = SEARCHERS[kind]
    is_double = searcher.dtype == np.float64
    model = stored.model.in_float64() if is_double else stored.model
    with torch.inference_mode():
        eligible = torch.from_numpy(candidate_items.eligible).to(model.tangents.weight.device)
        vectors = model.item_vectors(eligible).cpu()
    held: RealArray = (vectors if is_double else vectors.float()).numpy()
    return ItemIndex(stored.identity, candidate_items, searcher.build(held, eligible.device))


def with_new(stored: StoredModel, built: ItemIndex, new_items: CandidateItems, share: float) -> ItemIndex:
    """An index together with one of new items, searched exactly in the same precision; itself without new items."""
    if not len(new_items):
        return built
    kind = Float64Searcher.name if built.vectors.dtype == np.float64 else MatmulSearcher.name
    return replace(built, new=build(stored, new_items, kind), new_share=share)


def save(built: ItemIndex, folder: Path) -> int:
    """Write an index and its description atomically; return the size of the index in bytes."""
    from hmamba.contracts.models import IndexDescription

    with atomic_folder(folder) as temporary:
        built.searcher.save(temporary)
        np.save(temporary / _CANDIDATE_ITEMS, built.candidate_items.column >= 0, allow_pickle=False)
        if built.new is not None:
            own = {"items": built.new.candidate_items.eligible, "vectors": built.new.vectors}
            np.savez(temporary / _NEW_ITEMS, allow_pickle=False, share=np.float64(built.new_share), **own)
        files = sorted(temporary.iterdir())
        description = IndexDescription(
            model_version=built.model_version,
            kind=built.kind,
            sha256={file.name: sha256(file) for file in files},
        )
        description.write(temporary / INDEX_DESCRIPTION)
        return sum(file.stat().st_size for file in files)


def load(folder: Path, model_version: str, device: torch.device | None = None) -> ItemIndex:
    """Read an index.

    Args:
        folder: folder of the index.
        model_version: identity of the model whose queries it will answer.
        device: device for float32 products; None for the CPU.

    Raises:
        InputError: the index is missing, damaged, or of another model.
    """
    from hmamba.contracts.models import IndexDescription

    description = IndexDescription.read(folder / INDEX_DESCRIPTION)
    kind = description.kind
    if kind not in SEARCHERS:
        raise InputError(
            f"{folder / INDEX_DESCRIPTION}: unknown search {kind!r}; known are {', '.join(SEARCHERS)}. "
            "Run the index step again."
        )
    found = {path.name: sha256(path) for path in folder.iterdir() if path.name != INDEX_DESCRIPTION}
    if found != description.sha256 or _CANDIDATE_ITEMS not in found:
        names = sorted(name for name, _ in found.items() ^ description.sha256.items()) or [_CANDIDATE_ITEMS]
        raise InputError(
            f"{folder / names[0]} is not the file that {folder / INDEX_DESCRIPTION} describes. {IndexDescription.CURE}"
        )
    if description.model_version != model_version:
        raise InputError(
            f"{folder}: the index is of model {description.model_version}, but {model_version} serves. "
            "Run the index step again."
        )
    mask = np.load(folder / _CANDIDATE_ITEMS, allow_pickle=False).astype(np.int64)
    loaded = ItemIndex(model_version, CandidateItems.of(mask, 1), SEARCHERS[kind].load(folder, device))
    if _NEW_ITEMS not in found:
        return loaded
    with np.load(folder / _NEW_ITEMS, allow_pickle=False) as new:
        items, vectors, share = CandidateItems.only(new["items"], len(mask)), new["vectors"], float(new["share"])
    search = Float64Searcher if vectors.dtype == np.float64 else MatmulSearcher
    return replace(loaded, new=ItemIndex(model_version, items, search.build(vectors, device)), new_share=share)


def write_item_points(stored: StoredModel, candidate_items: CandidateItems, path: Path) -> None:
    """Write the items' Lorentz points as Parquet.

    Columns: item_index, item_id, point (d + 1, time first), space_norm, distance_from_origin, bias.
    """
    with torch.inference_mode():
        eligible = torch.from_numpy(candidate_items.eligible).to(stored.model.tangents.weight.device)
        points = stored.model.item_points(eligible).float().cpu()
        bias = stored.model.item_bias(eligible)
        K = 1 / stored.model.curvature.cpu()
    table = pa.table(
        {
            ITEM_INDEX: pa.array(candidate_items.eligible, pa.int32()),
            ITEM_ID: stored.item_ids.take(pa.array(candidate_items.eligible)),
            POINT: point_column(points.numpy()),
            "space_norm": pa.array(points[:, 1:].norm(dim=1).numpy()),
            "distance_from_origin": pa.array(lorentz.distance0(points, K=K).numpy()),
            "bias": pa.array(np.zeros(len(points), np.float32) if bias is None else bias.float().cpu().numpy()),
        }
    )
    pq.write_table(table, path)


def point_column(points: FloatArray) -> pa.Array:
    """Convert points (n, d + 1) to a column of lists."""
    offsets = np.arange(len(points) + 1, dtype=np.int32) * points.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(points.ravel()))
