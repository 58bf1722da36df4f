"""Users who have been forgotten: what is erased, what stays, and what a later pull does."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from pathlib import Path

import pytest

from hmamba.config import WarehouseConfig
from hmamba.warehouse.connection import connect
from hmamba.warehouse.forgotten import Tombstone, erase
from hmamba.warehouse.rewrite import rewrite
from tests.landing import DAY, Root
from tests.synthetic import make_interactions

USER = "user-003"
LEDGER = (
    "SELECT rows_read, rows_loaded, rows_duplicate, rows_quarantined, rows_forgotten FROM batches ORDER BY batch_id"
)


def forget(root: Root, *users: str, column: str = "user_id") -> list[Tombstone]:
    with connect(root.layout.warehouse, WarehouseConfig()) as connection:
        connection.begin()
        found = erase(connection, users, column)
        connection.commit()
        rewrite(connection, root.layout.warehouse)
    return found


def test_events_go_and_the_ledger_adds_up(loaded: Root) -> None:
    before = loaded.sql(LEDGER)[0]
    others = loaded.sql(f"SELECT * FROM interactions WHERE user_id <> '{USER}' ORDER BY ALL")
    events = loaded.sql(f"SELECT count(*) FROM interactions WHERE user_id = '{USER}'")[0][0]
    (tombstone,) = forget(loaded, USER)
    assert (tombstone.events, tombstone.quarantined) == (events, 0)
    assert loaded.sql("SELECT * FROM interactions ORDER BY ALL") == others
    assert loaded.sql(LEDGER) == [(before[0], before[1] - events, before[2], before[3], events)]
    assert forget(loaded, USER)[0] == tombstone  # again, it changes nothing
    assert loaded.sql(LEDGER) == [(before[0], before[1] - events, before[2], before[3], events)]


def test_no_byte_of_the_id_is_left_in_the_file(loaded: Root) -> None:
    assert USER.encode() in loaded.layout.warehouse.read_bytes()
    forget(loaded, USER)
    files = list(loaded.layout.root.glob("warehouse*"))
    assert files == [loaded.layout.warehouse]
    assert USER.encode() not in files[0].read_bytes()


def test_the_hash_is_salted(loaded: Root, root: Root) -> None:
    (tombstone,) = forget(loaded, USER)
    assert tombstone.user_hash != hashlib.sha256(USER.encode()).hexdigest()
    ((salt,),) = loaded.sql("SELECT salt FROM forgotten_salt")
    assert tombstone.user_hash == hashlib.sha256((salt + USER).encode()).hexdigest()


def test_items_keep_their_index_and_lose_the_time_of_the_user(root: Root) -> None:
    root.drop("a.csv", "user_id,item_id,event_time\nu1,i1,2024-01-01\nu2,i1,2024-01-02\nu1,only,2024-01-03\n")
    root.ok("ingest")
    before = root.sql("SELECT item_id, item_index FROM items ORDER BY ALL")
    forget(root, "u1")
    assert root.sql("SELECT item_id, item_index FROM items ORDER BY ALL") == before
    seen = dict(root.sql("SELECT item_id, first_seen FROM items"))
    assert (seen["i1"].day, seen["only"]) == (2, None)


def test_later_files_do_not_bring_a_user_back(loaded: Root) -> None:
    forget(loaded, USER)
    left = loaded.sql("SELECT * FROM interactions ORDER BY ALL")
    copy = make_interactions().query("user_id == @USER").head(3).assign(item_id="item-000")
    copy["event_time"] += timedelta(hours=1)
    new = "user_id,item_id,event_time,weight\n" + copy.to_csv(index=False, header=False)
    loaded.drop("again.csv", f"{new}new user,item-000,2024-01-29,1\n {USER} ,item-000,2024-01-28,1\n")
    metrics = loaded.ok("ingest")
    assert (metrics["rows_read"], metrics["rows_loaded"], metrics["rows_forgotten"]) == (5, 1, 4)
    assert loaded.sql(LEDGER)[-1] == (5, 1, 0, 0, 4)
    (new_row,) = set(loaded.sql("SELECT * FROM interactions")) - set(left)
    assert new_row[0] == "new user"


REFUSED = (
    "user_id,item_id,event_time,weight\n"
    f"{USER},item-000,never,1\n"
    f"{USER},item-000,2024-01-29\n"
    f"other,item-000,{USER},1\n"
    "other,item-000,never,1\n"
) + "".join(f"good{n},item-000,2024-01-29,1\n" for n in range(20))


def test_refused_rows_are_erased_and_do_not_come_back(loaded: Root) -> None:
    loaded.configure("[quality]\nmax_quarantined_share = 0.9\n")
    loaded.drop("refused.csv", REFUSED)
    assert loaded.ok("ingest", DAY, "second")["rows_quarantined"] == 4
    assert USER in str(loaded.sql("SELECT record FROM quarantine"))
    (tombstone,) = forget(loaded, USER)
    assert tombstone.quarantined == 2
    assert loaded.sql(LEDGER)[-1] == (24, 20, 0, 2, 2)
    loaded.drop("refused-again.csv", REFUSED.replace("-29", "-28"))
    metrics = loaded.ok("ingest", DAY, "third")
    assert (metrics["rows_forgotten"], metrics["rows_quarantined"]) == (2, 2)


def test_a_snapshot_after_deleting_by_hand_holds_the_same_items(root: Root) -> None:
    """So that a champion with the item of a deleted user still fits; see hmamba.models.files.check_vocabulary."""
    root.drop("a.csv", "user_id,item_id,event_time\nu2,i1,2024-01-02\nu1,last,2024-01-03\n")
    root.ok("ingest", date(2024, 1, 3))
    assert root.ok("snapshot", date(2024, 1, 3))["items"] == 2
    with connect(root.layout.warehouse, WarehouseConfig()) as connection:
        connection.execute("DELETE FROM interactions WHERE user_id = 'u1'")
    assert root.ok("snapshot", date(2024, 1, 3))["items"] == 2
    assert root.ok("snapshot", date(2024, 1, 2))["items"] == 1  # an earlier day does not know a later item


@pytest.mark.parametrize("name", ["root's", "a b"])
def test_the_path_may_hold_quotes(loaded: Root, name: str) -> None:
    moved = loaded.layout.root.with_name(name)
    loaded.layout.root.rename(moved)
    loaded.layout = type(loaded.layout).at(moved)
    forget(loaded, USER)
    assert loaded.sql(f"SELECT count(*) FROM interactions WHERE user_id = '{USER}'") == [(0,)]


def test_the_file_behind_a_link_is_written_again(loaded: Root, tmp_path: Path) -> None:
    path, real = loaded.layout.warehouse, tmp_path / "other disk" / "warehouse.duckdb"
    real.parent.mkdir()
    path.rename(real)
    path.symlink_to(real)
    forget(loaded, USER)
    assert path.is_symlink()
    assert USER.encode() not in real.read_bytes()
