"""A further storage is one class and its line in the registry: objects in a dictionary, with local copies."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from hmamba.candidates.publish import publish
from hmamba.config import Config
from hmamba.contracts.models import ModelMetrics
from hmamba.contracts.step import StepFailure
from hmamba.contracts.steps import IngestMetrics
from hmamba.contracts.verdict import read_serving
from hmamba.errors import BusyError, ConfigError
from hmamba.models import files as model_files
from hmamba.models import promotions
from hmamba.report.gather import gather
from hmamba.storage import local
from hmamba.storage.base import Storage
from hmamba.storage.layout import Layout
from hmamba.storage.local import LocalStorage
from hmamba.storage.locks import WAIT_SECONDS, alone
from hmamba.storage.registry import STORAGES, open_storage
from hmamba.upkeep.prune import prune
from hmamba.upkeep.rollback import roll_back, to_day
from jobs.step import StepContext, record_failure
from tests.landing import DAY
from tests.report.metrics_of_night import VERSION, ingest_metrics, verdict
from tests.scored import write_run
from tests.synthetic import make_interactions


@dataclass(frozen=True)
class Objects:
    """Objects by their key; a pointer holds the key that it leads to. Copies lie under ``root``."""

    root: Path
    held: dict[str, bytes]

    def _key(self, place: Path) -> str:
        return place.relative_to(self.root).as_posix()

    def exists(self, place: Path) -> bool:
        key = self._key(place)
        return any(name == key or name.startswith(f"{key}/") for name in self.held)

    def find(self, folder: Path, pattern: str) -> list[Path]:
        places = {self.root / name for name in self.held}
        places |= {parent for place in places for parent in place.parents}
        inside = [place for place in places if folder in place.parents]
        depth = len(Path(pattern).parts)
        return sorted(
            place
            for place in inside
            if len(place.relative_to(folder).parts) == depth and place.relative_to(folder).match(pattern)
        )

    def local_path(self, place: Path) -> Path:
        key = self._key(place)
        for name, content in self.held.items():
            if name == key or name.startswith(f"{key}/"):
                copy = self.root / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(self.held.get(content.decode("latin-1"), content))
        return place

    def digest(self, place: Path, /) -> str:
        return local.sha256(self.local_path(place))

    @contextmanager
    def write_file(self, place: Path, /) -> Iterator[Path]:
        with local.atomic_file(place) as path:
            yield path
        self.held[self._key(place)] = place.read_bytes()

    @contextmanager
    def write_folder(self, place: Path, /) -> Iterator[Path]:
        with local.atomic_folder(place) as folder:
            yield folder
        old = [name for name in self.held if name.startswith(f"{self._key(place)}/")]
        new = {self._key(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for name in old:
            del self.held[name]
        self.held.update(new)

    def point(self, pointer: Path, target: Path) -> None:
        self.held[self._key(pointer)] = self._key(target).encode("latin-1")
        self.local_path(pointer)

    def move(self, place: Path, target: Path) -> None:
        start, end = self._key(place), self._key(target)
        for name in [name for name in self.held if name == start or name.startswith(f"{start}/")]:
            self.held[end + name.removeprefix(start)] = self.held.pop(name)
        shutil.move(place, target)

    def delete(self, place: Path) -> None:
        key = self._key(place)
        for name in [name for name in self.held if name == key or name.startswith(f"{key}/")]:
            del self.held[name]
        LocalStorage(self.root).delete(place)

    def lock(
        self, folder: Path, name: str = ".lock", wait_seconds: float = WAIT_SECONDS, *, shared: bool = False
    ) -> AbstractContextManager[None]:
        return alone(folder, name, wait_seconds, shared=shared)


@pytest.fixture(params=["", "objects://"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    held: dict[str, bytes] = {}
    monkeypatch.setitem(STORAGES, "objects", lambda root: Objects(tmp_path / root.removeprefix("objects://"), held))
    return open_storage(f"{request.param}{'bucket' if request.param else tmp_path}")


class TestEveryStorage:
    """What holds of each: the local folder, and the toy."""

    def test_a_file_is_there_when_it_is_whole(self, storage: Storage) -> None:
        place = storage.root / "a" / "b.txt"
        with suppress(ValueError), storage.write_file(place) as path:
            path.write_text("half")
            raise ValueError("stop")
        assert not storage.exists(place)
        with storage.write_file(place) as path:
            path.write_text("abc")
        assert storage.exists(place)
        assert storage.local_path(place).read_text() == "abc"
        assert storage.digest(place) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

    def test_a_folder_replaces_the_one_before_as_a_whole(self, storage: Storage) -> None:
        place = storage.root / "night"
        for names in (["a", "b"], ["b", "c"]):
            with storage.write_folder(place) as folder:
                for name in names:
                    (folder / name).write_text(name)
        with suppress(ValueError), storage.write_folder(place) as folder:
            (folder / "d").touch()
            raise ValueError("stop")
        assert [path.name for path in storage.find(place, "*")] == ["b", "c"]
        assert storage.find(storage.root / "nowhere", "*") == []
        assert storage.find(storage.root, "*/b") == [place / "b"]

    def test_a_pointer_leads_on(self, storage: Storage) -> None:
        pointer = storage.root / "latest"
        for name in ("one", "two"):
            with storage.write_folder(storage.root / name) as folder:
                (folder / "manifest").write_text(name)
            storage.point(pointer, storage.root / name / "manifest")
            assert storage.local_path(pointer).read_text() == name
        storage.delete(pointer)
        assert not storage.exists(pointer)
        assert storage.exists(storage.root / "two" / "manifest")

    def test_what_is_moved_or_deleted_is_gone(self, storage: Storage) -> None:
        with storage.write_folder(storage.root / "one") as folder:
            (folder / "a").write_text("1")
        storage.move(storage.root / "one", storage.root / "aside" / "one")
        assert not storage.exists(storage.root / "one")
        assert storage.local_path(storage.root / "aside" / "one" / "a").read_text() == "1"
        storage.delete(storage.root / "aside")
        storage.delete(storage.root / "aside")
        assert not storage.exists(storage.root / "aside" / "one" / "a")

    def test_a_lock_keeps_others_out(self, storage: Storage) -> None:
        again = pytest.raises(BusyError, match="is locked by process")
        with storage.lock(storage.root), again, storage.lock(storage.root, wait_seconds=0):
            pass


def test_a_table_is_published_taken_back_and_pruned_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: dict[str, bytes] = {}
    monkeypatch.setitem(STORAGES, "objects", lambda root: Objects(tmp_path / root.removeprefix("objects://"), held))
    layout = Layout.at("objects://bucket")
    write_run(layout, make_interactions(), DAY)
    config = Config.model_validate({"candidates": {"k": 10, "exclude_seen": True}})
    assert publish(layout, DAY, "manual", config).changed
    assert not publish(layout, DAY, "manual", config).changed
    manifest = json.loads(layout.storage.local_path(layout.latest).read_text())
    assert {name for name in held if name.startswith("candidates/")} == {
        "candidates/latest.json",
        f"candidates/run_date={DAY}/_manifest.json",
        *(file["path"] for file in manifest["files"]),
    }
    shutil.rmtree(layout.candidates)  # the copies are only copies
    assert [layout.storage.digest(part) for part in layout.published_parts(DAY)] == [
        file["sha256"] for file in manifest["files"]
    ]
    layout.config.touch()
    assert prune(layout, Config(), DAY).doomed == []
    assert any(line.endswith("deleted") for line in roll_back(layout, to_day(layout, DAY.replace(day=1)), delete=True))
    assert not any(name.startswith("candidates/") for name in held)


def test_documents_are_kept_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: dict[str, bytes] = {}
    monkeypatch.setitem(STORAGES, "objects", lambda root: Objects(tmp_path / root.removeprefix("objects://"), held))
    layout = Layout.at("objects://bucket")
    run = layout.run(DAY, "manual")
    context = StepContext(layout, DAY, "manual", Config(), argparse.Namespace(), "ingest")
    recorded = context.record(ingest_metrics(), time.monotonic())
    record_failure(run, "train", None, "no space is left", 1, 2.0)
    promotions.record_decision(layout, DAY, VERSION)
    ModelMetrics(training=None).write(layout.model_metrics(VERSION), layout.storage)
    model_files.record_verdict(layout, VERSION, verdict())
    verdict().write(run.verdict, run.storage)
    shutil.rmtree(layout.root)  # the copies are only copies
    assert IngestMetrics.read(run.step_metrics("ingest"), run.storage) == recorded
    assert promotions.champion_before(layout, DAY + timedelta(days=1)) == VERSION
    assert model_files.read_metrics(layout, VERSION).gate == verdict()
    shutil.rmtree(layout.root)
    assert read_serving(run) == VERSION
    stopped = gather(layout, DAY, "manual").stopped
    assert stopped is not None
    assert stopped.failure == StepFailure.read(run.step_failure("train"), run.storage)


@pytest.mark.parametrize("root", ["file://{}", "{}"])
def test_a_local_folder_has_a_path_or_a_uri(tmp_path: Path, root: str) -> None:
    assert open_storage(root.format(tmp_path / "a b")) == LocalStorage(tmp_path / "a b")
    assert open_storage(f"file://{tmp_path}/a%20b") == LocalStorage(tmp_path / "a b")


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--root s3://bucket: only a local folder is supported in this version\."):
        open_storage("s3://bucket")
