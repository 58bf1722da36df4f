"""Which terms a value of ``model.score_term`` selects."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hmamba.score_terms import SCORE_TERMS, automatic, choices, chosen


def test_all_terms_can_be_chosen_and_loaded() -> None:
    assert choices() == ["auto", "repeats", "cooccurrence", "none"]
    assert [term.load().__name__ for term in SCORE_TERMS.values()] == ["Repeats", "Cooccurrence"]


def test_the_automatic_term_fits_what_may_be_recommended() -> None:
    for exclude_seen in (True, False):
        term = SCORE_TERMS[automatic(exclude_seen)]
        assert term.exclude_seen is exclude_seen
    assert [automatic(exclude_seen) for exclude_seen in (False, True)] == ["repeats", "cooccurrence"]


def test_without_a_term_for_it_the_automatic_choice_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(SCORE_TERMS, "repeats")
    assert automatic(False) == "none"


@pytest.mark.parametrize(
    ("choice", "learned", "counted"),
    [("repeats", ("repeats",), ()), ("cooccurrence", (), ("cooccurrence",)), ("none", (), ())],
)
def test_a_term_is_learned_or_counted(choice: str, learned: tuple[str, ...], counted: tuple[str, ...]) -> None:
    assert chosen(choice, learned=True) == learned
    assert chosen(choice, learned=False) == counted


def test_settings_are_checked_without_numpy_and_pytorch() -> None:
    code = "import sys, hmamba.score_terms; print({'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
