"""Convert columns of any type to text, ids and numbers.

The functions take an Arrow array from a reader, or members of JSON objects, and the words that mean an absent value.
They raise :class:`UnreadableType` if no value of the type can be converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_EXACT_BITS = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}
"""Bits of the significand: integers with more bits are not unique, since two of them may round to the same float."""

_UUID_BYTES = 16
_UUID_DASHES = (8, 13, 18, 23)
_WHOLE_DECIMAL = r"^(?:-?\d+(?:\.0*)?|0E[+-]?\d+)$"


class UnreadableType(Exception):  # noqa: N818 - converted to an InputError by callers, which know file and column
    """The type of a column is not supported; ``cure`` names the types that are."""

    def __init__(self, kind: pa.DataType, cure: str) -> None:
        super().__init__(str(kind))
        self.kind, self.cure = kind, cure


@dataclass(frozen=True)
class Members:
    """One member of each of N JSON objects.

    Attributes:
        kinds: DuckDB's json_type of each member (N,); null if the member is absent.
        texts: strings without quotes, other values as JSON (N,).
    """

    kinds: pa.StringArray
    texts: pa.StringArray

    def of_kind(self, *kinds: str) -> pa.StringArray:
        """Texts of the members of the given kinds, null elsewhere (N,)."""
        return pc.if_else(pc.is_in(self.kinds, value_set=pa.array(kinds)), self.texts, pa.scalar(None, pa.string()))


Column: TypeAlias = pa.Array | Members


@dataclass(frozen=True)
class Ids:
    """Ids of N rows.

    Attributes:
        values: strings, or integers whose decimal text is the id (N,); null where there is no id.
        unreadable: bool (N,): there is a value, but it is not a valid id.
    """

    values: pa.Array
    unreadable: pa.BooleanArray

    def texts(self) -> pa.StringArray:
        """The ids as text."""
        return self.values.cast(pa.string())


def decoded(column: pa.Array) -> pa.Array:
    """The column without extension type, dictionary or run-end encoding; all text types become string."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    return column


def is_number(kind: pa.DataType) -> bool:
    """Whether a type is numeric."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_uuid(kind: pa.DataType) -> bool:
    """Whether a type is binary of 16 bytes, which is read as a UUID."""
    return bool(pa.types.is_fixed_size_binary(kind) and kind.byte_width == _UUID_BYTES)


def trimmed(column: pa.StringArray, null_words: Sequence[str]) -> pa.StringArray:
    """Text without surrounding blanks; null if it is then empty or one of ``null_words``."""
    text = pc.utf8_trim_whitespace(column)
    absent = pc.is_in(text, value_set=pa.array(["", *null_words], pa.string()))
    return pc.if_else(absent, pa.scalar(None, pa.string()), text) if pc.any(absent).as_py() else text


def texts(column: Column, null_words: Sequence[str]) -> tuple[pa.StringArray, pa.BooleanArray]:
    """Display texts such as titles, and a mask of the rows that contain a JSON object or array instead.

    Raises:
        UnreadableType: the column is nested or binary.
    """
    if isinstance(column, Members):
        words = trimmed(column.of_kind("VARCHAR"), null_words)
        others = column.of_kind("BIGINT", "UBIGINT", "DOUBLE", "BOOLEAN")
        return pc.coalesce(words, others), _is_nested(column)
    column = decoded(column)
    if pa.types.is_string(column.type):
        return trimmed(column, null_words), _never(len(column))
    if not (is_number(column.type) or pa.types.is_boolean(column.type) or pa.types.is_null(column.type)):
        raise UnreadableType(column.type, "a string")
    return column.cast(pa.string()), _never(len(column))


def ids(column: Column, null_words: Sequence[str]) -> Ids:
    """Convert a column to ids. All ids are converted here.

    Text is kept, without surrounding blanks. Whole numbers give the same id in every type: 1000, 1000.0 and a decimal
    1000.00 are all "1000". NaN and null are absent ids. Binary values of 16 bytes are UUIDs. Floats too large to be
    exact are unreadable, since several ids may have been rounded to one.

    Raises:
        UnreadableType: the column has any other type.
    """
    if isinstance(column, Members):
        return _member_ids(column, null_words)
    column = decoded(column)
    kind = column.type
    if pa.types.is_string(kind):
        return Ids(trimmed(column, null_words), _never(len(column)))
    if pa.types.is_integer(kind) or pa.types.is_null(kind):
        return Ids(column, _never(len(column)))
    if pa.types.is_boolean(kind):
        return Ids(column.cast(pa.string()), _never(len(column)))
    if kind in _EXACT_BITS:
        return _float_ids(column)
    if pa.types.is_decimal(kind):
        return _decimal_ids(column)
    if is_uuid(kind):
        return Ids(uuids(column), _never(len(column)))
    raise UnreadableType(kind, "a string, a whole number or a UUID")


def numbers(column: Column, null_words: Sequence[str]) -> pa.Array:
    """Convert a column to float64, or to text that DuckDB converts to numbers; null where the value is absent.

    Raises:
        UnreadableType: the column is nested, binary or a time.
    """
    if isinstance(column, Members):
        written = trimmed(column.of_kind("VARCHAR"), null_words)
        return pc.coalesce(written, column.of_kind("BIGINT", "UBIGINT", "DOUBLE"))
    column = decoded(column)
    kind = column.type
    if pa.types.is_string(kind):
        return trimmed(column, null_words)
    if pa.types.is_boolean(kind) or pa.types.is_null(kind):
        return pa.nulls(len(column), pa.float64())
    if is_number(kind):
        return column.cast(pa.float64(), safe=False)
    raise UnreadableType(kind, "a number")


def _never(count: int) -> pa.BooleanArray:
    return pa.array(np.zeros(count, dtype=bool))


def _is_nested(members: Members) -> pa.BooleanArray:
    return pc.is_in(members.kinds, value_set=pa.array(["OBJECT", "ARRAY"]))


def _float_ids(column: pa.FloatingPointArray) -> Ids:
    bits = _EXACT_BITS[column.type]
    values = column.cast(pa.float64())
    present = pc.and_(pc.is_valid(values), pc.invert(pc.fill_null(pc.is_nan(values), True)))
    is_id = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), float(2**bits)))
    is_id = pc.and_(present, pc.fill_null(is_id, False))
    whole = pc.if_else(is_id, values, pa.scalar(None, pa.float64())).cast(pa.int64())
    return Ids(whole, pc.and_not(present, is_id))


def _decimal_ids(column: pa.Array) -> Ids:
    text = column.cast(pa.string())
    is_id = pc.fill_null(pc.match_substring_regex(text, _WHOLE_DECIMAL), False)
    whole = pc.replace_substring_regex(text, r"[.E].*$", "")
    values = pc.if_else(is_id, whole, pa.scalar(None, pa.string()))
    return Ids(values, pc.and_not(pc.is_valid(text), is_id))


def uuids(column: pa.FixedSizeBinaryArray) -> pa.StringArray:
    """Canonical text of each UUID, 8-4-4-4-12 hex digits."""
    count = len(column)
    data = column.fill_null(bytes(_UUID_BYTES)).buffers()[1] if column.null_count else column.buffers()[1]
    offset = 0 if column.null_count else column.offset
    raw = np.frombuffer(data, np.uint8, count * _UUID_BYTES, offset * _UUID_BYTES)
    digits = np.frombuffer(raw.tobytes().hex().encode(), np.uint8).reshape(count, 2 * _UUID_BYTES)
    width = 2 * _UUID_BYTES + len(_UUID_DASHES)
    texts = np.full((count, width), ord("-"), np.uint8)
    texts[:, [at for at in range(width) if at not in _UUID_DASHES]] = digits
    ends = pa.array(np.arange(count + 1, dtype=np.int32) * width)
    written = pa.StringArray.from_buffers(count, ends.buffers()[1], pa.py_buffer(texts.tobytes()))
    return pc.if_else(column.is_valid(), written, pa.scalar(None, pa.string()))


def _member_ids(members: Members, null_words: Sequence[str]) -> Ids:
    real = members.of_kind("DOUBLE")
    # DuckDB reports integers beyond 64 bits as DOUBLE, but the text has all digits.
    digits = pc.fill_null(pc.match_substring_regex(real, r"^-?\d+$"), False)
    floats = _float_ids(pc.if_else(digits, pa.scalar(None, pa.string()), real).cast(pa.float64()))
    values = pc.coalesce(
        trimmed(members.of_kind("VARCHAR"), null_words),
        members.of_kind("BIGINT", "UBIGINT", "BOOLEAN"),
        pc.if_else(digits, real, pa.scalar(None, pa.string())),
        floats.texts(),
    )
    return Ids(values, pc.or_(_is_nested(members), floats.unreadable))
