from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from hmamba.errors import ConfigError
from hmamba.storage import layout as layouts
from hmamba.storage.layout import Layout

DAY = date(2024, 1, 2)


def test_everything_lies_under_the_root(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    run = layout.run(DAY, "scheduled__2024-01-02T00.00.00+00.00")
    paths = [
        layout.landing,
        layout.config,
        layout.warehouse,
        layout.checks.index,
        layout.champion,
        layout.model("v1"),
        layout.latest,
        layout.published(DAY),
        layout.report(DAY),
        run.sequences,
        run.training,
        run.verdict,
        run.vectors,
        run.index,
        run.candidates,
        run.candidate_part(0),
        run.candidate_part(1),
        run.user_points(0),
        run.table("segments"),
        run.table("segments", 0),
        layout.published_table(layout.published(DAY), "segments"),
        run.metrics,
        run.step_metrics("score"),
        run.step_metrics("score", 0),
        run.step_failure("score"),
        run.step_failure("score", 0),
    ]
    assert all(path.is_relative_to(tmp_path) for path in paths)
    assert len(set(paths)) == len(paths)
    assert layout.published(DAY).name == "run_date=2024-01-02"
    assert run.folder.relative_to(tmp_path).parts[:2] == ("runs", "2024-01-02")


def test_published_parts_are_in_the_order_of_their_shards(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    assert layout.published_parts(DAY) == []
    names = [layout.run(DAY, "a").candidate_part(shard).name for shard in (4095, 10, 9, 0)]
    for name in (*names, "_manifest.json"):
        path = layout.published(DAY) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [path.name for path in layout.published_parts(DAY)] == names[::-1]


def test_relative_roots_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Layout.at("demo").root == tmp_path / "demo"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Layout.at("~/demo").root == tmp_path / "demo"


def test_a_uri_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--root s3://bucket: only a local folder"):
        Layout.at("s3://bucket")


@pytest.mark.parametrize("run_id", ["", ".", "..", "../up", "a/b", "-rf", "a b", "x" * 129, "a\n"])
def test_a_run_id_that_cannot_be_a_folder_is_refused(tmp_path: Path, run_id: str) -> None:
    with pytest.raises(ConfigError, match="--run-id"):
        Layout.at(tmp_path).run(DAY, run_id)


def test_no_other_module_builds_these_paths() -> None:
    """Names of what lies under a root stand in the layouts alone."""
    package = Path(layouts.__file__).parents[1]
    own = list(Path(layouts.__file__).parent.glob("*layout.py"))
    text = "".join(path.read_text(encoding="utf-8") for path in own)
    names = set(re.findall(r'(?:/ f?|Under\((?:"\w+", )?)"([^"{]+)', text))
    assert {"runs", "verdict.json", "part-", "champion.json"} <= names
    found = {
        (path.relative_to(package.parent).as_posix(), name)
        for folder in (package, package.parent / "jobs")
        for path in folder.rglob("*.py")
        if path not in own
        for name in re.findall(r'/ f?"([^"{]+)', path.read_text(encoding="utf-8"))
        if name in names
    }
    assert found == set()
