"""What readers find under candidates/: always whole, always checked, never older than before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from hmamba.candidates import beside
from hmamba.candidates import publish as publishing
from hmamba.contracts.contents import Contents, HashedFile
from hmamba.contracts.models import IndexDescription
from hmamba.storage import local as files
from hmamba.storage.local import LocalStorage, sha256
from tests.documents import shard_metrics
from tests.landing import DAY, Root
from tests.scored import SHARDS, record_part, write_part, write_run
from tests.synthetic import make_interactions

CONFIG = "[candidates]\nk = 10\n"


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    return make_interactions()


@pytest.fixture
def scored(root: Root, events: pd.DataFrame) -> Root:
    """A root with a run that waits to be published."""
    root.configure(CONFIG)
    write_run(root.layout, events, DAY)
    return root


def published(root: Root) -> dict[str, tuple[bytes, int]]:
    """Every file under candidates/ that readers see, with its content and time of change."""
    folder = root.layout.candidates
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def latest(root: Root) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(root.layout.latest.read_text())
    return manifest


def check_latest(root: Root) -> None:
    """Each file that latest.json names has the content that it says."""
    for file in latest(root)["files"]:
        assert sha256(root.layout.root / file["path"]) == file["sha256"]


def rescore(root: Root, day: date = DAY) -> None:
    """Give the run other, equally good candidates."""
    run = root.layout.run(day, "manual")
    for shard in range(SHARDS):
        part = run.candidate_part(shard)
        write_part(part, pd.read_parquet(part).assign(model_version="v2"))
        record_part(run, shard, shard + 1)


def test_the_manifest_leads_to_whole_files(scored: Root) -> None:
    metrics = scored.ok("publish")
    manifest = latest(scored)
    day_manifest = scored.layout.published(DAY) / "_manifest.json"
    assert json.loads(day_manifest.read_text()) == manifest
    expected = {
        "run_id": "manual",
        "day": "2024-01-30",
        "model_version": "v1",
        "k": 10,
        "users": 40,
        "fallback_users": 3,
    }
    assert {key: manifest[key] for key in expected} == expected
    assert manifest["exclude_seen"] is True
    assert [file["path"] for file in manifest["files"]] == [
        f"candidates/run_date=2024-01-30/part-000{number}.parquet" for number in (0, 1)
    ]
    for file in manifest["files"]:
        path = scored.layout.root / file["path"]
        assert (file["bytes"], file["sha256"]) == (path.stat().st_size, sha256(path))
    assert manifest["rows"] == metrics["rows"] == sum(file["rows"] for file in manifest["files"])
    assert (metrics["users"], metrics["k"], metrics["files"], metrics["changed"], metrics["model_version"]) == (
        40,
        10,
        2,
        True,
        "v1",
    )


def test_readers_are_warned_of_what_the_gate_warned_of(root: Root, events: pd.DataFrame) -> None:
    root.configure(CONFIG)
    write_run(root.layout, events, DAY, warning="No model serves")
    code, metrics, log = root.step("publish")
    assert (code, metrics["warning"], latest(root)["warning"]) == (0, "No model serves", "No model serves")
    assert "publish: No model serves" in log
    write_run(root.layout, events, DAY)
    assert root.ok("publish")["changed"]
    assert latest(root)["warning"] is None


def test_duckdb_alone_can_read_the_candidates(scored: Root) -> None:
    metrics = scored.ok("publish")
    glob = str(scored.layout.candidates / "*" / "*.parquet")
    query = "SELECT count(*), count(DISTINCT item_id), min(run_date) FROM read_parquet($glob, hive_partitioning = true)"
    assert duckdb.execute(query, {"glob": glob}).fetchone() == (metrics["rows"], metrics["distinct_items"], DAY)


def test_the_same_content_again_rewrites_nothing(scored: Root, events: pd.DataFrame) -> None:
    scored.ok("publish")
    before = published(scored)
    assert scored.ok("publish")["changed"] is False
    write_run(scored.layout, events, DAY, "other")
    assert scored.ok("publish", run_id="other")["changed"] is False
    assert published(scored) == before


def test_other_content_takes_the_days_place(scored: Root) -> None:
    scored.ok("publish")
    rescore(scored)
    assert scored.ok("publish")["changed"] is True
    assert latest(scored)["model_version"] == "v2"
    assert json.loads((scored.layout.published(DAY) / "_manifest.json").read_text()) == latest(scored)


def test_a_damaged_publication_is_mended(scored: Root) -> None:
    scored.ok("publish")
    part = scored.layout.published(DAY) / "part-0000.parquet"
    part.unlink()
    part.write_bytes(b"damaged")
    assert scored.ok("publish")["changed"] is True
    assert sha256(part) == latest(scored)["files"][0]["sha256"]


def test_broken_candidates_leave_the_night_before(scored: Root) -> None:
    scored.ok("publish")
    before = published(scored)
    part = scored.layout.run(DAY, "manual").candidates / "part-0001.parquet"
    frame = pd.read_parquet(part)
    write_part(part, frame[frame["user_id"] != frame["user_id"].iloc[0]])
    record_part(scored.layout.run(DAY, "manual"), 1)
    code, _, log = scored.step("publish")
    assert code == 3
    assert "users_missing is" in log
    assert published(scored) == before


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("verdict.json", "verdict.json does not exist"),
        ("candidates", "part-0000.parquet does not exist. Run the score step for shard 0 again (python -m jobs.score"),
        ("candidates/part-0001.parquet", "part-0001.parquet does not exist. Run the score step for shard 1 again ("),
        ("sequences", "manifest.json does not exist"),
        ("metrics", "score-0000.json does not exist"),
        ("index", "index.json does not exist"),
        ("metrics/score-0001.json", "score-0001.json does not exist: the shard has not been scored. Run the score"),
    ],
)
def test_a_step_that_has_not_run_is_named(scored: Root, missing: str, told: str) -> None:
    path = scored.layout.run(DAY, "manual").folder / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    code, _, log = scored.step("publish")
    assert (code, told in log) == (2, True), log
    assert not scored.layout.published_days


@pytest.mark.parametrize("damage", ["flip", "cut", "another"])
def test_a_part_that_has_changed_since_it_was_scored_is_not_published(scored: Root, damage: str) -> None:
    scored.ok("publish")
    before = published(scored)
    part = scored.layout.run(DAY, "manual").candidate_part(1)
    content = part.read_bytes()
    changed = {
        "flip": content[:400] + bytes([content[400] ^ 1]) + content[401:],
        "cut": content[:-20],
        "another": scored.layout.run(DAY, "manual").candidate_part(0).read_bytes(),
    }
    part.write_bytes(changed[damage])
    code, _, log = scored.step("publish")
    assert (code, "part-0001.parquet is damaged" in log) == (2, True), log
    assert published(scored) == before
    part.write_bytes(content)
    assert scored.ok("publish")["changed"] is False


def test_a_part_that_changes_while_it_is_published_is_not_read(scored: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is checked is what readers get: a part that is replaced after the copy changes neither."""
    check = publishing.check_candidates

    def then_replaced(*given: Any) -> Any:
        scored.layout.run(DAY, "manual").candidate_part(0).write_bytes(b"another")
        return check(*given)

    monkeypatch.setattr(publishing, "check_candidates", then_replaced)
    scored.ok("publish")
    check_latest(scored)
    assert latest(scored)["users"] == 40


@pytest.mark.parametrize("step", ["snapshot", "gate", "index"])
def test_candidates_of_before_a_repeated_step_are_not_published(scored: Root, events: pd.DataFrame, step: str) -> None:
    """A second snapshot under the same run id must not publish the parts of the first as its own."""
    run = scored.layout.run(DAY, "manual")
    old = [run.step_metrics("score", shard).read_bytes() for shard in range(SHARDS)]
    if step == "snapshot":
        write_run(scored.layout, events.iloc[:-1], DAY)
        for shard in range(SHARDS):
            run.step_metrics("score", shard).write_bytes(old[shard])
    elif step == "gate":
        Contents(files=(HashedFile.of(run.items),)).write(run.model_contents)
    else:
        IndexDescription(model_version="v1", kind="flat", sha256={"items.npy": "0"}).write(run.index_description)
    code, _, log = scored.step("publish")
    changed = "the snapshot" if step == "snapshot" else "the model or the index"
    assert (code, f"was written before {changed} of this run. Run the score step for shard 0" in log) == (2, True), log
    for shard in range(SHARDS):
        record_part(run, shard)
    scored.ok("publish")


def test_what_a_snapshot_with_more_shards_left_is_not_published(scored: Root) -> None:
    run = scored.layout.run(DAY, "manual")
    shutil.copyfile(run.candidates / "part-0001.parquet", run.candidates / "part-0002.parquet")
    shard_metrics(2, fallback_users=100).write(run.step_metrics("score", 2))
    assert (scored.ok("publish")["files"], latest(scored)["fallback_users"]) == (2, 3)
    assert [path.name for path in sorted(scored.layout.published(DAY).glob("*.parquet"))] == [
        "part-0000.parquet",
        "part-0001.parquet",
    ]


def test_publishing_again_replaces_a_damaged_manifest(scored: Root) -> None:
    scored.ok("publish")
    before = latest(scored)
    (scored.layout.published(DAY) / "_manifest.json").write_text('{"schema_version": 1}', encoding="utf-8")
    code, metrics, log = scored.step("publish")
    assert (code, metrics["changed"]) == (0, True)
    assert "_manifest.json is damaged: run_id is missing." in log
    unlike = ("created_at", "checksum")
    assert latest(scored) | {key: before[key] for key in unlike} == before


@pytest.mark.parametrize("content", ['{"schema_version": 99}', '{"schema_version": 1}', "no JSON"])
def test_nights_are_published_while_the_newest_manifest_cannot_be_read(
    scored: Root, events: pd.DataFrame, content: str
) -> None:
    """The link still leads to a day: an earlier night does not replace it, a later night does."""
    scored.ok("publish")
    states = scored.layout.run(DAY, "manual").states
    states.mkdir()
    scored.layout.published_manifest(DAY).write_text(content)
    earlier, later = DAY - timedelta(days=1), DAY + timedelta(days=1)
    for day in (earlier, later):
        write_run(scored.layout, events, day)
    scored.configure(f"{CONFIG}[keep]\nruns = 1\n")
    code, metrics, log = scored.step("publish", earlier)
    assert (code, metrics["changed"]) == (0, True), log
    assert scored.layout.latest.read_text() == content
    assert "publish: a table's manifest is ignored: " in log
    assert states.is_dir()
    assert scored.ok("publish", later)["changed"]
    assert latest(scored)["day"] == later.isoformat()
    assert not states.exists()


def test_latest_never_goes_back_in_days(scored: Root, events: pd.DataFrame) -> None:
    scored.ok("publish")
    newest = latest(scored)
    earlier = DAY - timedelta(days=5)
    write_run(scored.layout, events, earlier)
    assert scored.ok("publish", day=earlier)["changed"] is True
    assert (scored.layout.published(earlier) / "_manifest.json").is_file()
    assert latest(scored) == newest
    later = DAY + timedelta(days=1)
    write_run(scored.layout, events, later)
    scored.ok("publish", day=later)
    assert latest(scored)["day"] == later.isoformat()


def test_killed_between_folder_and_link_the_next_try_finishes(
    scored: Root, events: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored.ok("publish")
    before = latest(scored)
    later = DAY + timedelta(days=1)
    write_run(scored.layout, events, later)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "point", stop)
        with pytest.raises(KeyboardInterrupt):
            scored.step("publish", day=later)
    assert latest(scored) == before
    check_latest(scored)
    assert scored.ok("publish", day=later)["changed"] is True
    assert latest(scored)["day"] == later.isoformat()


@pytest.mark.parametrize("days", [0, 1, -1])
def test_whenever_the_machine_stops_latest_tells_the_truth(
    scored: Root, events: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """After each rename, the only moments at which readers see anything change."""
    scored.ok("publish")
    day = DAY + timedelta(days=days)
    write_run(scored.layout, events, day)
    rescore(scored, day)
    checked = []

    def then_check(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*paths: Path) -> Any:
            result = change(*paths)
            check_latest(scored)
            checked.append(paths)
            return result

        return changed

    monkeypatch.setattr(files, "_exchange", then_check(files._exchange))
    for name in ("replace", "rename"):
        monkeypatch.setattr(Path, name, then_check(getattr(Path, name)))
    assert scored.ok("publish", day=day)["changed"] is True
    assert latest(scored)["model_version"] == ("v1" if days < 0 else "v2")
    assert any(target == scored.layout.published(day) for _, target in checked)


def test_a_root_can_be_moved(scored: Root, tmp_path: Path) -> None:
    scored.ok("publish")
    moved = scored.layout.candidates.rename(tmp_path / "moved") / "latest.json"
    assert json.loads(moved.read_text())["day"] == DAY.isoformat()


def test_a_failure_while_copying_changes_nothing(scored: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    scored.ok("publish")
    before = published(scored)
    rescore(scored)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(beside.shutil, "copyfile", full)
    code, _, log = scored.step("publish")
    assert (code, "no space is left on the device" in log) == (1, True), log
    assert published(scored) == before
    assert not [path for path in scored.layout.candidates.iterdir() if ".tmp-" in path.name]


def test_only_allowed_items(scored: Root) -> None:
    scored.configure(CONFIG + 'allowed_items = "landing/allowed.csv"\n')
    code, _, log = scored.step("publish")
    assert (code, "candidates.allowed_items: " in log) == (2, True), log
    scored.layout.landing.mkdir()
    (scored.layout.landing / "allowed.csv").write_text("item_id\nitem-000\n")
    code, _, log = scored.step("publish")
    assert (code, "rows_with_forbidden_item is" in log) == (3, True), log
