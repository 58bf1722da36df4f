"""Exact search: float32 on this device against float64 on the CPU, faiss-gpu against both."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.gpu.context import Context
from hmamba.candidates.retrieve import retrieve
from hmamba.evaluation.ranking import rank_all
from hmamba.index.index import ItemIndex, build
from hmamba.index.matmul import Float64Searcher, MatmulSearcher
from hmamba.inference.encode import encode_users
from hmamba.sequences.histories import IntArray

FloatArray = npt.NDArray[np.float32]

OVERLAP = 0.999
"""Least share of the true best k that must be found; under it the night would have to search in float64."""


def overlap(found: IntArray, right: IntArray) -> float:
    """Mean share of each row's right items that were found."""
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found, right, strict=True)]
    return float(np.mean(shared) / right.shape[1])


def search(context: Context) -> None:
    """Search with every user's query over the trained model's items."""
    record, shop, stored = context.record, context.shop, context.shop.champion()
    model, k = stored.model, min(shop.config.candidates.k, len(stored.candidate_items))
    past = shop.yesterday.select(np.flatnonzero(shop.yesterday.lengths > 0))
    hidden_Ud = encode_users(model, past)
    with torch.inference_mode():
        queries = model.query_vectors(hidden_Ud.to(context.device)).float().cpu().numpy()
    index = build(stored, stored.candidate_items, MatmulSearcher.name)
    _, found = index.search(queries, k)

    _, right = Float64Searcher(index.vectors.astype(np.float64)).search(queries.astype(np.float64), k)
    value = overlap(found, right)
    record.check(
        "float32 product on the device, float64 product of the same vectors",
        value >= OVERLAP,
        **{f"overlap@{k}": value, "least": OVERLAP, "queries": len(queries), "items": len(index.vectors)},
    )

    exact = copy.deepcopy(model).cpu().double()
    with torch.inference_mode():
        queries64_UX = exact.query_vectors(hidden_Ud.double())
        items64_VX = exact.item_vectors(torch.from_numpy(stored.candidate_items.eligible))
        right = torch.topk(queries64_UX @ items64_VX.T, k, dim=1).indices.numpy()
    value = overlap(found, right)
    record.check(
        "float32 geometry on the device, float64 geometry on the CPU",
        value >= OVERLAP,
        **{f"overlap@{k}": value, "least": OVERLAP},
    )

    # Retrieval pads each block by its longest history of distinct items; the oracle scores everything densely.
    settings = shop.config.candidates
    ranked = retrieve(stored, index, past, hidden_Ud, k=k, exclude_seen=settings.exclude_seen)
    dense, _ = rank_all(model, past, stored.candidate_items, k=k, exclude_seen=settings.exclude_seen)
    whole = bool((np.bincount(ranked.users, minlength=len(past)) == k).all())
    value = overlap(ranked.items.reshape(len(past), k), dense) if whole else 0.0
    record.check(
        "candidates by index and repeat consumption, dense ranking",
        value >= OVERLAP,
        **{f"overlap@{k}": value, "least": OVERLAP},
    )
    _faiss(context, index, queries, found, k)


def _faiss(context: Context, index: ItemIndex, queries: FloatArray, right: IntArray, k: int) -> None:
    """FAISS's flat index, on the card where it can."""
    try:
        import faiss
    except ImportError as error:
        context.record.skip("faiss-gpu against the exact product", f"faiss does not import ({error})")
        return
    flat: Any = faiss.IndexFlatIP(index.vectors.shape[1])
    flat.add(index.vectors)
    name = "FAISS on the CPU"
    if context.device.type == "cuda" and hasattr(faiss, "StandardGpuResources"):
        name = "faiss-gpu"
        resources = faiss.StandardGpuResources()  # must outlive the index
        flat = faiss.index_cpu_to_gpu(resources, torch.cuda.current_device(), flat)
    else:
        context.record.skip("faiss-gpu against the exact product", "this FAISS has no GPU support, or there is no CUDA")
    products, columns = flat.search(queries, k)
    value = overlap(columns, right)
    mine = np.einsum("ux,ukx->uk", queries.astype(np.float64), index.vectors.astype(np.float64)[columns])
    largest = float(np.abs(products - mine).max() / np.abs(mine).max())
    context.record.check(
        f"{name} against the exact product",
        value >= OVERLAP and largest < 1e-4,
        **{f"recall@{k}": value, "least": OVERLAP, "largest_error_of_a_product": largest},
    )
