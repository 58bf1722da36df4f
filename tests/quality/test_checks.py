"""The folder of the checks: its records and pages, and that no damage to it stops a check."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hmamba.contracts.checks import CheckedRule, CheckRecord, Kind
from hmamba.quality import checks
from hmamba.quality.checks import KEPT_CHECKS, check, examine
from hmamba.quality.expectations import Figure
from hmamba.storage.checks_layout import ChecksLayout
from hmamba.storage.layout import Layout

NIGHT = datetime(2024, 6, 1, 2, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> ChecksLayout:
    return Layout.at(tmp_path / "root").checks


def record(number: int, kind: Kind = "candidates", value: float = 1) -> CheckRecord:
    rule = CheckedRule(
        name="rows",
        meaning="rows of the table",
        unit="count",
        value=value,
        least=1,
        most=None,
        settings=(),
        passed=value >= 1,
    )
    return CheckRecord(
        kind=kind,
        name=f"night {number}",
        checked_at=NIGHT + timedelta(minutes=number),
        rules=(rule,),
        great_expectations={"success": rule.passed},
    )


def keep(place: ChecksLayout, *records: CheckRecord) -> None:
    for entry in records:
        assert checks._keep(place, entry) is not None


def files(place: ChecksLayout) -> dict[str, bytes]:
    return {
        path.relative_to(place.folder).as_posix(): path.read_bytes()
        for path in place.folder.rglob("*")
        if path.is_file() and path != place.lock
    }


def is_whole(place: ChecksLayout) -> bool:
    found = examine(place)
    names = place.index.read_text(encoding="utf-8")
    return not found.in_words("", "") and not found.strays and all(e.name in names for e in found.records.values())


def test_a_check_leaves_what_great_expectations_found_and_pages(place: ChecksLayout) -> None:
    figures = [Figure("rows", 0, least=1, meaning="rows of the table"), Figure("users_missing", 0, most=0)]
    outcome = check(place, "candidates", "2024-05-31 manual", figures)
    assert outcome.broken == (figures[0],)
    assert outcome.page is not None
    assert outcome.details == f" Details: {outcome.page}"
    (kept,) = place.all_records
    assert (kept.suffix, outcome.page) == (".json", place.page(kept))
    found = CheckRecord.read(kept)
    assert [(rule.name, rule.passed) for rule in found.rules] == [("rows", False), ("users_missing", True)]
    assert found.great_expectations["statistics"]["unsuccessful_expectations"] == 1
    assert "2024-05-31 manual" in place.index.read_text(encoding="utf-8")
    assert is_whole(place)


def test_the_newest_checks_of_each_kind_are_kept(place: ChecksLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "KEPT_CHECKS", 2)
    keep(place, *(record(number, kind) for number in range(4) for kind in ("candidates", "staged_batch")))
    assert sorted(found.name for found in examine(place).records.values()) == ["night 2", "night 2", *["night 3"] * 2]
    assert is_whole(place)
    assert len(place.all_pages) == 4


def test_what_a_kill_left_of_old_checks_is_removed(place: ChecksLayout) -> None:
    keep(place, record(0), record(1))
    place.all_records[0].unlink()
    keep(place, record(2))
    assert len(place.all_pages) == 2
    assert is_whole(place)


def damage(how: str, path: Path) -> None:
    content, at = path.read_bytes(), random.Random(path.name).random()
    match how:
        case "truncated":
            path.write_bytes(content[: int(at * (len(content) - 1))])
        case "emptied":
            path.write_bytes(b"")
        case "a flipped bit":
            place = int(at * len(content))
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << int(8 * at)]) + content[place + 1 :])
        case "noise":
            path.write_bytes(random.Random(0).randbytes(1000))
        case "of another version":
            path.write_text('{"schema_version": 0}')
        case "removed":
            path.unlink()
        case "a folder":
            path.unlink()
            path.mkdir()
            (path / "inside").touch()


HOW = ["truncated", "emptied", "a flipped bit", "noise", "of another version", "removed", "a folder"]


@pytest.mark.parametrize("how", HOW)
def test_damage_to_any_file_is_repaired_by_the_next_check(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Layout.at(tmp_path / "whole").checks
    written = [record(0), record(1, "staged_batch"), record(2, value=0), record(3)]
    keep(whole, *written[:3])
    for number, name in enumerate(files(whole)):
        place = Layout.at(tmp_path / f"{number}").checks
        shutil.copytree(whole.folder, place.folder)
        damage(how, place.folder / name)
        seen = examine(place)
        caplog.clear()
        keep(place, written[3])
        assert is_whole(place), name
        told = [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]
        assert len(told) <= 1
        assert bool(told) == bool(seen.unreadable or seen.outdated), name
        assert all(text.startswith(f"{place.folder}: ") for text in told)
        if (how, Path(name).suffix) != ("removed", ".json"):
            assert told or how == "a flipped bit", name
        assert all(entry in written for entry in examine(place).records.values()), name
        after = files(place)
        own = {name, str(Path(name).with_suffix(".html"))} if name.endswith(".json") else set()
        assert {other for other in files(whole) if other not in own} <= after.keys(), name


@pytest.mark.parametrize("name", [".", "checks", "checks/candidates", ".lock"])
@pytest.mark.parametrize("how", ["a file", "a folder", "removed"])
def test_folders_and_the_lock_are_made_again(place: ChecksLayout, name: str, how: str) -> None:
    keep(place, record(0))
    path = place.folder / name
    (shutil.rmtree if path.is_dir() else os.remove)(path)
    if how == "a file":
        path.touch()
    elif how == "a folder":
        path.mkdir()
    keep(place, record(1))
    assert "night 1" in place.index.read_text(encoding="utf-8")
    assert is_whole(place)


FAILURES: dict[str, Callable[[ChecksLayout, pytest.MonkeyPatch], object]] = {
    "no space is left": lambda place, patch: patch.setattr(checks, "write_text", full),
    "a file is in the place of a folder": lambda place, patch: place.folder.symlink_to("nowhere"),
    "is locked by another process": lambda place, patch: patch.setattr(checks, "_WAIT_SECONDS", 0.0),
}


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/gx")


@pytest.mark.parametrize("why", FAILURES)
def test_a_check_does_not_depend_on_its_pages(
    place: ChecksLayout, why: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place.folder.parent.mkdir(exist_ok=True)
    FAILURES[why](place, monkeypatch)
    held = None
    if "locked" in why:
        import fcntl

        place.folder.mkdir()
        held = place.lock.open("w")
        fcntl.flock(held, fcntl.LOCK_EX)
    outcome = check(place, "candidates", "a night", [Figure("rows", 0, least=1)])
    assert ([figure.name for figure in outcome.broken], outcome.page, outcome.details) == (["rows"], None, "")
    (told,) = [entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING]
    assert told.startswith(f"{place.folder}: the pages about this check could not be written.")
    assert why in told
    if held is not None:
        held.close()


def test_checks_at_the_same_time_are_all_listed(place: ChecksLayout) -> None:
    """As when an hourly pull runs while a night publishes."""
    both = [
        threading.Thread(target=keep, args=(place, *(record(number, kind) for number in range(10))))
        for kind in ("candidates", "staged_batch")
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(examine(place).records) == 20
    assert is_whole(place)


WRITES = """
import sys; from pathlib import Path
from hmamba.storage.layout import Layout
from tests.quality.test_checks import keep, record
for number in range(10**6):
    keep(Layout.at(sys.argv[1]).checks, record(number))
    print(number, flush=True)
"""


def test_a_kill_at_any_moment_is_followed_by_a_whole_folder(place: ChecksLayout) -> None:
    moments = random.Random(7)
    for _ in range(4):
        command = [sys.executable, "-c", WRITES, str(place.folder.parent)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(moments.uniform(0, 0.2))
            writer.send_signal(signal.SIGKILL)
        assert not examine(place).unreadable
        keep(place, record(10**6))
        assert is_whole(place)
    assert len(examine(place).records) <= KEPT_CHECKS


def test_a_record_is_plain_json(place: ChecksLayout) -> None:
    keep(place, record(0))
    value = json.loads(place.all_records[0].read_text(encoding="utf-8"))
    assert value["rules"][0]["name"] == "rows"
    assert value["great_expectations"] == {"success": True}
