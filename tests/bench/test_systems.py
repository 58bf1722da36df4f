"""Rows of the tables."""

from __future__ import annotations

from bench.systems import Row


def result(seed, **parts):
    return {"seed": seed, "measured": {"test": seed}, "parts": {name: {"test": value} for name, value in parts.items()}}


def test_a_part_is_averaged_over_the_seeds_that_have_it():
    """Whether a score term is kept depends on the seed."""
    row = Row("HMamba", [result(1), result(2, alone=20, both=21), result(3, both=31)], tuned=True)
    alone, both = row.parts()
    assert [each["measured"] for each in alone.results] == [{"test": 20}]
    assert alone.label == "HMamba: alone (tuned; 1 of 3 seeds; in the others the term was dropped)"
    assert [each["seed"] for each in both.results] == [2, 3]
    assert not both.whole


def test_parts_of_all_seeds_need_no_note():
    (part,) = Row("HMamba", [result(1, alone=10), result(2, alone=20)]).parts()
    assert part.label == "HMamba: alone"
    assert Row("HMamba", note="not run").parts() == []
