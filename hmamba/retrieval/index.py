"""The FAISS index over the items' Lorentz points.

<u,v>_L is a plain inner product once the query's time coordinate is negated, and an item's bias is one more coordinate
that meets a 1 in the query. So an inner-product index over (v_0, v_1, ..., v_d, b) ranks exactly as the model does,
whatever its score. The index is flat: it compares with every item and misses none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hmamba.columns import ITEM_ID, ITEM_INDEX
from hmamba.errors import InputError
from hmamba.files import atomic_file, atomic_folder, read_json, sha256, write_json
from hmamba.model import lorentz
from hmamba.registry import StoredModel
from hmamba.sequences.catalogue import Catalogue
from hmamba.sequences.histories import IntArray

FloatArray = npt.NDArray[np.float32]

_DESCRIPTION, _INDEX = "index.json", "items.faiss"
KIND = "IndexFlatIP"


@dataclass(frozen=True)
class ItemIndex:
    """A searchable catalogue.

    Attributes:
        model_version: whose points these are.
        catalogue: the items in the index; its columns are the index's ids.
        vectors: (V, d + 2) what the index holds.
        index: the FAISS index.
    """

    model_version: str
    catalogue: Catalogue
    vectors: FloatArray
    index: Any

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IntArray]:
        """The ``k`` largest inner products of each query (R, d + 2), and the columns (R, k) that they belong to."""
        products, columns = self.index.search(np.ascontiguousarray(queries), min(k, len(self.catalogue)))
        return products, columns


def restrict(catalogue: Catalogue, ids: pa.Array, allowed: pa.ChunkedArray | None) -> Catalogue:
    """The competing items that are allowed.

    Args:
        catalogue: the items that the model can score.
        ids: (size,) item ids by index.
        allowed: item ids, or None for all.

    Raises:
        InputError: none is left.
    """
    if allowed is None:
        return catalogue
    mask = np.zeros(len(catalogue.column), dtype=np.int64)
    wanted = pa.compute.is_in(ids.take(pa.array(catalogue.eligible)), value_set=allowed.combine_chunks())
    mask[catalogue.eligible[wanted.to_numpy(zero_copy_only=False)]] = 1
    if not mask.any():
        raise InputError("candidates.allowed_items holds no item that the model knows: check the ids in that file.")
    return Catalogue.of(mask, 1)


def build(stored: StoredModel, catalogue: Catalogue) -> ItemIndex:
    """Index the points of the items in ``catalogue``."""
    with torch.inference_mode():
        eligible = torch.from_numpy(catalogue.eligible).to(stored.model.tangents.weight.device)
        vectors = stored.model.item_vectors(eligible).float().cpu().numpy()
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return ItemIndex(stored.version, catalogue, vectors, index)


def save(built: ItemIndex, folder: Path) -> int:
    """Write index and description; returns the index's size in bytes."""
    with atomic_folder(folder) as temporary:
        faiss.write_index(built.index, str(temporary / _INDEX))
        size = (temporary / _INDEX).stat().st_size
        description = {
            "model_version": built.model_version,
            "kind": KIND,
            "items": len(built.catalogue),
            "size": len(built.catalogue.column),
            "dim": int(built.vectors.shape[1]),
            "sha256": sha256(temporary / _INDEX),
        }
        np.save(temporary / "eligible.npy", built.catalogue.eligible, allow_pickle=False)
        write_json(temporary / _DESCRIPTION, description)
    return size


def load(folder: Path, model_version: str) -> ItemIndex:
    """Read an index.

    Raises:
        InputError: it is missing, damaged, or of another model.
    """
    description = read_json(folder / _DESCRIPTION)
    path = folder / _INDEX
    if not path.exists() or sha256(path) != description["sha256"]:
        raise InputError(f"{path} is not the index that {folder / _DESCRIPTION} describes. Run the index step again.")
    if description["model_version"] != model_version:
        raise InputError(
            f"{folder}: the index is of model {description['model_version']}, but {model_version} serves. "
            "Run the index step again."
        )
    index = faiss.read_index(str(path))
    mask = np.zeros(description["size"], dtype=np.int64)
    mask[np.load(folder / "eligible.npy", allow_pickle=False)] = 1
    return ItemIndex(model_version, Catalogue.of(mask, 1), index.reconstruct_n(0, index.ntotal), index)


def write_item_points(stored: StoredModel, catalogue: Catalogue, path: Path) -> None:
    """Write the items' Lorentz points: item_index, item_id, point (d + 1, time first), space_norm, bias."""
    with torch.inference_mode():
        eligible = torch.from_numpy(catalogue.eligible).to(stored.model.tangents.weight.device)
        points = stored.model.item_points(eligible).float().cpu()
        bias = stored.model.item_bias(eligible)
        K = 1 / stored.model.curvature.cpu()
    table = pa.table(
        {
            ITEM_INDEX: pa.array(catalogue.eligible, pa.int32()),
            ITEM_ID: stored.item_ids.take(pa.array(catalogue.eligible)),
            "point": point_column(points.numpy()),
            "space_norm": pa.array(points[:, 1:].norm(dim=1).numpy()),
            "distance_from_origin": pa.array(lorentz.distance0(points, K=K).numpy()),
            "bias": pa.array(np.zeros(len(points), np.float32) if bias is None else bias.float().cpu().numpy()),
        }
    )
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary)


def point_column(points: FloatArray) -> pa.Array:
    """Points (n, d + 1) as a column of lists."""
    offsets = np.arange(len(points) + 1, dtype=np.int32) * points.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(points.ravel()))
