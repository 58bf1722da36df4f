"""Data frames of any library at the edge of the :mod:`hmamba.recommender`, through narwhals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import narwhals as nw
import narwhals.exceptions
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hmamba.errors import InputError
from hmamba.sequences.histories import IntArray
from hmamba.sources.values import UnreadableType, is_uuid
from hmamba.sources.values import ids as ids_of

_EAGER = ("pandas", "polars", "pyarrow", "modin", "cudf")


def to_arrow(frame: Any, name: str) -> tuple[pa.Table, str]:
    """Convert a frame to Arrow.

    Args:
        frame: a frame of any library that narwhals reads.
        name: the name of the argument, for messages.

    Returns:
        The table, and the library for results: that of the frame, PyArrow for a library without frames in memory.

    Raises:
        InputError: it is no frame, or Arrow cannot hold a column.
    """
    try:
        native = nw.from_native(frame)
        table: pa.Table = (native.collect() if isinstance(native, nw.LazyFrame) else native).to_arrow()
    except (TypeError, ValueError, pa.ArrowException, narwhals.exceptions.NarwhalsError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{name} cannot be read ({reason}). Give a pandas, Polars or PyArrow frame or a DuckDB relation with one "
            "type per column and each column name once."
        ) from error
    library = str(native.implementation.value)
    return table, library if library in _EAGER else "pyarrow"


def from_arrow(columns: dict[str, pa.Array], library: str) -> Any:
    """Make a frame of a library from Arrow columns."""
    backend: Any = library
    return nw.from_dict(columns, backend=backend).to_native()


def type_of_ids(kind: pa.DataType) -> pa.DataType:
    """The type of ids in results, for the type of a frame's column.

    That of the values for a category, text for UUIDs (few libraries have a type for them), otherwise the column's own.
    """
    if pa.types.is_dictionary(kind):
        return type_of_ids(kind.value_type)
    stored = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return pa.string() if is_uuid(stored) else kind


def texts_of(ids: Any, what: str) -> pa.Array:
    """Ids as text, in the form of the warehouse.

    Args:
        ids: a sequence or a series.
        what: "user" or "item", for messages.

    Raises:
        InputError: it is a single id or a frame, or the ids are of a type that cannot be read.
    """
    series = nw.from_native(ids, allow_series=True, pass_through=True)
    if isinstance(ids, str | bytes) or not (isinstance(series, nw.Series) or isinstance(ids, Iterable)):
        raise InputError(f"{what}s = {ids!r}: give a list of {what} ids, such as [{ids!r}].")
    if isinstance(series, nw.DataFrame | nw.LazyFrame):
        raise InputError(f"{what}s is a frame: give one of its columns, with the {what} ids.")
    try:
        array = series.to_arrow() if isinstance(series, nw.Series) else pa.array(list(ids))
        return ids_of(array, null_words=()).values.cast(pa.string())
    except UnreadableType as error:
        raise InputError(f"{what}s are of type {error.kind}. Give them as {error.cure}.") from None
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{what}s cannot be read ({error}). Give ids of one type.") from None


def positions(texts: pa.Array, known: pa.Array, what: str) -> IntArray:
    """Positions of ids in ``known``.

    Raises:
        InputError: ``known`` does not contain some of the ids.
    """
    found = pc.index_in(texts, value_set=known)
    if found.null_count:
        unknown = texts.filter(found.is_null()).to_pylist()
        more = f" and {len(unknown) - 3:,} more" if len(unknown) > 3 else ""
        raise InputError(f"{what} {', '.join(map(repr, unknown[:3]))}{more}: unknown to the model.")
    places: IntArray = found.to_numpy(zero_copy_only=False).astype(np.int64)
    return places
