"""Figures in Great Expectations: bounds, errors, and nothing left on disk or sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from hmamba.errors import QualityError
from hmamba.quality import expectations
from hmamba.quality.expectations import RULE, Figure, validated


def test_a_rule_that_cannot_be_computed_is_not_bad_data() -> None:
    from great_expectations import expectations as gxe

    frame = pd.DataFrame({"rows": [1.0]})
    whole = expectations._batch_definition("without").get_batch(batch_parameters={"dataframe": frame})
    result = whole.validate(gxe.ExpectColumnMaxToBeBetween(column="staleness_days", max_value=1))
    with pytest.raises(QualityError, match=r"could not be computed .*says nothing about the data"):
        expectations._rule(result)


def test_bounds_are_inclusive_and_may_be_missing() -> None:
    good = [Figure("a", 1, least=1), Figure("b", 2.5, most=2.5), Figure("c", 0, 0, 0), Figure("d", -7)]
    bad = [Figure("e", 0.999, least=1), Figure("f", 2.6, most=2.5), Figure("g", 9, 1, 8)]
    assert validated("candidates", [*good, *bad]).failed == {"e", "f", "g"}
    result = validated("candidates", good)
    assert result.failed == frozenset()
    assert [found["expectation_config"]["meta"][RULE] for found in result.result["results"]] == ["a", "b", "c", "d"]


def test_a_warning_is_an_expectation_of_its_own_that_breaks_no_rule() -> None:
    figures = [Figure("a", 0.5, most=0.6, warn_most=0.4), Figure("b", 0.5, warn_least=0.6), Figure("c", 0.5, most=0.4)]
    found = validated("candidates", figures)
    assert (found.failed, found.warned) == ({"c"}, {"a", "b"})
    severities = [one["expectation_config"]["severity"] for one in found.result["results"] if not one["success"]]
    assert sorted(severities) == ["critical", "warning", "warning"]
    assert validated("candidates", [Figure("a", 0.4, most=0.6, warn_most=0.4)]).warned == frozenset()


def test_the_library_writes_no_file_and_sends_nothing(tmp_path: Path) -> None:
    code = (
        "import socket, sys; socket.socket.connect = lambda *_: sys.exit('connects')\n"
        "from hmamba.quality.expectations import Figure, validated\n"
        "assert validated('candidates', [Figure('rows', 1, least=2)]).failed == {'rows'}\n"
        "import os; assert os.environ['GX_ANALYTICS_ENABLED'] == 'false'\n"
    )
    folder = tmp_path / "home"
    folder.mkdir()
    environment = {**os.environ, "HOME": str(folder), "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, env=environment)
    assert list(folder.iterdir()) == []


def test_a_figure_is_told_with_its_bounds() -> None:
    assert str(Figure("rows", 9, 1, 8)) == "rows is 9, allowed at least 1 and at most 8"
    assert str(Figure("share", 0.123456, most=0.1)) == "share is 0.1235, allowed at most 0.1"


def test_a_broken_figure_names_the_setting_of_the_bound_that_it_breaks() -> None:
    both = {"least_setting": "quality.low", "most_setting": "quality.high"}
    assert Figure("ratio", 0.5, 1, 2, **both).broken_setting == "quality.low"
    assert Figure("ratio", 2.5, 1, 2, **both).broken_setting == "quality.high"
    assert Figure("ratio", 2.5, 1, 2, **both).settings == ("quality.low", "quality.high")
    assert (Figure("rows", 0, least=1).broken_setting, Figure("rows", 0).settings) == (None, ())
