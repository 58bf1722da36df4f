"""A snapshot is what its manifest names; anything else is refused when it is opened."""

from __future__ import annotations

from datetime import date

import pytest

from hmamba.errors import InputError
from hmamba.sequences.files import Snapshot
from hmamba.storage.layout import Layout
from hmamba.storage.run_layout import RunLayout
from tests.scored import SHARDS, write_run
from tests.synthetic import make_interactions

DAY = date(2024, 1, 30)


@pytest.fixture
def run(tmp_path) -> RunLayout:
    layout = Layout.at(tmp_path)
    write_run(layout, make_interactions(), DAY)
    return layout.run(DAY, "manual")


def test_a_whole_snapshot_is_opened(run: RunLayout) -> None:
    files = Snapshot.open(run)
    assert files.shards == [run.shard(number) for number in range(SHARDS)]
    assert files.items == run.items


def test_shards_that_the_manifest_does_not_name_are_not_read(run: RunLayout) -> None:
    run.shard(SHARDS).write_bytes(run.shard(0).read_bytes())
    assert len(Snapshot.open(run).shards) == SHARDS
    with pytest.raises(InputError, match=f"does not name shard-{SHARDS:04d}.parquet"):
        Snapshot.open(run).shard(SHARDS)


@pytest.mark.parametrize("name", ["shard-0001.parquet", "items.parquet"])
@pytest.mark.parametrize("damage", ["flip", "cut", "removed", "another"])
def test_a_damaged_file_is_refused_with_the_step_that_writes_it(run: RunLayout, name: str, damage: str) -> None:
    path = run.sequences / name
    content = path.read_bytes()
    path.unlink()
    if damage == "another":
        path.write_bytes(run.shard(0).read_bytes())
    elif damage != "removed":
        middle = len(content) // 2
        path.write_bytes(
            content[:-8]
            if damage == "cut"
            else content[:middle] + bytes([content[middle] ^ 64]) + content[middle + 1 :]
        )
    files = Snapshot.open(run)
    with pytest.raises(InputError, match=rf"^{path} .*\(python -m jobs\.snapshot\)\.$"):
        _ = (files.shards, files.items)
