"""The project of Great Expectations: figures of a batch, telemetry, locks and damage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from hmamba.errors import InputError, QualityError
from hmamba.quality import expectations
from hmamba.quality.expectations import Figure, broken_figures


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root") / "gx"


def test_a_rule_that_cannot_be_computed_is_not_bad_data(project: Path) -> None:
    from great_expectations import expectations as gxe

    frame = pd.DataFrame({"rows": [1.0]})
    with expectations.open_project(project) as opened:
        whole = expectations._frames(opened, "without").get_batch(batch_parameters={"dataframe": frame})
        result = whole.validate(gxe.ExpectColumnMaxToBeBetween(column="staleness_days", max_value=1))
    with pytest.raises(QualityError, match=r"could not be computed .*says nothing about the data"):
        expectations._rule(result)


def test_no_telemetry(project: Path) -> None:
    with expectations.open_project(project):
        pass
    settings = (project / "great_expectations.yml").read_text(encoding="utf-8")
    assert "analytics_enabled: false" in settings
    assert os.environ["GX_ANALYTICS_ENABLED"] == "false"


def test_a_damaged_project_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "gx").mkdir()
    (tmp_path / "gx" / "great_expectations.yml").write_text("config_version: [")
    with (
        pytest.raises(InputError, match=r"gx cannot be opened .*Delete it"),
        expectations.open_project(tmp_path / "gx"),
    ):
        pass


def test_two_processes_take_turns(project: Path) -> None:
    waiting = "import fcntl, sys; stream = open(sys.argv[1], 'w'); fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    command = [sys.executable, "-c", waiting, str(project / ".lock")]
    with expectations.open_project(project):
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert subprocess.run(command, check=False).returncode == 0


def test_bounds_are_inclusive_and_may_be_missing(project: Path) -> None:
    good = [Figure("a", 1, least=1), Figure("b", 2.5, most=2.5), Figure("c", 0, 0, 0), Figure("d", -7)]
    bad = [Figure("e", 0.999, least=1), Figure("f", 2.6, most=2.5), Figure("g", 9, 1, 8)]
    with expectations.open_project(project) as opened:
        assert broken_figures(opened, "figures", [*good, *bad], "a night") == bad
        assert broken_figures(opened, "figures", good, "another night") == []
    assert "another night" in expectations.data_docs(project).read_text(encoding="utf-8")


def test_a_figure_is_told_with_its_bounds() -> None:
    assert str(Figure("rows", 9, 1, 8)) == "rows is 9, allowed at least 1 and at most 8"
    assert str(Figure("share", 0.123456, most=0.1)) == "share is 0.1235, allowed at most 0.1"
