"""The arguments of the score step. What it writes is in test_nights.py and tests/candidates/test_score.py."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

import pytest

from hmamba.config import parse
from hmamba.sequences.histories import midnight
from hmamba.storage.layout import Layout
from jobs import score
from jobs.step import StepContext
from tests.landing import Root


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--shard"),
        (["--shard", "0", "--shards", "0-1"], "not allowed with"),
        (["--shards", "3-1"], "'3-1' is not a range of shards such as 0-9"),
        (["--shards", "3"], "'3' is not a range"),
        (["--shards", "-1-2"], "expected one argument"),
        (["--shard", "one"], "invalid int value"),
    ],
)
def test_a_wrong_choice_of_shards_is_explained(
    root: Root, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        score.main(["--root", str(root.layout.root), "--day", "2024-01-30", *arguments])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("text", "shards"), [("0-0", [0]), ("2-4", [2, 3, 4]), ("09-10", [9, 10])])
def test_a_range_holds_both_ends(text: str, shards: list[int]) -> None:
    assert list(score._range(text)) == shards


@pytest.mark.parametrize(("columns", "asked"), [({}, midnight(date(2024, 3, 1))), ({"position": "position"}, None)])
def test_a_night_recommends_for_the_day_after(tmp_path: Path, columns: dict[str, str], asked: int | None) -> None:
    config = parse({"source": {"columns": columns}}, "here")
    context = StepContext(Layout.at(str(tmp_path)), date(2024, 2, 29), "r", config, argparse.Namespace(), "score")
    assert score.asked(context) == asked
