"""What the pages of a Parquet file take in memory, from the page headers, since a footer may misstate it.

Arrow allocates what a page header asks for, and a short page can name one long value for every row. A page header is a
struct in Thrift's compact protocol (https://github.com/apache/parquet-format, parquet.thrift).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_HEADER_BYTES = 512
_MOST_HEADER_BYTES = 1 << 24
_LENGTH_BYTES = 4
_DICTIONARY_PAGE, _DELTA_BYTE_ARRAY = 2, 7
_TYPE, _UNCOMPRESSED, _COMPRESSED, _VALUES = 1, 2, 3, 1
_DATA_PAGES = {0: (5, 2), 3: (8, 4)}
"""For each type of data page, the number of its field in the header, and in that the number of the encoding."""
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_CODECS = {"LZ4": "lz4_raw"}


@dataclass(frozen=True)
class ChunkSize:
    """What the pages of a column chunk take in memory.

    Attributes:
        page_bytes: its largest data page and its dictionary, uncompressed.
        values: number of values, with nulls and those of lists.
        value_bytes: upper bound on the bytes of a value. For texts, only of those that pages repeat or continue: all
            others of a page have its bytes together.
    """

    page_bytes: int
    values: int
    value_bytes: int


class BadPageError(Exception):
    """The bytes at some place are not a page header."""


def chunk_size(handle: int, column: pq.ColumnChunkMetaData, fixed_length: int, most: int) -> ChunkSize:
    """Measure a column chunk; reads its page headers and its dictionary.

    Args:
        handle: descriptor of the open file.
        column: the chunk, from the footer.
        fixed_length: length of the column's values if they have a fixed one.
        most: a dictionary of more bytes, compressed or not, is not read.

    Raises:
        BadPageError: the chunk has no valid pages where the footer says.
    """
    is_text = column.physical_type == "BYTE_ARRAY"
    dictionary = largest = values = 0
    longest = 0 if is_text else _WIDTHS.get(column.physical_type, fixed_length)
    for place, header in _pages(handle, column) if column.num_values else ():
        size = header[_UNCOMPRESSED]
        if header[_TYPE] == _DICTIONARY_PAGE:
            dictionary = max(dictionary, size)
            if is_text:
                is_read = size <= most and header[_COMPRESSED] <= most
                longest = max(longest, _longest(handle, place, header, column.compression) if is_read else size)
            continue
        largest = max(largest, size)
        if header[_TYPE] in _DATA_PAGES:
            field, encoding = _DATA_PAGES[header[_TYPE]]
            data = header.get(field)
            if not isinstance(data, dict):
                raise BadPageError(f"a page header without field {field}")
            values += _size(data, _VALUES)
            if is_text and data.get(encoding) == _DELTA_BYTE_ARRAY:
                longest = max(longest, size)
        if values >= column.num_values:  # as Arrow, which reads no further
            break
    return ChunkSize(dictionary + largest, values, longest)


def _pages(handle: int, column: pq.ColumnChunkMetaData) -> Iterator[tuple[int, dict[int, Any]]]:
    """Place of the content and fields of the header of each page of a chunk."""
    place = column.data_page_offset
    if column.has_dictionary_page:
        place = min(place, column.dictionary_page_offset)
    end = place + column.total_compressed_size
    while place < end:
        header, length = _header(handle, place)
        place += length
        yield place, header
        place += header[_COMPRESSED]


def _header(handle: int, place: int) -> tuple[dict[int, Any], int]:
    """Fields and length of the page header at a place."""
    asked = _HEADER_BYTES
    while True:
        try:
            data = os.pread(handle, asked, place)
            reader = _Compact(data)
            header = reader.struct()
        except IndexError:
            if len(data) < asked or asked >= _MOST_HEADER_BYTES:
                raise BadPageError(f"no page header at byte {place}") from None
            asked *= 8
            continue
        except (RecursionError, ValueError, OSError):
            raise BadPageError(f"no page header at byte {place}") from None
        for field in (_TYPE, _UNCOMPRESSED, _COMPRESSED):
            _size(header, field)
        return header, reader.at


def _size(fields: dict[int, Any], number: int) -> int:
    """A field that is a number of bytes or values, or a type."""
    size = fields.get(number)
    if not isinstance(size, int) or size < 0:
        raise BadPageError(f"a page header without field {number}")
    return size


def _longest(handle: int, place: int, header: dict[int, Any], compression: str) -> int:
    """Length of the longest text of a dictionary; that of the page if it cannot be decompressed here."""
    size = int(header[_UNCOMPRESSED])
    data = os.pread(handle, header[_COMPRESSED], place)
    if compression != "UNCOMPRESSED":
        try:
            data = pa.decompress(data, size, _CODECS.get(compression, compression.lower()), asbytes=True)
        except (pa.ArrowException, OSError, ValueError):
            return size
    longest = at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + _LENGTH_BYTES], "little")
        longest = max(longest, length)
        at += _LENGTH_BYTES + length
    return min(longest, size)


class _Compact:
    """Reader of Thrift's compact protocol. Reading past the data raises an IndexError."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def struct(self) -> dict[int, Any]:
        """The 32-bit integers and structs in a struct, by the numbers of their fields; all others are skipped."""
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) & 15:
            number = number + (head >> 4) if head >> 4 else self._integer()
            value = self._value(head & 15)
            if value is not None:
                fields[number & 0xFFFF] = value  # as Thrift, whose numbers have 16 bits
        return fields

    def _byte(self) -> int:
        byte = self._data[self.at]
        self.at += 1
        return byte

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("an integer of more than 64 bits")

    def _integer(self) -> int:
        value = self._varint() & 0xFFFFFFFF  # as Thrift, which ignores higher bits
        return (value >> 1) ^ -(value & 1)

    def _skip(self, count: int) -> None:
        self.at += count
        if self.at > len(self._data):
            raise IndexError

    def _value(self, kind: int) -> Any:
        match kind:
            case 1 | 2:
                pass
            case 3:
                self._skip(1)
            case 5:
                return self._integer()
            case 4 | 6:
                self._varint()
            case 7:
                self._skip(8)
            case 8:
                self._skip(self._varint())
            case 9 | 10:
                head = self._byte()
                count = head >> 4 if head >> 4 < 15 else self._varint()
                for _ in range(count):
                    self._element(head & 15)
            case 11:
                if count := self._varint():
                    kinds = self._byte()
                    for _ in range(count):
                        self._element(kinds >> 4)
                        self._element(kinds & 15)
            case 12:
                return self.struct()
            case _:
                raise ValueError(f"no type {kind}")
        return None

    def _element(self, kind: int) -> None:
        if kind in (1, 2):
            self._skip(1)
        else:
            self._value(kind)
