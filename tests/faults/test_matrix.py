"""A sample of the fault matrix: the faults that once were silent, and some of every kind."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.damage import HOW, damage, kind_of, targets
from tests.faults.named import NAMED


def test_named_faults_and_a_sample_are_survived() -> None:
    # In a process of its own: the matrix forks, and a process with pytest's threads should not.
    command = [sys.executable, "-m", "tests.faults", "--cases", str(len(NAMED) + 26), "--workers", "1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert result.returncode == 0, result.stderr[-8000:]
    assert f"{len(NAMED) + 26} cases" in result.stdout
    for name in NAMED:
        end = "unharmed" if name == "a part swapped while it is published" else "refused"
        assert f"| {name} | {NAMED[name][0].partition('-')[0]} | {end} |" in result.stdout


@pytest.mark.parametrize("how", HOW)
def test_damage_changes_just_this_file(tmp_path: Path, how: str) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(name)
    damage(tmp_path, Path("a.json"), how, random.Random(0))
    assert (tmp_path / "b.json").read_text() == "b.json"
    path = tmp_path / "a.json"
    assert not path.is_file() or path.read_text(errors="replace") != "a.json"


def test_what_belongs_to_the_source_and_the_user_is_not_damaged(tmp_path: Path) -> None:
    for name in ("landing/a.csv", "hmamba.toml", "models/20240101-0123abcd/config.json", "reports/x/index.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    assert [kind_of(path) for path in targets(tmp_path)] == ["models/VERSION/config.json"]
