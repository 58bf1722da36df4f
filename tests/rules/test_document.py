"""rules.toml is validated, and every error names the rule and has a cure that works."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hmamba.errors import ConfigError
from hmamba.rules import document


def parse(text: str) -> document.RuleBook:
    return document.parse(tomllib.loads(text), "rules.toml")


DENY = '[[deny]]\nname = "x"\n'


@pytest.mark.parametrize(
    ("wrong", "message", "cured"),
    [
        (
            "[[denied]]\nname = 'x'",
            "unknown kind of rule 'denied'. The kinds are deny, allow",
            "[[deny]]\nname = 'x'\nwhere = 'true'",
        ),
        (
            "[deny]\nname = 'x'\nwhere = 'true'",
            "deny is a list of rules: write [[deny]] in double brackets",
            "[[deny]]\nname = 'x'\nwhere = 'true'",
        ),
        ("[[deny]]\nwhere = 'true'", "[[deny]] number 1: name is missing. Add it", DENY + "where = 'true'"),
        (
            DENY,
            "[[deny]] 'x': names no items: add items, items_file, where, pairs_file or taken_within_days",
            DENY + "taken_within_days = 3",
        ),
        (DENY + "where = 'true'\nitems = ['a']", "[[deny]] 'x': has items and where: keep one", DENY + "items = ['a']"),
        (
            DENY + "where = 'true'\nusers = ['a']\nusers_where = 'true'",
            "has users and users_where: keep one",
            DENY + "where = 'true'\nusers = ['a']",
        ),
        (
            DENY + "pairs_file = 'a'\nusers = ['a']",
            "pairs_file names users and items: remove",
            DENY + "pairs_file = 'a'",
        ),
        (DENY + "items = 'a'", "[[deny]] 'x': items = 'a': give a list, such as", DENY + "items = ['a']"),
        (DENY + "items = []", "[[deny]] 'x': items", DENY + "items = ['a']"),
        ('[[deny]]\nname = "a\\nb"\nwhere = "true"', "has control characters: remove them", DENY + "where = 'true'"),
        (DENY + "where = ' '", "[[deny]] 'x': where = ' ': is empty", DENY + "where = 'true'"),
        (DENY + "where = 'true'\ntaken_within_days = 0", "taken_within_days = 0: ", DENY + "taken_within_days = 1"),
        (
            DENY + "where = 'true'\n[[cap]]\nname = 'x'\nby = 'y'\nmost = 1",
            "two rules are called 'x'",
            DENY + "where = 'true'\n[[cap]]\nname = 'y'\nby = 'y'\nmost = 1",
        ),
        (
            "[[cap]]\nname = 'x'\nby = 'y'",
            "[[cap]] 'x': most is missing. Add it",
            "[[cap]]\nname = 'x'\nby = 'y'\nmost = 0",
        ),
        (
            "[[available]]\nname = 'x'",
            "[[available]] 'x': names no times: add from or until",
            "[[available]]\nname = 'x'\nfrom = 'y'",
        ),
        (
            "[[available]]\nname = 'x'\nfrom = 'y'\nfile = 'z'",
            "file has the columns item_id, from and until",
            "[[available]]\nname = 'x'\nfile = 'z'",
        ),
        (
            "[[boost]]\nname = 'x'\nfactor = 2",
            "[[boost]] 'x': names no items",
            "[[boost]]\nname = 'x'\nfactor = 2\nhalf_life_days = 3",
        ),
        (
            "[[boost]]\nname = 'x'\nfactor = 2\nwhere = 'true'\nsince = 'y'",
            "add half_life_days",
            "[[boost]]\nname = 'x'\nfactor = 2\nwhere = 'true'",
        ),
        (
            "[[boost]]\nname = 'x'\nfactor = -1\nwhere = 'true'",
            "factor = -1: ",
            "[[boost]]\nname = 'x'\nfactor = 0.5\nwhere = 'true'",
        ),
        ("[diversity]\nlambda = 2", "[diversity]: lambda = 2: ", "[diversity]\nlambda = 1"),
        (
            "[diversity]\nlambda = 0.5\ntop = 10\npool = 5",
            "pool = 5 is below top = 10",
            "[diversity]\nlambda = 0.5\ntop = 5\npool = 5",
        ),
        (
            "[diversity]\nlambda = 0.5\nname = 'x'",
            "[diversity]: unknown key 'name'. The keys are lambda, on, top, pool",
            "[diversity]\nlambda = 0.5",
        ),
        (
            "[[pin]]\nname = 'x'\nitems = ['a']\nrank = 0",
            "[[pin]] 'x': rank = 0: ",
            "[[pin]]\nname = 'x'\nitems = ['a']",
        ),
        (
            "[[not_again]]\nname = 'x'",
            "[[not_again]] 'x': file is missing. Add it",
            "[[not_again]]\nname = 'x'\nfile = 'y'",
        ),
    ],
)
def test_an_error_names_the_rule_and_its_cure_works(wrong: str, message: str, cured: str) -> None:
    with pytest.raises(ConfigError, match=r"^rules\.toml: ") as caught:
        parse(wrong)
    assert message in str(caught.value)
    assert parse(cured)


def test_no_file_and_an_empty_file_are_no_rules(tmp_path: Path) -> None:
    assert not document.read(tmp_path / "rules.toml")
    (tmp_path / "rules.toml").write_text("# nothing yet\n")
    assert not document.read(tmp_path / "rules.toml")
    (tmp_path / "rules.toml").write_text("[diversity]\nlambda = 0.5\n")
    assert document.read(tmp_path / "rules.toml")


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("[[deny]\n")
    with pytest.raises(ConfigError, match="is not TOML"):
        document.read(tmp_path / "rules.toml")


def test_a_book_survives_its_copy() -> None:
    book = parse('[[available]]\nname = "x"\nfrom = "items.a"\n[diversity]\nlambda = 0.5\n')
    assert document.parse(book.model_dump(mode="json", by_alias=True, exclude_none=True), "copy") == book
    assert book.digest != parse("[diversity]\nlambda = 0.5\n").digest
    assert list(book.described()) == [("available", "x"), ("diversity", "diversity")]
