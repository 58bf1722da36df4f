"""Files of which no row can be loaded, as sources and attackers leave them in ``landing/``."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

HEADER = "user_id,item_id,event_time,weight\n"
ROW = "user-000,item-000,2024-01-29 10:00:00,1\n"


def _bytes(name: str, content: bytes) -> Callable[[Path, random.Random], None]:
    def write(folder: Path, chance: random.Random) -> None:
        (folder / name).write_bytes(content)

    return write


def _junk(folder: Path, chance: random.Random) -> None:
    (folder / f"junk.{chance.choice(('csv', 'parquet', 'jsonl', 'csv.gz'))}").write_bytes(chance.randbytes(5000))


def _cut_gzip(folder: Path, chance: random.Random) -> None:
    content = gzip.compress((HEADER + ROW * 1000).encode())
    (folder / "cut.csv.gz").write_bytes(content[: chance.randrange(1, len(content) - 8)])


def _wide(folder: Path, chance: random.Random) -> None:
    names = [f"c{number}" for number in range(40_000)]
    (folder / "wide.csv").write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n")


def _outside(folder: Path, chance: random.Random) -> None:
    (folder / "link.csv").symlink_to("/etc/passwd")


def _folder(folder: Path, chance: random.Random) -> None:
    (folder / "folder.csv").mkdir()


HOSTILE: dict[str, Callable[[Path, random.Random], None]] = {
    "junk": _junk,
    "cut gzip": _cut_gzip,
    "40,000 columns": _wide,
    "a link to a file outside": _outside,
    "a folder": _folder,
    "no bytes": _bytes("empty.parquet", b""),
    "other columns": _bytes("other.csv", b"a,b\n1,2\n"),
    "the same column twice": _bytes("twice.csv", HEADER.replace("weight", "user_id").encode() + ROW.encode()),
    "NUL bytes": _bytes("nul.csv", b"\0" * 4096),
    "JSON nested 5,000 deep": _bytes("deep.jsonl", b'{"user_id":' * 5000 + b"1" + b"}" * 5000 + b"\n"),
    "a JSON list": _bytes("list.json", json.dumps([[1, 2]]).encode()),
    "another encoding": _bytes("utf16.csv", (HEADER + ROW).encode("utf-16")),
    "a Parquet footer that lies": _bytes(
        "lies.parquet", b"PAR1" + b"\0" * 64 + (1 << 30).to_bytes(4, "little") + b"PAR1"
    ),
    "a line of 100 MB": _bytes("line.csv", HEADER.encode() + b"x" * 100_000_000),
}
"""What each file is, with what writes it into a folder."""
