"""Beginning from the command line."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hmamba.config import Config, parse
from hmamba.storage.layout import Layout
from tests.jobs.commands.call import call


class TestDoctor:
    def test_a_good_machine(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("doctor", "--root", str(tmp_path)) == 0
        out = capsys.readouterr().out
        assert "✓ duckdb" in out
        assert "Everything that the nights need is here." in out

    def test_something_missing_is_a_status(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "hmamba.toml").write_text("colour = 1\n", encoding="utf-8")
        assert call("doctor", "--root", str(tmp_path)) == 1
        assert "✗ configuration" in capsys.readouterr().out


class TestInit:
    def test_a_root_to_start_from(self, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("init", str(layout.root)) == 0
        assert (layout.landing / "interactions").is_dir()
        assert parse(tomllib.loads(layout.config.read_text(encoding="utf-8")), "x") == Config()
        out = capsys.readouterr().out
        assert f"hmamba doctor --root {layout.root}" in out
        assert "user user_id, item item_id" in out

    def test_a_named_configuration_is_copied_with_its_comments(self, layout: Layout) -> None:
        assert call("init", str(layout.root), "--config", "complete_journey") == 0
        text = layout.config.read_text(encoding="utf-8")
        assert text.startswith("#")
        assert parse(tomllib.loads(text), "x").source.columns.user_id == "household_id"

    def test_nothing_is_overwritten(self, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        layout.root.mkdir()
        layout.config.write_text("[candidates]\nk = 3\n", encoding="utf-8")
        assert call("init", str(layout.root)) == 2
        assert "already exists" in capsys.readouterr().err
        assert layout.config.read_text(encoding="utf-8") == "[candidates]\nk = 3\n"

    def test_an_unknown_name_leaves_no_folder(self, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("init", str(layout.root), "--config", "books") == 2
        assert "Choose one of complete_journey, films" in capsys.readouterr().err
        assert not layout.root.exists()

    def test_a_file_cannot_be_a_root(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "file").write_text("", encoding="utf-8")
        assert call("init", str(tmp_path / "file")) == 2
        assert "is not a folder" in capsys.readouterr().err
