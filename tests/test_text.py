"""Numbers and texts as messages and pages show them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hmamba.text import (
    counted,
    escaped,
    for_log,
    listed,
    log_handler,
    metric_name,
    near,
    percent,
    printable,
    relative,
    sentence,
    short,
    signed,
)


def test_text_of_data_cannot_control_a_terminal_or_turn_a_line_around() -> None:
    assert printable("a\x1b[31mb\u202ec\u2066d\ufeff") == "a\ufffd[31mb\ufffdc\ufffdd\ufffd"
    assert printable("one\r\n\ttwo\u2028three") == "one two three"
    assert printable("naïve 日本 👍 a\u0301") == "naïve 日本 👍 a\u0301"


def test_text_of_data_in_a_log_is_seen_but_not_obeyed() -> None:
    assert escaped("a\x1b[31mb\u202ec\x9bd\r\n\u2028\udcff") == r"a\x1b[31mb\u202ec\x9bd\r\n\u2028\udcff"
    assert escaped("naïve 日本 👍 a\u0301") == "naïve 日本 👍 a\u0301"
    assert for_log("one\ntwo\r\n2024 three") == "one\n    two\\r\n    2024 three"


def test_a_log_line_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    log, handler = logging.getLogger("hmamba.test"), log_handler()
    log.addHandler(handler)
    log.propagate = False
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        log.warning("file %s", "a\n2024-01-01 00:00:00,000 all is well\x1b[31m", exc_info=True)
    first, second, *trace = capsys.readouterr().err.splitlines()
    assert first.endswith(" file a")
    assert second == r"    2024-01-01 00:00:00,000 all is well\x1b[31m"
    assert trace[-1] == r"    ValueError: \x1b[2J"


def test_names_are_listed_up_to_a_number() -> None:
    assert listed(["a", "b\n"], 2) == "'a', 'b '"
    assert listed([str(number) for number in range(2_000)], 2) == "'0', '1' and 1,998 more"
    assert len(listed(["x" * 10**6])) < 200


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
