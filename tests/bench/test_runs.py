"""The runs behind the published tables are packed and unpacked as they were."""

from __future__ import annotations

import pytest

from bench import runs
from bench.runs import FILE, pack, read, unpack
from bench.store import Store, key_of

RUNS = [{"value": value, "identity": {"system": "x", "seed": value}} for value in (0.1, 1 / 3, 7)]


def test_runs_are_unpacked_as_they_were_kept(tmp_path):
    first, again, file = Store(tmp_path / "first"), Store(tmp_path / "again"), tmp_path / "runs.jsonl.xz"
    assert read(file) == []
    for run in RUNS[:2]:
        first.keep(run["identity"], run)
    assert pack(first, file) == unpack(again, read(file)) == 2
    kept = {path.name: path.read_bytes() for path in (tmp_path / "first" / "finished").iterdir()}
    assert kept == {path.name: path.read_bytes() for path in (tmp_path / "again" / "finished").iterdir()}
    assert again.find(RUNS[1]["identity"], to_run=True) == RUNS[1]


def test_packing_adds_and_replaces(tmp_path):
    store, file = Store(tmp_path), tmp_path / "runs.jsonl.xz"
    store.keep(RUNS[0]["identity"], RUNS[0])
    assert pack(store, file) == 1
    bytes_of_one = file.read_bytes()
    assert pack(store, file) == 1
    assert file.read_bytes() == bytes_of_one
    other = Store(tmp_path / "other")
    other.keep(RUNS[0]["identity"], {**RUNS[0], "value": 8})
    other.keep(RUNS[2]["identity"], RUNS[2])
    assert pack(other, file) == 2
    assert {run["value"] for run in read(file)} == {8, 7}


def test_the_command_unpacks_what_is_published(tmp_path, capsys):
    runs.main(["unpack", "--work", str(tmp_path)])
    published = read()
    assert capsys.readouterr().out == f"{len(published)} runs\n"
    assert {path.stem for path in (tmp_path / "finished").iterdir()} == {key_of(run["identity"]) for run in published}


@pytest.mark.parametrize("run", read(), ids=lambda run: f"{run['system']}-{key_of(run['identity'])}")
def test_every_published_run_says_where_it_comes_from(run):
    assert {"system", "seed", "settings", "commit", "date", "machine", "measured", "identity"} <= set(run)


def test_tables_and_runs_name_the_same_commits():
    tables = "".join(path.read_text(encoding="utf-8") for path in FILE.parent.glob("a*.md"))
    assert [run["commit"] for run in read() if run["commit"] not in tables] == []
