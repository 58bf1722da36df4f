"""Roots with unusual names: a whole night works in them, or they are refused before anything is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hmamba.candidates.lookup import example_user, recommend
from hmamba.doctor import diagnose
from hmamba.errors import ConfigError
from hmamba.storage.layout import Layout
from jobs import report
from jobs.cli import main
from tests.nights import FIRST, open_shop, run_night

SQL = Path(__file__).parents[2] / "sql"


@pytest.mark.parametrize(
    "name", ["user_id=5/item_id=7", "an old 'shop' \"1\"", "100% {a,b} $HOME #1 \\ ~ é☃", "-rf; &", "file:x"]
)
def test_a_whole_night_in_a_root_of_an_unusual_name(tmp_path: Path, name: str) -> None:
    layout = Layout.at(tmp_path / name)
    open_shop(layout)
    metrics = run_night(layout, FIRST, "one")
    assert metrics["publish"]["rows"] > 0
    assert report.main(["--root", str(layout.root), "--day", FIRST.isoformat(), "--run-id", "one"]) == 0
    user = example_user(layout)
    assert user is not None
    assert len(recommend(layout, user, 5, with_history=True).rows) == 5
    assert [check for check in diagnose(layout.root) if check.state == "missing"] == []
    assert [path.name for path in tmp_path.iterdir()] == [Path(name).parts[0]]


@pytest.mark.parametrize(
    ("name", "told"),
    [("a*b", r"has \*"), ("a?b", r"has \?"), ("a[1]", r"has \["), ("a\nb", "control"), ("a\x1bb", "control")],
)
def test_a_root_that_duckdb_would_not_find_again_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, told: str
) -> None:
    """DuckDB reads paths as patterns, and would read the files of other roots."""
    root = tmp_path / name / "shop"
    with pytest.raises(ConfigError, match=told):
        Layout.at(root)
    for command in (["init", str(root)], ["run", "--root", str(root), "--day", FIRST.isoformat()]):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert re.search(told, said)
        assert "\x1b" not in said
    assert any(re.search(told, check.found) for check in diagnose(root))
    assert list(tmp_path.iterdir()) == []


def test_no_statement_reads_columns_from_names_of_folders() -> None:
    """The columns of ``user_id=5/`` would replace those of the file."""
    calls = [call for path in SQL.glob("*.sql") for call in re.findall(r"read_parquet\([^)]*\)", path.read_text())]
    assert len(calls) > 10
    assert [call for call in calls if "hive_partitioning = false" not in call] == []
