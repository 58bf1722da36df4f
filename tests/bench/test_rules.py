"""The bench of rules: a shop for which its rules are valid, and a table of two nights."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from bench import rules
from bench.scale.steps import Done
from bench.speed.rules import RULES
from hmamba.config import load
from hmamba.rules.trial import try_rules
from hmamba.storage.layout import Layout


def test_the_rules_fit_the_shop(tmp_path: Path) -> None:
    rules.write_shop(tmp_path / "shop", 50, RULES)
    layout = Layout.at(tmp_path / "shop")
    assert try_rules(layout, load(None, layout), rules.DAY).rules == 5
    assert date(2024, 1, 1) < rules.DAY


def test_the_table_sums_both_nights() -> None:
    def night(seconds: float) -> dict[str, Done]:
        effects = {"short_users": 1, "deepened": 2}
        return {name: Done({"effects": effects}, seconds, 0.0) for name in rules.STEPS}

    text = rules.report(night(1.0), night(1.5), 50)
    assert "| **in all** | **8.0** | **12.0** |" in text
    assert "takes 1.50 times the processor time" in text
