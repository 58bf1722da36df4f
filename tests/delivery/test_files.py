"""Folders of CSV and JSON lines: read back row by row, exchanged as a whole, never over files of somebody else."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from hmamba.contracts.delivery import DeliveredFiles
from hmamba.errors import ConfigError, InputError
from hmamba.storage.layout import Layout
from tests.delivery.tables import NEXT, ODD, delivered, lists, publish, rows, settings_of
from tests.landing import DAY

KEYS = ["user_id", "rank"]


def read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, dtype={"user_id": str, "item_id": str})


def read_jsonl(path: Path) -> pd.DataFrame:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="\n") as stream:
        return pd.DataFrame([json.loads(line) for line in stream])


READ: dict[str, Callable[[Path], pd.DataFrame]] = {"csv": read_csv, "jsonl": read_jsonl}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("kind", READ)
def test_the_rows_are_those_of_the_table(layout: Layout, kind: str, compress: bool) -> None:
    new = publish(layout, ODD)
    assert delivered(layout, settings_of(layout, kind=kind, compress=compress)) == ("whole", len(ODD))
    folder = layout.root / "delivered" / "shop"
    told = DeliveredFiles.read(folder / "delivery.json")
    ending = f"{kind}.gz" if compress else kind
    assert [file.name for file in told.files] == [f"part-0000.{ending}", f"part-0001.{ending}"]
    assert (told.day, told.digest, told.rows) == (DAY, new.digest, new.rows)
    for file in told.files:
        file.verified(folder / file.name, "")
    found = pd.concat([READ[kind](folder / file.name) for file in told.files]).sort_values(KEYS, ignore_index=True)
    expected = rows(ODD).sort_values(KEYS, ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-6)


def test_duckdb_reads_both(layout: Layout) -> None:
    """Scores have the digits of float32."""
    publish(layout, lists(10))
    for kind in READ:
        delivered(layout, settings_of(layout, kind=kind, into=f"out/{kind}", top=3))
        reader = "read_csv" if kind == "csv" else "read_json"
        query = f"SELECT count(*), min(score::VARCHAR) FROM {reader}('{layout.root}/out/{kind}/part-*.{kind}')"
        assert duckdb.sql(query).fetchall() == [(30, "0.33333334")]


def test_only_the_best_ranks(layout: Layout) -> None:
    publish(layout, lists(4, k=5))
    delivered(layout, settings_of(layout, kind="csv", top=2, into=str(layout.root.parent / "elsewhere")))
    files = (layout.root.parent / "elsewhere").glob("part-*.csv")
    assert sorted(pd.concat(map(read_csv, files))["rank"]) == [1] * 4 + [2] * 4


def test_the_same_table_again_is_not_written(layout: Layout) -> None:
    publish(layout, lists(4))
    config, folder = settings_of(layout, kind="csv", compress=True), layout.root / "delivered" / "shop"
    delivered(layout, config)
    before = {path: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()}
    assert delivered(layout, config) == ("nothing", 0)
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in folder.iterdir()} == before
    (folder / "part-0000.csv.gz").write_bytes(b"damaged")
    assert delivered(layout, config) == ("whole", 4)
    files = {path: path.read_bytes() for path in folder.glob("part-*")}
    assert files == {path: content for path, (_, content) in before.items() if path in files}


def test_an_older_day_does_not_replace_a_newer_one(layout: Layout) -> None:
    config = settings_of(layout, kind="jsonl")
    publish(layout, lists(4))
    publish(layout, lists(4, "b"), NEXT)
    delivered(layout, config)
    with pytest.raises(InputError, match=f"holds the table of {NEXT}"):
        delivered(layout, config, DAY)
    assert delivered(layout, config, DAY, older=True) == ("whole", 4)


def test_a_folder_of_somebody_else_is_left_alone(layout: Layout) -> None:
    publish(layout, lists(4))
    folder = layout.root / "delivered" / "shop"
    folder.mkdir(parents=True)
    (folder / "letters.txt").write_text("mine")
    with pytest.raises(InputError, match="holds files that no delivery has made") as caught:
        delivered(layout, settings_of(layout, kind="csv"))
    assert (folder / "letters.txt").read_text() == "mine"
    assert "deliver.shop.into" in str(caught.value)
    (folder / "letters.txt").unlink()
    assert delivered(layout, settings_of(layout, kind="csv")) == ("whole", 4)


def test_readers_find_one_table_or_the_other(layout: Layout) -> None:
    """An open folder is that of one delivery; its files fit its description, whatever is delivered meanwhile."""
    publish(layout, lists(200))
    config = settings_of(layout, kind="csv")
    delivered(layout, config)
    folder, ended, wrong = layout.root / "delivered" / "shop", threading.Event(), []

    def poll() -> None:
        while not ended.is_set():
            before = (folder / "delivery.json").read_bytes()
            text = "".join((folder / f"part-{number:04d}.csv").read_text() for number in range(2))
            letters = {line.split('"')[3][0] for line in text.splitlines() if not line.startswith('"user_id"')}
            if (folder / "delivery.json").read_bytes() == before and len(letters) != 1:
                wrong.append(letters)

    reader = threading.Thread(target=poll)
    reader.start()
    for letter in "bcdef":
        publish(layout, lists(200, letter))
        delivered(layout, config)
    ended.set()
    reader.join()
    assert not wrong


@pytest.mark.parametrize("setting", ["address", "content", "expire_seconds", "most_changes", "timeout_seconds"])
def test_settings_of_other_kinds_are_refused(layout: Layout, setting: str) -> None:
    publish(layout, lists(2))
    value = {"address": "A", "content": "rows"}.get(setting, 5)
    with pytest.raises(ConfigError, match=f"deliver.shop.{setting}: a target of kind 'csv' has no such setting"):
        delivered(layout, settings_of(layout, kind="csv", **{setting: value}))
