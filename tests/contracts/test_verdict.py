"""Who serves a night, according to its verdict."""

from __future__ import annotations

from datetime import date

import pytest

from hmamba.contracts.verdict import read_serving
from hmamba.errors import InputError
from hmamba.storage.layout import Layout
from tests.documents import verdict


def test_nobody_serving_is_said(tmp_path):
    run = Layout.at(tmp_path).run(date(2024, 1, 1), "manual")
    verdict(serving=None, reason="too weak").write(run.verdict)
    with pytest.raises(InputError, match="too weak"):
        read_serving(run)


@pytest.mark.parametrize(
    ("serving", "baseline"),
    [("20240201-0123", None), ("baseline-popularity", "popularity"), (None, None), ("old-baseline-x", None)],
)
def test_a_baseline_serves_under_a_name_of_its_own(tmp_path, serving, baseline):
    run = Layout.at(tmp_path).run(date(2024, 1, 1), "manual")
    found = verdict(serving=serving)
    found.write(run.verdict)
    assert found.baseline == baseline
    if serving is not None:
        assert read_serving(run) == serving


def test_a_gate_that_has_not_run_is_named(tmp_path):
    with pytest.raises(InputError, match=r"verdict\.json does not exist\. Run the gate step again"):
        read_serving(Layout.at(tmp_path).run(date(2024, 1, 1), "manual"))
