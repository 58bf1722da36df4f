"""Every rule of a table beside the candidates has a table that breaks it, and the rule says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.columns import TABLES
from hmamba.contracts import Manifest
from hmamba.errors import QualityError
from hmamba.quality.candidates import CandidateFiles, ShardFiles
from hmamba.quality.tables import _MEANINGS, TableRules, check_table
from hmamba.storage.layout import Layout
from tests.nights import FIRST

Frame = pd.DataFrame
MOST = {"similar_items": 20, "popular": 100, "segments": 30}


class Published:
    """The tables of a published night, and what they are checked against."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout.at(root)
        self.manifest = Manifest.read(self.layout.latest)
        run = self.layout.run(FIRST, "one")
        parts = [self.layout.root / file.path for file in self.manifest.files]
        self.candidates = CandidateFiles(
            shards=tuple(ShardFiles(part, (run.shard(number),)) for number, part in enumerate(parts)),
            items=run.items,
            indexed=run.item_points,
            allowed=None,
        )

    def frames(self, name: str) -> list[Frame]:
        return [pd.read_parquet(self.layout.root / file.path) for file in self.manifest.tables[name]]

    def check(self, name: str, parts: list[Path], place: Path) -> list[int]:
        rules = TableRules(self.candidates, parts, MOST.get(name), True, self.manifest.vector_space)
        checks = Layout.at(place).checks
        with duckdb.connect() as connection:
            return check_table(checks, connection, name, rules, "a night")


@pytest.fixture(scope="module")
def published(tabled: Path) -> Published:
    return Published(tabled)


def write(frames: list[Frame], name: str, folder: Path) -> list[Path]:
    parts = []
    for number, frame in enumerate(frames):
        parts.append(folder / f"part-{number:04d}.parquet")
        pq.write_table(pa.Table.from_pandas(frame, pa.schema(TABLES[name]), preserve_index=False), parts[-1])
    return parts


@pytest.mark.parametrize("name", TABLES)
def test_what_a_night_publishes_passes(published: Published, tmp_path: Path, name: str) -> None:
    frames = published.frames(name)
    assert published.check(name, write(frames, name, tmp_path), tmp_path / "gx") == list(map(len, frames))


def put(column: str, value: Any, row: int = 0) -> Callable[[Frame], Frame]:
    """The same rows with another value in one place."""

    def change(frame: Frame) -> Frame:
        changed = frame.copy()
        changed[column] = changed[column].astype(object)
        changed.at[row, column] = value
        return changed

    return change


def without_first(frame: Frame) -> Frame:
    return frame.iloc[1:]


def rising(frame: Frame) -> Frame:
    return put("score", float(frame.score[0]) + 1, 1)(frame)


def twice(column: str) -> Callable[[Frame], Frame]:
    return lambda frame: put(column, frame[column][0], 1)(frame)


def again(frame: Frame) -> Frame:
    return pd.concat([frame.head(1), frame], ignore_index=True)


def of_vector(column: str, change: Callable[[Any], Any]) -> Callable[[Frame], Frame]:
    return lambda frame: put(column, change(np.array(frame[column][0])), 0)(frame)


def seen(frame: Frame) -> Frame:
    """A user who has taken the item: everybody, since the item that most have taken is among them."""
    return frame.assign(user_id=[f"user-{number:03d}" for number in frame["rank"] + 60])


BREAKS: dict[str, dict[str, Callable[[Frame], Frame]]] = {
    "similar_items": {
        "rankings_with_wrong_ranks": without_first,
        "rows_repeated": twice("similar_item_id"),
        "rows_with_null": put("score", None),
        "rows_with_infinite_score": put("score", np.inf),
        "rows_with_rising_score": rising,
        "rows_with_ineligible_item": put("similar_item_id", "nothing"),
        "rows_with_unknown_source": put("source", "guess"),
        "rows_with_itself": lambda frame: put("similar_item_id", frame.item_id[0])(frame),
        "rows_with_unknown_item": put("item_id", "nothing"),
    },
    "popular": {
        "rankings_with_wrong_ranks": without_first,
        "rows_repeated": twice("item_id"),
        "rows_with_null": put("segment_column", "country"),
        "rows_with_infinite_score": put("score", np.inf),
        "rows_with_rising_score": rising,
        "rows_with_ineligible_item": put("item_id", "nothing"),
        "rows_with_unknown_ranking": put("ranking", "guess"),
        "rows_with_wrong_level": put("category_level", 3),
        "rows_without_events": put("score", 0.0),
    },
    "segments": {
        "rankings_with_wrong_ranks": without_first,
        "rows_repeated": twice("user_id"),
        "rows_with_null": put("item_id", None),
        "rows_with_infinite_score": put("score", -np.inf),
        "rows_with_rising_score": rising,
        "rows_with_ineligible_item": put("item_id", "nothing"),
        "rows_above_certainty": put("score", 0.1),
        "rows_with_unknown_user": put("user_id", "nobody"),
        "rows_with_seen_item": seen,
    },
    "user_vectors": {
        "rows_repeated": again,
        "rows_with_null": put("vector", None),
        "rows_with_wrong_length": of_vector("vector", lambda vector: vector[:-1]),
        "rows_with_infinite_coordinate": of_vector("point", lambda point: np.full(len(point), np.inf)),
        "rows_off_the_surface": of_vector("point", lambda point: point * 1.01),
        "rows_with_other_vector": of_vector("vector", lambda vector: vector * 2),
        "rows_with_unknown_user": put("user_id", "nobody"),
        "users_missing": without_first,
    },
    "item_vectors": {
        "rows_repeated": again,
        "rows_with_null": put("point", None),
        "rows_with_wrong_length": of_vector("vector", lambda vector: vector[:-1]),
        "rows_with_infinite_coordinate": of_vector("vector", lambda vector: np.full(len(vector), np.inf)),
        "rows_off_the_surface": of_vector("point", lambda point: point * 1.01),
        "rows_with_other_vector": of_vector("vector", lambda vector: vector * 2),
        "rows_with_ineligible_item": put("item_id", "nothing"),
        "items_missing": without_first,
    },
}


def test_every_rule_is_broken_below() -> None:
    assert {name: set(rules) for name, rules in BREAKS.items()} == {
        name: set(rules) for name, rules in _MEANINGS.items()
    }


@pytest.mark.parametrize(("name", "rule"), [(name, rule) for name, rules in BREAKS.items() for rule in rules])
def test_a_broken_rule_is_named(published: Published, tmp_path: Path, name: str, rule: str) -> None:
    first, *others = published.frames(name)
    parts = write([BREAKS[name][rule](first), *others], name, tmp_path)
    with pytest.raises(QualityError, match=rf"^The table {name} broke its rules .*\b{rule} is") as caught:
        published.check(name, parts, tmp_path / "gx")
    assert f"remove '{name}' from publish.tables" in str(caught.value)


def test_more_rows_than_k_are_wrong_ranks(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = write(published.frames("segments"), "segments", tmp_path)
    monkeypatch.setitem(MOST, "segments", 29)
    with pytest.raises(QualityError, match="rankings_with_wrong_ranks is 10, allowed at most 0"):
        published.check("segments", parts, tmp_path / "gx")


@pytest.mark.parametrize("name", ["user_vectors", "item_vectors"])
def test_a_coordinate_that_is_empty_is_null(published: Published, tmp_path: Path, name: str) -> None:
    first, *others = published.frames(name)
    parts = write([of_vector("point", lambda point: [None, *point[1:]])(first), *others], name, tmp_path)
    with pytest.raises(QualityError, match="rows_with_null is 1"):
        published.check(name, parts, tmp_path / "gx")


def test_other_columns_are_named(published: Published, tmp_path: Path) -> None:
    (part,) = write(published.frames("popular"), "popular", tmp_path)
    pq.write_table(pq.read_table(part).drop_columns("score"), part)
    with pytest.raises(QualityError, match=r"popular has segment_column string, .*, score double\. Nothing has been"):
        published.check("popular", [part], tmp_path / "gx")
    part.write_bytes(b"no parquet")
    with pytest.raises(QualityError, match="is not a whole Parquet file"):
        published.check("popular", [part], tmp_path / "gx")
