"""Published tables to deliver: written by the real publication of parts that a test chooses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hmamba.candidates.changes import with_changes
from hmamba.columns import CANDIDATES
from hmamba.config import Config, parse
from hmamba.contracts.manifest import Manifest, PublishedFile
from hmamba.delivery.deliver import deliver
from hmamba.storage.layout import Layout
from hmamba.storage.local import sha256
from tests.documents import manifest
from tests.landing import DAY
from tests.scored import write_part

NEXT = DAY + timedelta(days=1)
Lists = Mapping[str, Sequence[str]]
CHANGES = {"publish": {"changes": True}}


def lists(users: int, first: str = "a", k: int = 3) -> dict[str, list[str]]:
    """Lists of items that name their user, so that a mixture of two tables is found."""
    return {f"user-{number:04d}": [f"{first}-{number}-{rank}" for rank in range(1, k + 1)] for number in range(users)}


ODD: Lists = {
    **lists(10),
    "": ["empty"],
    'quote " and , comma': ["a\nb", "\\.", "\\N", "NULL", ""],
    "été 😀": ["\\", "'", "; DROP TABLE x"],
}
"""Lists with ids that need escaping in one format or another."""


def rows(given: Lists, model: str = "v1") -> pd.DataFrame:
    """Candidates of users, best first."""
    found = [
        (user, rank, item, 1.0 / rank, model)
        for user, items in sorted(given.items())
        for rank, item in enumerate(items, 1)
    ]
    return pd.DataFrame(found, columns=list(CANDIDATES))


def publish(
    layout: Layout, given: Lists, day: date = DAY, shards: int = 2, model: str = "v1", because: str | None = None
) -> Manifest:
    """Publish a table as the newest one, with its changes.

    Args:
        layout: the root.
        given: items of each user.
        day: day of the table.
        shards: number of parts; a user is in the part that the sum of the bytes of their id gives.
        model: the model version of all rows.
        because: a further column, with this text in all rows; none if None.
    """
    config = parse(CHANGES, "a test")
    base = Manifest.read_if_exists(layout.latest, layout.storage)
    frame = rows(given, model)
    shard = frame.user_id.map(lambda user: sum(user.encode()) % shards) if len(frame) else pd.Series(dtype=int)
    with layout.storage.write_folder(layout.published(day)) as folder:
        files = []
        for number in range(shards):
            path, part = folder / f"part-{number:04d}.parquet", frame[shard == number] if len(frame) else frame
            write_part(path, part)
            if because is not None:
                table = pq.read_table(path)
                pq.write_table(table.append_column("because", pa.array([because] * len(table), pa.string())), path)
            place = (layout.published(day) / path.name).relative_to(layout.root).as_posix()
            files.append(PublishedFile(path=place, rows=len(part), bytes=path.stat().st_size, sha256=sha256(path)))
        new = manifest(day=day, rows=len(frame), users=frame.user_id.nunique(), model_version=model, files=tuple(files))
        if base is not None:
            new = with_changes(layout, config, new, base, folder, "a test")
        new.write(folder / layout.published_manifest(day).name)
    layout.storage.point(layout.latest, layout.published_manifest(day))
    return new


def settings_of(layout: Layout, **target: Any) -> Config:
    """The configuration of a root with one target, ``shop``."""
    return parse({"deliver": {"shop": target}, "warehouse": {"wait_seconds": 5}}, "a test")


def delivered(layout: Layout, config: Config, day: date | None = None, *, older: bool = False) -> tuple[str, int]:
    """Deliver; how, and how many users."""
    (done,) = deliver(layout, config, day=day, older=older)
    return done.way, done.users


@contextmanager
def process(layout: Layout, config_text: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Deliver in a process of its own, which the block may kill."""
    layout.config.write_text(config_text, encoding="utf-8")
    command = [sys.executable, "-m", "jobs.cli", "deliver", "--root", str(layout.root)]
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()
