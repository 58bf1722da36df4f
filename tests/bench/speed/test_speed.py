"""The measurements of speed: they check before they time, and say what they saw."""

from __future__ import annotations

import pytest

from bench.speed import __main__ as speed
from bench.speed import encode, search
from bench.speed.rounds import Figure, check, in_turns
from hmamba.errors import HMambaError


def test_rounds_are_taken_in_turns_after_one_that_does_not_count():
    calls: list[str] = []
    seconds, spread = in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert set(seconds) == set(spread) == {"a", "b"}
    assert all(value >= 1 for value in spread.values())


def test_what_is_wrong_is_not_timed():
    with pytest.raises(HMambaError, match="not timed, because the result is wrong: they differ"):
        check(False, "they differ")


def test_the_ratio_is_the_peers_time_by_ours():
    figure = Figure("x", "mine", "theirs", (10, "users"), {"mine": 2.0, "theirs": 5.0}, {"mine": 1, "theirs": 1}, 2.0)
    assert figure.ratio == 2.5
    assert "| x | **2.50** | 2.00 | theirs | users a second: mine: 5 (rounds 1.00); theirs: 2 (rounds 1.00) |" in (
        speed.report([figure], "python -m bench.speed")
    )


def test_both_parts_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(encode, "TARGETS", {5: None, 40: 3.0})
    monkeypatch.setattr(search, "_SEEN", 50)
    assert speed.main(["--quick", "--out", str(tmp_path)]) == 0
    (written,) = tmp_path.iterdir()
    assert written.read_text() == capsys.readouterr().out.removesuffix("\n")
    assert written.read_text().count("**") == 2 * 5


def test_a_part_that_does_not_exist(caplog):
    assert speed.main(["--only", "sleep"]) == 2
    assert "choose among encode, search" in caplog.text
