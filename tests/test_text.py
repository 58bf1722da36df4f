"""Numbers and texts as messages and pages show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hmamba.text import counted, metric_name, near, percent, printable, relative, sentence, short, signed


def test_text_of_data_cannot_control_a_terminal_or_turn_a_line_around() -> None:
    assert printable("a\x1b[31mb\u202ec\u2066d\ufeff") == "a\ufffd[31mb\ufffdc\ufffdd\ufffd"
    assert printable("one\r\n\ttwo\u2028three") == "one two three"
    assert printable("naïve 日本 👍 a\u0301") == "naïve 日本 👍 a\u0301"


@pytest.mark.parametrize(("text", "expected"), [("abcd", "abcd"), ("abcde", "abc…"), ("", "")])
def test_long_text_is_cut_to_a_number_of_characters(text: str, expected: str) -> None:
    assert short(text, 4) == expected


@pytest.mark.parametrize(("number", "expected"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1200, "1,200 rows")])
def test_things_are_counted(number: int, expected: str) -> None:
    assert counted(number, "row") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.01234, "+0.0123"),
        (-0.5, "\N{MINUS SIGN}0.5000"),
        (0.00005, "+0.0001"),
        (0.00004, "+0.000040"),
        (-0.00004, "\N{MINUS SIGN}0.000040"),
        (-0.0000001, "0.0000"),
        (0.0, "0.0000"),
    ],
)
def test_a_difference_has_a_sign_and_is_not_rounded_to_zero(value: float, expected: str) -> None:
    assert signed(value) == expected


@pytest.mark.parametrize(
    ("value", "reference", "expected"),
    [
        (0.103, 0.1, "+3.0"),
        (0.09, 0.1, "\N{MINUS SIGN}10.0"),
        (0.1, 0.1, "0.0"),
        (0.004, 0.001, "+300.0"),
        (0.1, 0.02, None),  # four times as much more
        (0.002, 0.0009, None),  # of next to nothing
    ],
)
def test_a_relative_difference_is_left_out_where_it_misleads(
    value: float, reference: float, expected: str | None
) -> None:
    assert relative(value, reference) == ("" if expected is None else f"{expected}\N{NO-BREAK SPACE}%")


def test_no_difference_has_no_sign() -> None:
    assert percent(-0.0001) == percent(0.0) == "0.0\N{NO-BREAK SPACE}%"


def test_paths_are_relative_inside_the_working_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert near(tmp_path / "here" / "a" / "b") == "a/b"
    assert near(tmp_path / "there") == str(tmp_path / "there")


def test_metrics_are_written_as_in_papers() -> None:
    assert [metric_name(key) for key in ("ndcg@10", "hr@5", "recall@10")] == ["NDCG@10", "HR@5", "recall@10"]
    assert metric_name("coverage@10") == "coverage@10"
    assert sentence("ndcg@10 is lower than mrr@10..") == "NDCG@10 is lower than MRR@10."
    assert sentence(" ") == ""
