"""Which terms ``model.score_terms`` selects."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hmamba.score_terms import SCORE_TERMS, automatic, chosen


def test_all_terms_can_be_chosen_and_loaded() -> None:
    assert [term.load().__name__ for term in SCORE_TERMS.values()] == ["Repeats", "Cooccurrence", "Attributes"]


def test_the_automatic_terms_fit_what_may_be_recommended() -> None:
    assert automatic(False) == ("repeats", "cooccurrence", "attributes")
    assert automatic(True) == ("cooccurrence", "attributes")


@pytest.mark.parametrize(
    ("names", "learned", "counted"),
    [(["attributes", "repeats", "cooccurrence"], ("repeats",), ("cooccurrence", "attributes")), ([], (), ())],
)
def test_a_term_is_learned_or_counted(names: list[str], learned: tuple[str, ...], counted: tuple[str, ...]) -> None:
    assert chosen(names, learned=True) == learned
    assert chosen(names, learned=False) == counted


def test_settings_are_checked_without_numpy_and_pytorch() -> None:
    code = "import sys, hmamba.score_terms; print({'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
