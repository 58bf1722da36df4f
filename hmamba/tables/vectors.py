"""Vectors of users and items for rankers and vector stores: Lorentz points, and flat vectors whose inner product ranks.

The base score of a model is an increasing function of the inner product of a user's and an item's flat vector
(:mod:`hmamba.model.scores`): the Lorentz inner product becomes a plain one when the user's time coordinate is negated,
and the last coordinate holds the item's bias and a 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from hmamba.columns import ITEM_ID, POINT, TABLES, USER_ID, VECTOR
from hmamba.contracts.tables import VectorSpace
from hmamba.index.index import point_column
from hmamba.models.files import StoredModel
from hmamba.sequences.candidate_items import CandidateItems
from hmamba.sequences.histories import Histories, IntArray
from hmamba.tables.files import writer

_PREFIX = "hmamba."
_ROWS = 1 << 16


def vector_space(stored: StoredModel) -> VectorSpace:
    """What the vectors of a model mean."""
    score = stored.model.score()
    return VectorSpace(
        score=score.kind,
        K=float(score.K.detach()),
        scale=float(score.scale.detach()),
        dimensions=stored.model.config.dim + 2,
    )


def metadata_of(stored: StoredModel) -> dict[str, str]:
    """The metadata of a Parquet file of vectors: the model version and its vector space."""
    space = vector_space(stored).model_dump()
    return {f"{_PREFIX}{key}": str(value) for key, value in {"model_version": stored.version, **space}.items()}


def read_space(path: Path) -> VectorSpace:
    """The vector space that a Parquet file of vectors names in its metadata."""
    found = {key.decode(): value.decode() for key, value in (pq.read_metadata(path).metadata or {}).items()}
    return VectorSpace.model_validate(
        {key.removeprefix(_PREFIX): value for key, value in found.items() if key.startswith(_PREFIX)}
    )


@torch.inference_mode()
def write_item_vectors(stored: StoredModel, items: CandidateItems, path: Path) -> None:
    """Write the table item_vectors, sorted by item id."""
    ids = stored.item_ids.take(pa.array(items.eligible))
    ordered = items.eligible[pc.sort_indices(ids).to_numpy()]
    model = stored.model
    with writer(path, "item_vectors", metadata_of(stored)) as parquet:
        for start in range(0, len(ordered), _ROWS):
            block = ordered[start : start + _ROWS]
            index = torch.from_numpy(block).to(model.tangents.weight.device)
            points, vectors = model.item_points(index), model.item_vectors(index)
            parquet.write_table(_rows("item_vectors", ITEM_ID, stored.item_ids.take(pa.array(block)), points, vectors))


class UserVectors:
    """Writes the table user_vectors for the users of a shard, block by block."""

    def __init__(self, stored: StoredModel, parquet: pq.ParquetWriter) -> None:
        self._model, self._parquet = stored.model, parquet

    @classmethod
    @contextmanager
    def to(cls, stored: StoredModel, path: Path) -> Iterator[UserVectors]:
        """Open a file, which is complete after the block."""
        with writer(path, "user_vectors", metadata_of(stored)) as parquet:
            yield cls(stored, parquet)

    @torch.inference_mode()
    def add(self, histories: Histories, users: IntArray, hidden_Rd: torch.Tensor) -> None:
        """Write the users (R,) of a block, whose hidden states are given."""
        hidden_Rd = hidden_Rd.to(self._model.tangents.weight.device)
        points, vectors = self._model.user_points(hidden_Rd), self._model.query_vectors(hidden_Rd)
        names = histories.users.take(pa.array(users)).cast(pa.string())
        self._parquet.write_table(_rows("user_vectors", USER_ID, names, points, vectors))


def _rows(name: str, key: str, ids: pa.Array, points: torch.Tensor, vectors: torch.Tensor) -> pa.Table:
    columns = {key: ids}
    for column, values in ((POINT, points), (VECTOR, vectors)):
        columns[column] = point_column(np.ascontiguousarray(values.float().cpu().numpy()))
    return pa.table(columns, schema=pa.schema(TABLES[name]))
