"""Shared parts of the CSV and JSON readers: opening text files, and detecting wrong encodings.

The readers yield the batches of a :class:`~hmamba.sources.base.Reading`: CSV with one string column per column of the
header, JSON with ``__record``.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase, TextIOWrapper
from typing import IO, Any, cast

from hmamba.errors import InputError
from hmamba.sources.discover import SourceFile
from hmamba.sources.limits import Expansion

_LOOKED_AT = 4096
_BUFFER = 1 << 17
_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_LEAST_NULS = 0.1
"""Minimum share of zeros in every second byte of UTF-16 text: in any language it has digits, commas and line ends."""


class _Unpacked(RawIOBase):
    """The content of a gzip file; reading it is metered."""

    def __init__(self, stored: IO[bytes], expansion: Expansion) -> None:
        self._stream, self._expansion = gzip.GzipFile(fileobj=stored), expansion

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer)
        self._expansion.add(count)
        return count


@contextmanager
def open_bytes(file: SourceFile) -> Iterator[IO[bytes]]:
    """Open a file, decompressed, positioned after its byte order mark.

    Raises:
        InputError: the gzip file is truncated or corrupt, or expands beyond ``max_expansion``.
    """
    with file.path.open("rb") as stored:
        stream = BufferedReader(_Unpacked(stored, Expansion(file)), _BUFFER) if file.gzipped else stored
        try:
            if stream.peek(len(codecs.BOM_UTF8)).startswith(codecs.BOM_UTF8):
                stream.read(len(codecs.BOM_UTF8))
            yield cast(IO[bytes], stream)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{file.name} is not a whole gzip file ({error}). Write it again.") from None


@contextmanager
def open_text(file: SourceFile) -> Iterator[IO[str]]:
    """Open a text file. Bytes that are not UTF-8 become lone surrogates, so that only their row is malformed.

    Raises:
        InputError: the gzip file is truncated or corrupt.
    """
    with open_bytes(file) as stream, TextIOWrapper(stream, "utf-8", "surrogateescape", newline="") as text:
        yield text


def decode(data: bytes) -> str:
    """Decode UTF-8; invalid bytes become lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def shown(text: str) -> str:
    """Text for messages: lone surrogates of :func:`decode` become backslash escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_unicode(texts: Iterable[str]) -> bool:
    """Whether all texts can be encoded as UTF-8, that is have no lone surrogates."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError:
        return False
    return True


def conversion(file: SourceFile, encoding: str) -> str:
    """The shell command that converts a text file to UTF-8."""
    quoted = "'" + file.name.replace("'", "'\\''") + "'"
    if file.gzipped:
        return f"zcat {quoted} | iconv -f {encoding} -t UTF-8 | gzip > NEW.gz"
    return f"iconv -f {encoding} -t UTF-8 {quoted} > NEW"


def check_encoding(file: SourceFile) -> None:
    """Detect UTF-16 and UTF-32 by a byte order mark, or by zeros in every second byte.

    Raises:
        InputError: the file has such an encoding; the message gives the command that converts it.
    """
    with open_bytes(file) as stream:
        start = stream.read(_LOOKED_AT)
    encoding = _encoding(start)
    if encoding is not None:
        raise InputError(
            f"{file.name} is {encoding} text, and only UTF-8 is read. Convert it: {conversion(file, encoding)}"
        )


def _encoding(start: bytes) -> str | None:
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            return name
    even, odd = start[::2], start[1::2]
    zeros = even.count(0) / max(len(even), 1), odd.count(0) / max(len(odd), 1)
    if min(zeros) > _LEAST_NULS:
        return "UTF-32LE" if zeros[1] > zeros[0] else "UTF-32BE"
    if max(zeros) > _LEAST_NULS:
        return "UTF-16LE" if zeros[1] > zeros[0] else "UTF-16BE"
    return None
