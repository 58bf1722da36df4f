"""What all commands share."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from hmamba import __version__
from hmamba.storage.layout import Layout
from jobs import ingest
from jobs.commands.table import COMMANDS
from tests.jobs.commands.call import call

REQUIRED = {
    "run": ("--day", "2024-01-30"),
    "refresh": ("--day", "2024-01-30"),
    "rollback": ("--to", "2024-01-30"),
    "deliver": (),
    "backtest": ("--from", "2024-01-30", "--to", "2024-01-30"),
    "accept": ("churn", "--day", "2024-01-30"),
    "recommend": ("u",),
    "explain": ("u", "i"),
    "compare": (),
    "history": (),
    "models": (),
    "check": (),
    "prune": (),
    "forget": ("u",),
    "backup": ("copy",),
}
"""Other arguments of the commands that need an existing root."""


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_help_teaches_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(command, "--help") == 0
    assert f"Example: hmamba {command} " in " ".join(capsys.readouterr().out.split())


def test_the_overview_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--help") == 0
    out = capsys.readouterr().out
    assert [command.name for command in COMMANDS if f"│ {command.name} " not in out] == []


@pytest.mark.parametrize("command", [*REQUIRED])
def test_a_root_that_is_not_there_is_told_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    missing = tmp_path / "my shop"
    arguments = (command, *REQUIRED[command], "--root", str(missing))
    assert call(*arguments) == 2
    told = capsys.readouterr().err
    assert f"--root {missing}: no such folder" in told
    advised = shlex.split(told.partition("start one with: ")[2])
    assert advised == ["hmamba", "init", str(missing), "--from", "FILES"]
    assert not missing.exists()
    missing.touch()
    assert call(*arguments) == 2
    assert f"--root {missing} is not a folder" in capsys.readouterr().err


def test_commands_without_such_a_root_are_few() -> None:
    assert {command.name for command in COMMANDS} - REQUIRED.keys() == {"init", "example", "doctor", "restore"}


@pytest.mark.parametrize("command", [*REQUIRED])
def test_the_root_may_come_from_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("HMAMBA_ROOT", str(tmp_path / "from the environment"))
    assert call(command, *REQUIRED[command]) == 2
    assert "from the environment: no such folder" in capsys.readouterr().err
    assert call(command, *REQUIRED[command], "--root", str(tmp_path / "given")) == 2
    assert "given: no such folder" in capsys.readouterr().err


def test_steps_and_doctor_read_the_root_from_the_environment(
    layout: Layout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.root.mkdir()
    monkeypatch.setenv("HMAMBA_ROOT", "")
    with pytest.raises(SystemExit):
        ingest.main(["--day", "2024-01-30"])
    assert "required: --root" in capsys.readouterr().err
    monkeypatch.setenv("HMAMBA_ROOT", str(layout.root))
    assert ingest.main(["--day", "2024-01-30"]) == 2
    assert layout.run(date(2024, 1, 30), "manual").failed
    assert call("doctor") == 0
    assert str(layout.root) in capsys.readouterr().out


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == f"hmamba-nightly {__version__}\n"


def test_the_shell_completes_commands_and_options() -> None:
    def completed(words: str, position: int) -> list[str]:
        asked = {"_HMAMBA_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
        command = [sys.executable, "-m", "jobs.cli"]
        result = subprocess.run(
            command, env={**os.environ, **asked}, capture_output=True, text=True, timeout=60, check=True
        )
        return result.stdout.split()

    assert completed("hmamba re", 1) == [command.name for command in COMMANDS if command.name.startswith("re")]
    assert completed("hmamba recommend --with", 2) == ["--with-history"]


def test_a_slip_of_the_pen_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("recomend", "u") == 2
    assert "recommend" in capsys.readouterr().err


def test_the_entry_point_is_installed() -> None:
    path = Path(sys.executable).with_name("hmamba")
    result = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0
    assert "recommend" in result.stdout
