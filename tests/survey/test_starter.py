"""A proposal as the text of hmamba.toml."""

from __future__ import annotations

import tomllib
from datetime import datetime
from pathlib import Path

import pytest

from hmamba.config import parse
from hmamba.storage.layout import Layout
from hmamba.survey.starter import shown, toml
from tests.survey import exports
from tests.survey.proposals import proposed, table, write


class TestText:
    def test_every_value_has_a_comment_and_is_what_is_proposed(self, layout: Layout, tmp_path: Path) -> None:
        proposal = proposed(layout, exports.movielens(tmp_path / "ml"))
        text = toml(proposal)
        assert tomllib.loads(text) == {**proposal.values(), "events": {}}
        lines = text.splitlines()
        values = [number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")]
        assert all(lines[number - 1].startswith("# ") for number in values)
        assert max(map(len, lines)) <= 120
        assert "# min_weight_as_target = 4" in lines

    def test_the_line_about_ratings_can_be_uncommented(self, layout: Layout, tmp_path: Path) -> None:
        text = toml(proposed(layout, exports.movielens(tmp_path / "ml")))
        config = parse(tomllib.loads(text.replace("# min_weight", "min_weight")), "x")
        assert config.events.min_weight_as_target == 4

    def test_names_with_toml_syntax_are_escaped(self, layout: Layout, tmp_path: Path) -> None:
        events = ['a "b"\n[model]\ndim = 3', "view", "purchase"]
        path = write(tmp_path / "in", table(event=events))
        proposal = proposed(layout, path)
        assert tomllib.loads(toml(proposal)) == proposal.values()
        assert set(proposal.config().events.types) == set(events)


@pytest.mark.parametrize(
    "value",
    [
        True,
        3,
        0.5,
        "a \"b\" \\ 'c'\n\t\x00\x1f\x7f é 🛒",
        ["a", "b"],
        datetime(1989, 1, 1),
        datetime(2024, 5, 31, 18, 30),
    ],
)
def test_values_are_read_again_as_they_were(value: object) -> None:
    assert tomllib.loads(f"value = {shown(value)}") == {"value": value}
