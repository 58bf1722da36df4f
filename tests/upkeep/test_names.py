"""Ids of users in texts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from markupsafe import escape

from hmamba.contracts.step import StepFailure
from hmamba.quality.row_rules import shown
from hmamba.upkeep.names import Names


@pytest.mark.parametrize(
    ("user", "text", "left"),
    [
        (
            "user-003",
            "user-003, user-0031, xuser-003 and (user-003)",
            "(forgotten), user-0031, xuser-003 and ((forgotten))",
        ),
        (
            "12",
            "12 of 120 rows, user '12', \"12\", &#39;12&#39;",
            "12 of 120 rows, user '(forgotten)', \"(forgotten)\", &#39;(forgotten)&#39;",
        ),
        ("a<b", "'a&lt;b' and 'a<b'", "'(forgotten)' and '(forgotten)'"),
        ("O'Brien", "&#34;O&#39;Brien&#34;", "&#34;(forgotten)&#34;"),
        ("1234567", "1234567 rows", "(forgotten) rows"),
    ],
)
def test_ids_in_texts(user: str, text: str, left: str) -> None:
    assert Names([user]).removed(text) == left


@pytest.mark.parametrize("user", ["Jürgen", "O'Brien", 'a "b"', "back\\slash", "<main>"])
def test_any_id_is_found_in_pages_and_documents(tmp_path: Path, user: str) -> None:
    page, document = tmp_path / "a.html", tmp_path / "a.json"
    page.write_text(f"<p>{escape(shown(user))}</p>", encoding="utf-8")
    StepFailure(step="ingest", shard=None, message=shown(user), exit_status=3, seconds=1.0).write(document)
    names = Names([user])
    assert names.are_in(page)
    assert names.are_in(document)
    assert names.rewritten(page) in ("<p>&#39;(forgotten)&#39;</p>", "<p>(forgotten)</p>")
    document.write_text(names.rewritten(document))
    assert StepFailure.read(document).message == "'(forgotten)'"


def test_an_id_that_is_a_word_of_documents_and_pages_does_not_break_them(tmp_path: Path) -> None:
    page, document = tmp_path / "a.html", tmp_path / "a.json"
    page.write_text('<style>\nmain { margin: 0 }\n</style><main class="ingest">ingest and main</main>')
    StepFailure(step="ingest", shard=None, message="user ingest", exit_status=3, seconds=1.0).write(document)
    names = Names(["ingest", "message", "main"])
    assert names.rewritten(page) == (
        '<style>\nmain { margin: 0 }\n</style><main class="ingest">(forgotten) and (forgotten)</main>'
    )
    document.write_text(names.rewritten(document))
    assert (StepFailure.read(document).step, StepFailure.read(document).message) == ("ingest", "user (forgotten)")


def test_many_ids_are_searched_at_once() -> None:
    """A search that tries each id at each place takes a minute here."""
    names = Names(f"{number * 7919 % 100_003:x}-{number}" for number in range(2_000))
    started = time.monotonic()
    assert not names.among("<td>12.34</td> 'abc' 2f41-1 lorem ipsum\n" * 20_000)
    assert time.monotonic() - started < 20
