"""A shard's parts of tables: written when the shard is scored, absent where nothing is wanted or scoring failed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hmamba.config import parse
from hmamba.index import index as item_index
from hmamba.inference.encode import encode_users
from hmamba.sequences.files import Snapshot
from hmamba.storage.layout import Layout
from hmamba.tables.of_users import ShardTables
from tests.histories import histories_of
from tests.nights import FIRST
from tests.stored import ITEMS, stored_model


def tables_of(root, tmp_path, names, *, has_model=True):
    """Shard 0 of a night, for another model; and where its files go."""
    stored = stored_model()
    system = (stored, item_index.build(stored, stored.candidate_items, "matmul")) if has_model else None
    files = Snapshot.open(Layout.at(root).run(FIRST, "one"))
    config = parse({"publish": {"tables": names}}, "here")
    return ShardTables(files, 0, config, system, lambda place: tmp_path / place.name), stored


@pytest.mark.parametrize(("names", "has_model"), [((), True), (("popular",), True), (("user_vectors",), False)])
def test_where_nothing_is_wanted_nothing_is_done(tabled: Path, tmp_path, names, has_model):
    tables, _ = tables_of(tabled, tmp_path, names, has_model=has_model)
    with tables:
        assert tables.encode(encode_users) is encode_users
    assert tables.written == {}
    assert not list(tmp_path.iterdir())


def test_users_without_usable_history_are_in_no_part(tabled: Path, tmp_path):
    tables, stored = tables_of(tabled, tmp_path, ("user_vectors",))
    histories = histories_of([(0.0, 1)], [], [(0.0, 2), (1.0, 3)])
    with tables:
        hidden = tables.encode(encode_users)(stored.model, histories)
    assert torch.equal(hidden, encode_users(stored.model, histories))
    assert tables.written["user_vectors"].rows == 2
    assert [path.name for path in tmp_path.iterdir()] == ["user_vectors-0000.parquet"]


def test_a_shard_that_fails_records_nothing(tabled: Path, tmp_path):
    tables, stored = tables_of(tabled, tmp_path, ("user_vectors",))

    def score() -> None:
        with tables:
            tables.encode(encode_users)(stored.model, histories_of([(0.0, ITEMS)]))
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        score()
    assert tables.written == {}
