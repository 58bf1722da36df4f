"""Damage of every kind is found, and the advice leads to a root that is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from hmamba.contracts.receipt import Receipt
from hmamba.models import promotions
from hmamba.storage.layout import Layout
from hmamba.upkeep.check import check
from tests.jobs.commands.call import call
from tests.nights import FIRST, THIRD, run_night


def wrong(layout: Layout) -> dict[str, tuple[str, ...]]:
    return {area.name: area.wrong for area in check(layout) if area.wrong}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # Of settings, a value with another letter may be as good.
    content[content.index(b"=") if path.suffix == ".toml" else len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_root_after_nights_is_whole(two: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("check", "--root", str(two.root)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:1] for line in lines[:-1]] == ["✓"] * 6
    assert lines[1].split() == ["✓", "warehouse", "2", "pulls,", "2,710", "events"]
    assert lines[-1] == "Everything is as it was written."


@pytest.mark.parametrize("how", ["pruned", "forgotten", "rolled back", "restored", "refreshed"])
def test_a_root_stays_whole(two: Layout, tmp_path: Path, how: str) -> None:
    if how == "pruned":
        with two.config.open("a") as stream:
            stream.write("[keep]\nruns = 1\ntables = 1\nmodels = 1\n")
        assert call("prune", "--root", str(two.root)) == 0
    elif how == "forgotten":
        assert call("forget", "user-003", "--root", str(two.root)) == 0
    elif how == "rolled back":
        assert call("rollback", "--to", str(FIRST), "--root", str(two.root)) == 0
    elif how == "restored":
        assert call("backup", str(tmp_path / "copy"), "--root", str(two.root)) == 0
        assert call("restore", str(tmp_path / "copy"), "--root", str(tmp_path / "back")) == 0
        two = Layout.at(tmp_path / "back")
    else:
        assert call("refresh", "--day", str(THIRD), "--root", str(two.root)) == 0
    assert wrong(two) == {}


def champion(layout: Layout) -> str:
    return promotions.promotions(layout)[-1].version


PLACES: dict[str, Callable[[Layout], Path]] = {
    "hmamba.toml": lambda two: two.config,
    "champion.json": lambda two: two.champion,
    "weights": lambda two: two.model(champion(two)) / "model.safetensors",
    "items of a model": lambda two: two.model(champion(two)) / "items.parquet",
    "contents": lambda two: two.model(champion(two)) / "contents.json",
    "metrics of a model": lambda two: two.model_metrics(champion(two)),
    "table": lambda two: two.published_parts(FIRST)[0],
    "manifest": lambda two: two.published_manifest(THIRD),
    "changed users": lambda two: two.published_table(two.published(THIRD), "changes"),
    "verdict": lambda two: two.run(THIRD, "three").verdict,
    "step metrics": lambda two: two.run(FIRST, "one").step_metrics("train"),
    "shard": lambda two: two.run(FIRST, "one").shard(1),
    "items": lambda two: two.run(THIRD, "three").items,
    "snapshot": lambda two: two.run(THIRD, "three").manifest,
    "serving model": lambda two: two.run(THIRD, "three").model / "model.safetensors",
    "index": lambda two: two.run(THIRD, "three").index / "candidate_items.npy",
    "item points": lambda two: two.run(THIRD, "three").item_points,
    "candidates": lambda two: two.run(THIRD, "three").candidate_part(0),
    "user points": lambda two: two.run(THIRD, "three").user_points(1),
    "table of items": lambda two: two.run(THIRD, "three").table("popular"),
    "table of users": lambda two: two.run(THIRD, "three").table("segments", 1),
    "published table of items": lambda two: two.published_table(two.published(THIRD), "similar_items"),
    "published table of users": lambda two: two.published_table(two.published(FIRST), "user_vectors", 1),
}


@pytest.mark.parametrize("damage", [flip, cut], ids=["flip", "cut"])
@pytest.mark.parametrize("name", PLACES)
def test_damage_is_named_with_its_place(
    two: Layout, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
) -> None:
    path = PLACES[name](two)
    damage(path)
    assert call("check", "--root", str(two.root)) == 1
    out = capsys.readouterr().out
    assert path.name in out or path.parent.name in out
    assert "wrong: see ✗ above." in out


@pytest.mark.parametrize(
    "name",
    [
        "champion.json",
        "weights",
        "table",
        "changed users",
        "shard",
        "snapshot",
        "candidates",
        "index",
        "item points",
        "verdict",
    ],
)
def test_what_is_missing_is_named(two: Layout, name: str) -> None:
    path = PLACES[name](two)
    path.unlink()
    found = wrong(two)
    if name == "verdict":  # of a run without one nothing is known to be missing
        assert found == {}
        return
    assert path.name in str(found)


@pytest.mark.parametrize("name", ["candidates", "changes"])
def test_the_advice_about_a_table_works(two: Layout, name: str) -> None:
    part = two.published_parts(THIRD)[0] if name == "candidates" else two.published_table(two.published(THIRD), name)
    flip(part)
    ((sentence,),) = wrong(two).values()
    assert f"{part} is damaged" in sentence
    assert f"hmamba run --root {two.root} --day {THIRD}" in sentence
    run_night(two, THIRD, "three")
    assert wrong(two) == {}


def test_a_link_that_leads_nowhere_and_the_advice(two: Layout) -> None:
    two.latest.unlink()
    ((sentence,),) = wrong(two).values()
    assert f"hmamba rollback --root {two.root} --table {THIRD}" in sentence
    assert call("rollback", "--root", str(two.root), "--table", str(THIRD)) == 0
    assert wrong(two) == {}


def test_a_folder_that_a_refresh_needs_and_the_advice(two: Layout) -> None:
    shutil.rmtree(two.run(THIRD, "three").folder)
    ((sentence,),) = wrong(two).values()
    assert f"--day {THIRD} --run-id three" in sentence
    run_night(two, THIRD, "three")
    assert wrong(two) == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("DELETE FROM interactions WHERE user_id = 'user-003'", "the ledger does not add up"),
        ("UPDATE batches SET rows_duplicate = 1, rows_loaded = rows_loaded - 1", "the ledger does not add up"),
        ("DELETE FROM batches WHERE batch_id = 2", "events of a batch that the ledger does not know"),
        ("DELETE FROM items WHERE item_id = 'item-001'", "events of an item that the table items does not have"),
        ("UPDATE items SET item_index = 7 WHERE item_index = 8", "item_index is not unique"),
        (
            "INSERT INTO forgotten_salt VALUES ('s'); INSERT INTO forgotten VALUES (sha256('suser-003'), now(), 0, 0)",
            "users who were forgotten and have events",
        ),
    ],
)
def test_a_warehouse_changed_by_hand(two: Layout, change: str, words: str) -> None:
    with duckdb.connect(str(two.warehouse)) as connection:
        connection.execute(change)
    assert words in str(wrong(two)["warehouse"])


@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b"no database"), Path.unlink])
def test_a_damaged_warehouse(two: Layout, damage: Callable[[Path], None]) -> None:
    damage(two.warehouse)
    assert "estore" in str(wrong(two)["warehouse"])
    (looked,) = (area.looked for area in check(two) if area.name == "warehouse")
    assert looked == ("" if two.warehouse.exists() else "none")


def test_an_erasure_that_was_stopped(two: Layout) -> None:
    assert call("forget", "user-003", "--root", str(two.root)) == 0
    (place,) = two.receipts.iterdir()
    Receipt.read(place).model_copy(update={"ended_at": None}).write(place)
    assert "Run hmamba forget with the same users again." in str(wrong(two)["receipts"])


def test_as_json_and_an_empty_root(layout: Layout, two: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    flip(two.published_parts(FIRST)[0])
    assert call("check", "--root", str(two.root), "--json") == 1
    found = {area["name"]: area["wrong"] for area in json.loads(capsys.readouterr().out)}
    assert [name for name, sentences in found.items() if sentences] == ["tables"]
    shutil.rmtree(two.root)
    layout.root.mkdir(exist_ok=True)
    assert call("check", "--root", str(layout.root)) == 0
