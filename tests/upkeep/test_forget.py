"""Erasing users: no byte of them is left, later files do not bring them back, and later nights succeed."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.candidates.lookup import published_manifest
from hmamba.contracts.manifest import Manifest
from hmamba.contracts.receipt import Receipt
from hmamba.contracts.step import StepFailure
from hmamba.models import promotions
from hmamba.report.examples import digest_of
from hmamba.sequences.files import Snapshot
from hmamba.storage.layout import Layout
from hmamba.storage.local import LocalStorage, sha256
from hmamba.upkeep import forget as forgetting
from hmamba.warehouse import rewrite
from jobs import publish
from tests.jobs.commands.call import call
from tests.landing import DAY, Root
from tests.nights import FIRST, THIRD, run_night
from tests.synthetic import make_interactions, write_landing

USER, OTHER = "user-003", "user-004"
FUTURE = date(2024, 2, 1)


def forget(layout: Layout, *arguments: str) -> int:
    return call("forget", "--root", str(layout.root), *arguments)


def traces(layout: Layout, user: str = USER) -> list[str]:
    """Every file under the root, except the landing folder, with a byte, a row or a dictionary entry of a user."""
    found = []
    for path in sorted(layout.root.rglob("*")):
        if not path.is_file() or path.is_relative_to(layout.landing):
            continue
        if user.encode() in path.read_bytes():
            found.append(path)
        elif path.suffix == ".parquet":
            texts = [field.name for field in pq.read_schema(path) if pa.types.is_string(field.type)]
            coded = pq.ParquetFile(path, read_dictionary=texts).read(columns=texts)
            if any(user in chunk.dictionary.to_pylist() for column in coded.columns for chunk in column.chunks):
                found.append(path)
    return [path.relative_to(layout.root).as_posix() for path in found]


def besides_segments(manifest: Manifest) -> Manifest:
    """A manifest without the users for items: publishing again chooses a user for the place of the one who is gone.

    It is then another table, with changed users and a time of its own.
    """
    tables = {name: files for name, files in manifest.tables.items() if name not in ("segments", "changes")}
    return manifest.model_copy(update={"tables": tables, "changes_from": None, "created_at": datetime.min})


@pytest.fixture(scope="session")
def after_three(after_two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights, the second one with carried states, and a rolled-back one; messages that name the user."""
    folder = tmp_path_factory.mktemp("three") / "root"
    shutil.copytree(after_two, folder, symlinks=True)
    layout = Layout.at(folder)
    layout.config.write_text(layout.config.read_text().replace("[candidates]", "[candidates]\nstates = true"))
    run_night(layout, THIRD, "three")
    run_night(layout, FUTURE, "gone")
    assert call("rollback", "--root", str(folder), "--to", str(THIRD)) == 0
    message = f"a.csv, line 3: event_time_readable (user_id = '{USER}')"
    failure = StepFailure(step="ingest", shard=None, message=message, exit_status=3, seconds=1.0)
    failure.write(layout.run(THIRD, "three").step_failure("ingest"))
    page = layout.report(FIRST)
    page.write_text(page.read_text().replace("</body>", f"<p>{USER}</p></body>"))
    (layout.runs / str(THIRD) / "three" / ".states.tmp-0000abcd").write_text(USER)
    return folder


@pytest.fixture
def shop(after_three: Path, tmp_path: Path) -> Layout:
    """A copy of the root after these nights."""
    shutil.copytree(after_three, tmp_path / "root", symlinks=True)
    return Layout.at(tmp_path / "root")


def test_no_byte_of_the_user_is_left(shop: Layout) -> None:
    before = traces(shop)
    assert {"warehouse.duckdb", ".rolled-back", "candidates", "reports", "runs"} <= {
        name.split("/")[0] for name in before
    }
    assert any("/states/" in name for name in before)
    others = traces(shop, OTHER)
    assert forget(shop, USER) == 0
    assert traces(shop) == []
    # States of one shard are computed again when they are needed; without changes, all users are delivered.
    left_out = {name for name in others if "/states/" in name or "/_tables/changes/" in name}
    assert {*others} - {*traces(shop, OTHER)} <= left_out


def test_an_example_in_a_report_is_removed_with_its_history(shop: Layout) -> None:
    page = shop.report(THIRD)
    before = page.read_text()
    user = next(user for user in re.findall(r"user \"<code>([^<]+)</code>", before))
    example = re.search(rf'<article class="example" data-user="{digest_of(user)}">.*?</article>', before, re.DOTALL)
    assert example is not None
    assert "Taken last" in example[0]
    assert forget(shop, user) == 0
    after = page.read_text()
    assert digest_of(user) not in after
    assert example[0] not in after
    assert "This user has been forgotten." in after
    assert after.count("<article") == before.count("<article")
    (receipt,) = (Receipt.read(path) for path in shop.receipts.glob("*.json"))
    assert f"reports/{THIRD}/index.html" in receipt.rewritten


def test_the_tables_and_working_folders_are_whole(shop: Layout) -> None:
    before = published_manifest(shop)
    rows = sum(len(pd.read_parquet(shop.root / file.path).query("user_id == @USER")) for file in before.files)
    users = Snapshot.open(shop.run(THIRD, "three")).manifest.users
    assert forget(shop, USER) == 0
    after = published_manifest(shop)
    assert (after.rows, after.users, after.created_at) == (before.rows - rows, before.users - 1, before.created_at)
    for file in after.every_file:
        assert (sha256(shop.root / file.path), pq.read_metadata(shop.root / file.path).num_rows) == (
            file.sha256,
            file.rows,
        )
    snapshot = Snapshot.open(shop.run(THIRD, "three"))
    assert (len(snapshot.shards), snapshot.manifest.users, snapshot.digest) == (2, users - 1, after.snapshot)
    arguments = ["--root", str(shop.root), "--day", str(THIRD), "--run-id", "three"]
    assert publish.main(arguments) == 0  # verifies every part against what made it
    again = published_manifest(shop)
    assert besides_segments(again) == besides_segments(after)
    (segments,) = again.tables["segments"]
    frame = pd.read_parquet(shop.root / segments.path)
    assert (frame["rank"] == frame.groupby("item_id").cumcount() + 1).all()


def test_a_delivery_after_it_is_of_all_users(shop: Layout) -> None:
    """Changes without the user would leave them in a target that holds the table before."""
    before = published_manifest(shop)
    assert before.tables["changes"][0].rows
    assert forget(shop, USER) == 0
    after = published_manifest(shop)
    assert ("changes" in after.tables, after.changes_from) == (False, None)
    assert after.digest != before.digest
    assert not list(shop.published(THIRD).rglob("changes"))


def test_targets_are_cleared_by_the_next_delivery(shop: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    shop.config.write_text(shop.config.read_text() + '[deliver.export]\nkind = "csv"\n')
    deliver = ("deliver", "--root", str(shop.root))
    assert call(*deliver) == 0
    assert forget(shop, USER) == 0
    assert f"Deliver the table again: hmamba {' '.join(deliver)}" in capsys.readouterr().err
    assert {name.split("/")[0] for name in traces(shop)} == {"delivered"}
    assert call(*deliver) == 0
    assert traces(shop) == []


def test_the_next_night_starts_from_the_same_champion(shop: Layout) -> None:
    champion = promotions.promotions(shop)[-1].version
    assert forget(shop, USER) == 0
    assert promotions.promotions(shop)[-1].version == champion
    late = make_interactions(users=120, items=80, days=31).tail(120)
    write_landing(shop.root, pd.concat([late, late.head(3).assign(user_id=USER)]), "fourth.parquet")
    metrics = run_night(shop, date(2024, 1, 31), "four")
    assert metrics["train"]["parent"] == metrics["gate"]["champion"] == champion
    assert metrics["ingest"]["rows_forgotten"] >= 3
    assert traces(shop) == []


def test_the_user_of_the_newest_item_does_not_stop_the_night(two: Layout) -> None:
    """The item keeps its index without events, or the champion would not fit the warehouse."""
    champion = promotions.promotions(two)[-1].version
    with duckdb.connect(str(two.warehouse), read_only=True) as connection:
        ((owner,),) = connection.execute("SELECT user_id FROM interactions WHERE item_id = 'brand new'").fetchall()
    assert forget(two, owner, "newcomer") == 0
    metrics = run_night(two, date(2024, 1, 31), "four")
    assert metrics["gate"]["champion"] == champion


def test_a_refresh_after_forgetting(shop: Layout) -> None:
    assert forget(shop, USER) == 0
    new = pd.DataFrame({"user_id": ["user-001", "user-002", USER], "item_id": "item-001", "weight": 1.0})
    write_landing(shop.root, new.assign(event_time=pd.Timestamp("2024-01-31 10:00")), "noon.parquet")
    assert call("refresh", "--root", str(shop.root), "--day", "2024-01-31") == 0
    manifest = published_manifest(shop)
    assert manifest.refresh is not None
    assert manifest.refresh.users == 2
    assert traces(shop) == []


def test_a_receipt_without_the_id(shop: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert forget(shop, USER, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    (place,) = shop.receipts.iterdir()
    receipt = Receipt.read(place)
    assert receipt == Receipt.model_validate(printed)
    assert receipt.ended_at is not None
    assert receipt.users[0].events > 0
    assert {"warehouse.duckdb", f"candidates/run_date={THIRD}", f"runs/{THIRD}/three"} <= {*receipt.rewritten}
    assert receipt.landing == ("landing/interactions/events.parquet", "landing/interactions/later.parquet")
    assert USER not in place.read_text()


KILLS: list[tuple[object, str]] = [
    (forgetting, "rewrite"),
    (rewrite, "copy_to"),
    (forgetting, "_write_run"),
    (forgetting, "_describe_run"),
    (forgetting, "_without_rows"),
    (LocalStorage, "write_folder"),
    (forgetting, "_erase_from_tables"),
    (forgetting, "_erase_from_texts"),
    (forgetting, "_delete_leftovers"),
    (forgetting, "files_that_name"),
]


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("place", KILLS, ids=lambda place: place[1])
def test_killed_anywhere_and_run_again_it_ends_the_same(
    shop: Layout, monkeypatch: pytest.MonkeyPatch, place: tuple[object, str], nth: int
) -> None:
    calls = 0
    whole: Callable[..., Any] = getattr(*place)

    def kill(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            raise SystemError("as if killed")
        return whole(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(*place, staticmethod(kill) if isinstance(place[0], type) else kill)
        try:
            forget(shop, USER)
        except SystemError:
            published_manifest(shop)
    assert forget(shop, USER) == 0
    assert traces(shop) == []
    after = published_manifest(shop)
    assert after.snapshot == Snapshot.open(shop.run(THIRD, "three")).digest
    assert publish.main(["--root", str(shop.root), "--day", str(THIRD), "--run-id", "three"]) == 0
    assert besides_segments(published_manifest(shop)) == besides_segments(after)
    (place_of_receipt,) = shop.receipts.iterdir()
    receipt = Receipt.read(place_of_receipt)
    assert receipt.ended_at is not None
    assert f"candidates/run_date={THIRD}" in receipt.rewritten
    assert receipt.users[0].events > 0


def test_a_step_that_works_on_the_root_is_waited_for(shop: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    shop.config.write_text("[warehouse]\nwait_seconds = 0.1\n" + shop.config.read_text())
    with shop.storage.lock(shop.runs, ".night.lock"):
        assert forget(shop, USER) == 1
    assert "is locked by process" in capsys.readouterr().err
    with duckdb.connect(str(shop.warehouse), read_only=True) as connection:
        assert connection.execute("SELECT count(*) > 0 FROM interactions WHERE user_id = ?", [USER]).fetchall() == [
            (True,)
        ]


def test_the_rolled_back_night_comes_back_without_the_user(shop: Layout) -> None:
    assert forget(shop, USER) == 0
    assert call("rollback", "--root", str(shop.root), "--table", "2024-02-01") == 0
    found = published_manifest(shop)
    assert found.snapshot == Snapshot.open(shop.run(FUTURE, "gone")).digest
    assert Manifest.read(shop.published_manifest(FUTURE)) == found


class TestLanding:
    """Source files."""

    @pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet", "a.jsonl", "a.jsonl.gz"])
    def test_only_the_rows_of_the_user_go(self, root: Root, name: str) -> None:
        events = make_interactions()
        path = write_landing(root.layout.root, events, name)
        root.ok("ingest")
        assert forget(root.layout, USER) == 0
        (receipt,) = root.layout.receipts.iterdir()
        assert Receipt.read(receipt).landing == (f"landing/interactions/{name}",)
        assert forget(root.layout, USER, "--landing") == 0
        assert Receipt.read(receipt).landing == ()
        content = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
        assert USER.encode() not in content
        kinds = {"csv": pd.read_csv, "parquet": pd.read_parquet, "jsonl": lambda p: pd.read_json(p, lines=True)}
        left = kinds[name.removesuffix(".gz").rpartition(".")[2]](path)  # type: ignore[operator]
        assert left.user_id.tolist() == events.query("user_id != @USER").user_id.tolist()
        before = root.contents()
        metrics = root.ok("ingest", DAY, "again")
        assert (metrics["rows_read"], metrics["files_skipped"]) == (0, 1)
        assert root.contents() == before

    def test_behind_a_link_and_above_the_default_limits(self, root: Root, tmp_path: Path) -> None:
        root.configure("[source]\nfollow_links = true\n[source.limits]\nmax_columns = 5000\n")
        header = "user_id,item_id,event_time," + ",".join(f"c{number}" for number in range(4_200))
        real = tmp_path / "real.csv"
        real.write_text(f"{header}\nu,i,2024-01-01\n{USER},i,2024-01-01\n".replace("-01\n", "-01" + "," * 4_200 + "\n"))
        (root.layout.landing / "interactions").mkdir(parents=True, exist_ok=True)
        link = root.layout.landing / "interactions" / "a.csv"
        link.symlink_to(real)
        root.ok("ingest")
        assert forget(root.layout, USER, "--landing") == 0
        assert link.is_symlink()
        assert USER not in real.read_text()
        (receipt,) = root.layout.receipts.iterdir()
        assert Receipt.read(receipt).unreadable == ()
        assert root.ok("ingest", DAY, "again")["files_skipped"] == 1

    def test_a_folder_that_cannot_be_listed_is_named(self, loaded: Root, capsys: pytest.CaptureFixture[str]) -> None:
        loaded.drop("notes.docx", "no events")
        assert forget(loaded.layout, USER, "--landing") == 0
        assert "Not searched: " in (err := capsys.readouterr().err)
        assert "notes.docx" in err

    def test_records_over_several_lines_arrays_and_malformed_ones(self, root: Root) -> None:
        root.configure("[quality]\nmax_quarantined_share = 0.9\n")
        header = "user_id,item_id,event_time,note\n"
        kept = ['u1,i1,2024-01-01,"two\nlines"\n', "u2,i1,2024-01-02,x\n"]
        rows = f'{USER},i1,2024-01-01,"three\n\nlines"\n{USER},i1\n5,i1\n'
        csv = root.drop("a.csv", f"{header}{kept[0]}{rows}{kept[1]}")
        records = [{"user_id": user, "item_id": "i2", "event_time": "2024-01-03"} for user in ("u1", USER, "u2")]
        array = root.drop("b.json", json.dumps(records))
        root.ok("ingest")
        assert forget(root.layout, USER, "5", "--landing") == 0
        assert csv.read_text() == header + "".join(kept)
        assert [one["user_id"] for one in json.loads(array.read_text())] == ["u1", "u2"]

    def test_rows_of_later_days_are_still_pulled(self, root: Root) -> None:
        rows = "".join(f"{user},i1,2024-01-{day}\n" for day in (10, 20) for user in ("u1", USER))
        root.drop("a.csv", f"user_id,item_id,event_time\n{rows}")
        assert root.ok("ingest", date(2024, 1, 15))["rows_left"] == 2
        assert forget(root.layout, USER, "--landing") == 0
        metrics = root.ok("ingest", date(2024, 1, 20), "later")
        assert (metrics["rows_loaded"], metrics["rows_duplicate"], metrics["rows_forgotten"]) == (1, 0, 0)

    def test_a_file_that_cannot_be_read_is_reported(self, loaded: Root, capsys: pytest.CaptureFixture[str]) -> None:
        loaded.drop("broken.parquet", b"PAR1")
        assert forget(loaded.layout, USER, "--landing") == 0
        assert "Not searched: landing/interactions/broken.parquet" in capsys.readouterr().err


def test_ids_from_a_file(loaded: Root, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "users.txt"
    listed.write_text(f"{USER}\n\n {OTHER} \n")
    assert forget(loaded.layout, "--file", str(listed)) == 0
    assert loaded.sql(f"SELECT count(*) FROM interactions WHERE user_id IN ('{USER}', '{OTHER}')") == [(0,)]
    assert forget(loaded.layout, "--file", str(tmp_path / "none.txt")) == 2
    assert forget(loaded.layout) == 2
    assert "No user is given" in capsys.readouterr().err


def test_refused_rows_of_the_user_in_every_notation(root: Root) -> None:
    root.configure("[quality]\nmax_quarantined_share = 0.99\n")
    root.drop("a.csv", "user_id,item_id,event_time\nu,i,2024-01-01\n\t5 ,i,bad\n5,i\na b,i\nu:7,i\n55,i\nab,i\n")
    objects = [{"user_id": user, "item_id": "i", "event_time": "bad"} for user in (5, 5.0, "a b")]
    objects.append({"user_id": "u", "item_id": "i", "event_time": "2024-01-01"})
    root.drop("b.jsonl", "\n".join(map(json.dumps, objects)) + '\n{"user_id": "a b", "item_id\n')
    times = ["2024-01-01", "bad", "bad"]
    pd.DataFrame({"user_id": [6.0, 5.0, 55.0], "item_id": "i", "event_time": times}).to_parquet(
        root.layout.landing / "interactions" / "c.parquet"
    )
    root.ok("ingest")
    assert forget(root.layout, "5", "a b", "u:7") == 0
    left = root.sql("SELECT CAST(record AS VARCHAR) FROM quarantine ORDER BY path, line")
    assert [text for (text,) in left] == [
        '"55,i"',
        '"ab,i"',
        '{"user_id": 55.0, "item_id": "i", "event_time": "bad"}',
    ]
    root.drop("again.csv", "user_id,item_id,event_time\nu,i,2024-01-02\n5,i\na b,i\nu:7,i\n55,i\n")
    metrics = root.ok("ingest", DAY, "again")
    assert (metrics["rows_forgotten"], metrics["rows_quarantined"]) == (3, 1)


def test_a_file_that_cannot_be_searched_stops_with_a_sentence(shop: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    shard = shop.run(FIRST, "one").shards[0]
    half = shard.read_bytes()[:300]
    leftover = shop.run(THIRD, "three").folder / ".sequences.tmp-0123abcd"
    leftover.mkdir()
    (leftover / shard.name).write_bytes(half)  # of a killed step: swept before
    shard.write_bytes(half)
    assert forget(shop, USER) == 2
    assert f"{shard} cannot be searched" in capsys.readouterr().err
    shard.unlink()
    assert forget(shop, USER) == 0
    assert traces(shop) == []


def test_an_unknown_id_is_named(loaded: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert forget(loaded.layout, "nobody at all") == 0
    assert "The warehouse held no rows of them." in capsys.readouterr().err


def test_a_root_without_a_warehouse_is_refused(layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    layout.root.mkdir()
    assert forget(layout, "u") == 2
    assert "there is nothing to erase" in capsys.readouterr().err
    assert [*layout.root.iterdir()] == []


def test_a_damaged_receipt_is_named_and_can_be_deleted(loaded: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert forget(loaded.layout, USER) == 0
    (place,) = loaded.layout.receipts.iterdir()
    before = Receipt.read(place)
    place.write_text(place.read_text()[:100])
    assert forget(loaded.layout, USER) == 2
    assert Receipt.CURE in capsys.readouterr().err
    place.unlink()
    assert forget(loaded.layout, USER) == 0
    assert Receipt.read(place).users == before.users


def test_backtests_that_hold_the_user_are_deleted(loaded: Root) -> None:
    folder = loaded.layout.backtest(DAY, DAY, 1).folder
    (folder / "nights").mkdir(parents=True)
    (folder / "nights" / "a.json").write_text(json.dumps({"user_ids": [USER]}))
    other = loaded.layout.backtest(FIRST, FIRST, 1).folder
    shutil.copytree(folder, other)
    (other / "nights" / "a.json").write_text(json.dumps({"user_ids": [OTHER]}))
    assert forget(loaded.layout, USER) == 0
    assert (folder.exists(), other.exists()) == (False, True)
