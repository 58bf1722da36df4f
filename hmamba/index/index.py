"""The index over the items' Lorentz points.

<u,v>_L is a plain inner product once the query's time coordinate is negated, and an item's bias is one more coordinate
that meets a 1 in the query. So an inner-product index over (v_0, v_1, ..., v_d, b) ranks exactly as the model does,
whatever its score. By FAISS or by a matrix product it compares with every item and misses none; by cells it looks at
some of a large catalogue's. What was fastest on the night's own queries is what searches, cells only with the recall
that is wanted (:mod:`hmamba.index.choice`). It holds float32; where that cannot tell near items apart
(:mod:`hmamba.index.precision`) the vectors are kept and multiplied in float64.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hmamba.columns import ITEM_ID, ITEM_INDEX, POINT
from hmamba.errors import InputError
from hmamba.index.flat import Flat, faiss_module
from hmamba.index.ivf import Approximate, Effort, build_cells
from hmamba.index.matmul import Excluded, Product, RealArray
from hmamba.index.tuning import START
from hmamba.model import lorentz
from hmamba.models.files import StoredModel
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import IntArray
from hmamba.storage.local import atomic_folder, read_json, sha256, write_json

FloatArray = npt.NDArray[np.float32]
Kind: TypeAlias = Literal["IndexFlatIP", "product", "cells", "float64"]

FLAT: Kind = "IndexFlatIP"
PRODUCT: Kind = "product"
CELLS: Kind = "cells"
FLOAT64: Kind = "float64"
ROWS = 512
"""Queries that are searched at once, where the night's way is chosen as where it is used."""

_DESCRIPTION = "index.json"
_FILES = {FLAT: "items.faiss", PRODUCT: "items.faiss", CELLS: "items.npy", FLOAT64: "items.npy"}
_CELLS_FILE = "cells.faiss"


@dataclass(frozen=True)
class ItemIndex:
    """A searchable catalogue.

    Attributes:
        model_version: whose points these are, see :attr:`hmamba.models.files.StoredModel.identity`.
        candidate_items: the items in the index; its columns are the index's ids.
        vectors: (V, d + 2) what the index holds: float32, or float64 where float32 cannot rank.
        index: what searches them.
    """

    model_version: str
    candidate_items: CandidateItems
    vectors: RealArray
    index: Flat | Product | Approximate

    @property
    def kind(self) -> Kind:
        """How it is searched: by FAISS, by a matrix product, by cells, or by a product in float64."""
        if isinstance(self.index, Flat):
            return FLAT
        if isinstance(self.index, Approximate):
            return CELLS
        return FLOAT64 if self.vectors.dtype == np.float64 else PRODUCT

    def search(self, queries: RealArray, k: int, excluded: Excluded | None = None) -> tuple[RealArray, IntArray]:
        """The ``k`` largest inner products of each query, and the columns that they belong to.

        Args:
            queries: (R, d + 2), of the type of ``vectors``.
            k: how many; all items if there are fewer.
            excluded: (row, column) of entries that are not wanted, sorted by row.

        Returns:
            Products and columns, (R, at least k) each, largest product first. Barred ones may be among them, or
            products of -inf in their place; the k largest of the others are there, by cells but for those missed.
        """
        return self.index.search(queries, min(k, len(self.candidate_items)), excluded)


def restrict(candidate_items: CandidateItems, ids: pa.Array, allowed: pa.ChunkedArray | None) -> CandidateItems:
    """The competing items that are allowed.

    Args:
        candidate_items: the items that the model can score.
        ids: (size,) item ids by index.
        allowed: item ids, or None for all.

    Raises:
        InputError: none is left.
    """
    if allowed is None:
        return candidate_items
    mask = np.zeros(len(candidate_items.column), dtype=np.int64)
    wanted = pa.compute.is_in(ids.take(pa.array(candidate_items.eligible)), value_set=allowed.combine_chunks())
    mask[candidate_items.eligible[wanted.to_numpy(zero_copy_only=False)]] = 1
    if not mask.any():
        raise InputError("candidates.allowed_items holds no item that the model knows: check the ids in that file.")
    return CandidateItems.of(mask, 1)


def build(stored: StoredModel, candidate_items: CandidateItems, kind: Kind = FLAT) -> ItemIndex:
    """Index the points of the items in ``candidate_items``."""
    model = stored.model.in_float64() if kind == FLOAT64 else stored.model
    with torch.inference_mode():
        eligible = torch.from_numpy(candidate_items.eligible).to(model.tangents.weight.device)
        vectors = model.item_vectors(eligible).cpu()
    vectors = vectors if kind == FLOAT64 else vectors.float()
    held: RealArray = vectors.numpy()
    if kind == FLAT:
        index: Flat | Product | Approximate = Flat.of(held)
    elif kind == CELLS:
        index = Approximate(build_cells(held), held, START, Product(vectors, eligible.device))
    else:
        index = Product(vectors, eligible.device if kind == PRODUCT else None)
    return ItemIndex(stored.identity, candidate_items, held, index)


def save(built: ItemIndex, folder: Path, measured: dict[str, Any] | None = None) -> int:
    """Write index and description; returns the index's size in bytes.

    Args:
        built: the index.
        folder: where to.
        measured: what else the description should say, for people.
    """
    with atomic_folder(folder) as temporary:
        path = temporary / _FILES[built.kind]
        cells = {}
        if built.kind in (FLOAT64, CELLS):
            np.save(path, built.vectors, allow_pickle=False)
        else:
            flat = built.index if isinstance(built.index, Flat) else Flat.of(built.vectors)
            faiss_module().write_index(flat.faiss, str(path))
        size = path.stat().st_size
        if isinstance(built.index, Approximate):
            beside = temporary / _CELLS_FILE
            faiss_module().write_index(built.index.faiss, str(beside))
            size += beside.stat().st_size
            cells = {"effort": asdict(built.index.effort), "cells_sha256": sha256(beside)}
        description = {
            "model_version": built.model_version,
            "kind": built.kind,
            "items": len(built.candidate_items),
            "size": len(built.candidate_items.column),
            "dim": int(built.vectors.shape[1]),
            "sha256": sha256(path),
            **cells,
            **(measured or {}),
        }
        np.save(temporary / "eligible.npy", built.candidate_items.eligible, allow_pickle=False)
        write_json(temporary / _DESCRIPTION, description)
    return size


def load(folder: Path, model_version: str, device: torch.device | None = None) -> ItemIndex:
    """Read an index.

    Args:
        folder: where it is.
        model_version: of the model that asks it.
        device: where float32 products are computed; None: on the CPU.

    Raises:
        InputError: it is missing, damaged, or of another model.
    """
    description = read_json(folder / _DESCRIPTION)
    kind = description["kind"]
    path = folder / _FILES.get(kind, "")
    files = {path: description["sha256"]}
    if kind == CELLS:
        files[folder / _CELLS_FILE] = description["cells_sha256"]
    for file, digest in files.items():
        if not file.is_file() or sha256(file) != digest:
            raise InputError(
                f"{file} is not the index that {folder / _DESCRIPTION} describes. Run the index step again."
            )
    if description["model_version"] != model_version:
        raise InputError(
            f"{folder}: the index is of model {description['model_version']}, but {model_version} serves. "
            "Run the index step again."
        )
    mask = np.zeros(description["size"], dtype=np.int64)
    mask[np.load(folder / "eligible.npy", allow_pickle=False)] = 1
    candidate_items = CandidateItems.of(mask, 1)
    if kind in (FLOAT64, CELLS):
        vectors: RealArray = np.load(path, allow_pickle=False)
        if kind == FLOAT64:
            return ItemIndex(model_version, candidate_items, vectors, Product(torch.from_numpy(vectors)))
        exact, effort = Product(torch.from_numpy(vectors), device), Effort(**description["effort"])
        cells = faiss_module().read_index(str(folder / _CELLS_FILE))
        return ItemIndex(model_version, candidate_items, vectors, Approximate(cells, vectors, effort, exact))
    index = faiss_module().read_index(str(path))
    vectors = index.reconstruct_n(0, index.ntotal)
    found = Flat(index) if kind == FLAT else Product(torch.from_numpy(vectors), device)
    return ItemIndex(model_version, candidate_items, vectors, found)


def write_item_points(stored: StoredModel, candidate_items: CandidateItems, path: Path) -> None:
    """Write the items' Lorentz points: item_index, item_id, point (d + 1, time first), space_norm, bias."""
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
    """Points (n, d + 1) as a column of lists."""
    offsets = np.arange(len(points) + 1, dtype=np.int32) * points.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(points.ravel()))
