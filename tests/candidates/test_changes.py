"""The users whose rows differ: exactly those, for tables of the same shards and of other ones, nights and refreshes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from hmamba.candidates.changes import SCHEMA, Changed, ComparedPart, write_changes
from hmamba.config import WarehouseConfig
from hmamba.contracts.manifest import Manifest
from hmamba.errors import QualityError
from hmamba.quality.changes import check_changes
from hmamba.storage.checks_layout import ChecksLayout
from hmamba.storage.layout import Layout
from hmamba.storage.local import LocalStorage, sha256
from hmamba.warehouse.connection import in_memory
from tests.landing import DAY, Root
from tests.scored import SHARDS, record_part, write_part, write_run
from tests.synthetic import make_interactions

CONFIG = "[candidates]\nk = 10\n[publish]\nchanges = true\n"
NEXT = DAY + timedelta(days=1)


def frame(lists: dict[str, list[str]]) -> pd.DataFrame:
    """Candidates of users, best first."""
    rows = [
        (user, rank, item, 1.0 / rank, "v1")
        for user, items in sorted(lists.items())
        for rank, item in enumerate(items, 1)
    ]
    return pd.DataFrame(rows, columns=["user_id", "rank", "item_id", "score", "model_version"])


def parts(folder: Path, *frames: pd.DataFrame) -> list[ComparedPart]:
    found = []
    for number, rows in enumerate(frames):
        path = folder / f"part-{number}.parquet"
        write_part(path, rows)
        found.append(ComparedPart(path, sha256(path)))
    return found


def changes(folder: Path, before: list[ComparedPart], after: list[ComparedPart]) -> tuple[Changed, dict[str, bool]]:
    target = folder / "tables" / "changes.parquet"
    with in_memory(WarehouseConfig()) as connection:
        counts = write_changes(connection, before, after, target)
    assert pq.read_schema(target).equals(SCHEMA)
    found = pd.read_parquet(target)
    assert found.user_id.is_unique
    return counts, dict(zip(found.user_id, found.is_gone, strict=True))


BEFORE = {"same": ["a", "b"], "order": ["a", "b"], "shorter": ["a", "b"], "longer": ["a"], "gone": ["a", "b"]}
AFTER = {"same": ["a", "b"], "order": ["b", "a"], "shorter": ["a"], "longer": ["a", "b"], "new": ["a"]}
EXPECTED = {"order": False, "shorter": False, "longer": False, "gone": True, "new": False}


@pytest.mark.parametrize("shards", [1, 2])
def test_the_users_whose_rows_differ(tmp_path: Path, shards: int) -> None:
    """One part against one is compared part by part; one against two as whole tables."""
    after = frame(AFTER)
    split = [after] if shards == 1 else [after[after.user_id < "o"], after[after.user_id >= "o"]]
    counts, found = changes(tmp_path, parts(tmp_path / "a", frame(BEFORE)), parts(tmp_path / "b", *split))
    assert found == EXPECTED
    assert counts == Changed(users=5, gone=1, new=1)


@pytest.mark.parametrize("column", ["item_id", "score", "model_version"])
def test_every_column_counts(tmp_path: Path, column: str) -> None:
    before = frame(BEFORE)
    other: Any = {"item_id": "z", "score": 0.25, "model_version": "popularity"}[column]
    after = before.assign(**{column: before[column].where((before.user_id != "order") | (before["rank"] < 2), other)})
    _, found = changes(tmp_path, parts(tmp_path / "a", before), parts(tmp_path / "b", after))
    assert found == {"order": False}


def test_equal_parts_are_not_read(tmp_path: Path) -> None:
    """The same digest is enough: the files need not even exist."""
    nowhere = ComparedPart(tmp_path / "nowhere.parquet", "0123")
    assert changes(tmp_path, [nowhere], [nowhere]) == (Changed(0, 0, 0), {})


@pytest.mark.parametrize(
    ("table", "unexplained", "told"),
    [
        ({"user_id": ["new", "new"], "is_gone": [False, False]}, 0, "rows_with_repeated_user is 1"),
        ({"user_id": ["new", None], "is_gone": [False, False]}, 0, "rows_with_null is 1"),
        ({"user_id": ["new"], "is_gone": [True]}, 0, "gone_users_with_rows is 1"),
        ({"user_id": ["nobody"], "is_gone": [False]}, 0, "changed_users_without_rows is 1"),
        ({"user_id": ["new"], "is_gone": [False]}, -2, "users_unexplained is 2"),
    ],
)
def test_a_wrong_table_is_not_published(
    tmp_path: Path, table: dict[str, list[Any]], unexplained: int, told: str
) -> None:
    after = [part.path for part in parts(tmp_path, frame(AFTER))]
    pd.DataFrame(table).to_parquet(tmp_path / "changes.parquet", index=False)
    place = ChecksLayout(tmp_path / "gx", LocalStorage(tmp_path))
    with in_memory() as connection, pytest.raises(QualityError, match=told):
        check_changes(place, connection, tmp_path / "changes.parquet", after, unexplained, "a night")


@pytest.fixture
def scored(root: Root) -> Root:
    """A root with a run that waits to be published."""
    root.configure(CONFIG)
    write_run(root.layout, make_interactions(), DAY)
    return root


def published(layout: Layout) -> tuple[Manifest, dict[str, bool] | None]:
    manifest = Manifest.read(layout.latest, layout.storage)
    files = manifest.tables.get("changes")
    if files is None:
        return manifest, None
    (file,) = files
    found = pd.read_parquet(layout.root / file.path)
    assert (file.rows, file.sha256) == (len(found), sha256(layout.root / file.path))
    return manifest, dict(zip(found.user_id, found.is_gone, strict=True))


def swap(
    root: Root, users: list[str], day: Any = DAY, change: Callable[[pd.DataFrame], pd.DataFrame] | None = None
) -> None:
    """Exchange the two best items of some users in a run's candidates."""
    run = root.layout.run(day, "manual")
    for shard in range(SHARDS):
        part = run.candidate_part(shard)
        rows = pd.read_parquet(part)
        for user in users:
            mine = rows.user_id == user
            rows.loc[mine, "item_id"] = (
                rows.loc[mine, "item_id"].to_list()[1::-1] + rows.loc[mine, "item_id"].to_list()[2:]
            )
        write_part(part, rows if change is None else change(rows))
        record_part(run, shard, shard + 1)


def test_the_first_table_has_no_changes(scored: Root) -> None:
    scored.ok("publish")
    manifest, found = published(scored.layout)
    assert (found, manifest.changes_from) == (None, None)


def test_a_night_is_compared_with_the_newest_table(scored: Root) -> None:
    scored.ok("publish")
    first, _ = published(scored.layout)
    write_run(scored.layout, make_interactions(), NEXT)
    swap(scored, ["user-003", "user-007"], NEXT)
    scored.ok("publish", NEXT)
    manifest, found = published(scored.layout)
    assert found == {"user-003": False, "user-007": False}
    assert manifest.changes_from == first.digest


def test_the_same_day_again_is_compared_with_what_it_replaces(scored: Root) -> None:
    scored.ok("publish")
    first, _ = published(scored.layout)
    swap(scored, ["user-003"])
    assert scored.ok("publish")["changed"]
    manifest, found = published(scored.layout)
    assert (found, manifest.changes_from) == ({"user-003": False}, first.digest)
    assert not scored.ok("publish")["changed"]
    assert published(scored.layout) == (manifest, found)


def test_an_older_day_is_compared_with_nothing(scored: Root) -> None:
    write_run(scored.layout, make_interactions(), NEXT)
    scored.ok("publish", NEXT)
    scored.ok("publish")
    assert Manifest.read(scored.layout.published_manifest(DAY)).tables == {}


def test_a_damaged_table_is_compared_with_nothing(scored: Root) -> None:
    scored.ok("publish")
    scored.layout.published_parts(DAY)[0].write_bytes(b"damaged")
    write_run(scored.layout, make_interactions(), NEXT)
    scored.ok("publish", NEXT)
    assert published(scored.layout)[1] is None


def test_without_the_setting_there_are_no_changes(scored: Root) -> None:
    scored.ok("publish")
    scored.configure(CONFIG.replace("true", "false"))
    swap(scored, ["user-003"])
    scored.ok("publish")
    assert published(scored.layout)[1] is None
    assert not list(scored.layout.candidates.rglob("_tables"))


def test_a_target_switches_them_on(scored: Root) -> None:
    scored.configure('[candidates]\nk = 10\n[deliver.files]\nkind = "csv"\n')
    scored.ok("publish")
    swap(scored, ["user-003"])
    scored.ok("publish")
    assert published(scored.layout)[1] == {"user-003": False}


def test_readers_of_all_nights_do_not_meet_them(scored: Root) -> None:
    """The globs of docs/candidates.md, with the changes in place."""
    scored.ok("publish")
    swap(scored, ["user-003"])
    rows = scored.ok("publish")["rows"]
    glob = sorted(scored.layout.candidates.glob("*/part-*.parquet"))
    assert sum(pq.read_metadata(path).num_rows for path in glob) == rows
    assert json.loads(scored.layout.latest.read_text())["tables"]["changes"][0]["path"].startswith(
        "candidates/run_date=2024-01-30/_tables/changes/"
    )
