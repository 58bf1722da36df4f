"""What a person has accepted for a table, when the table is written again."""

from __future__ import annotations

from hmamba.storage.layout import Layout
from jobs import publish
from tests.jobs.commands.call import call
from tests.nights import THIRD


def test_it_holds_for_the_table_without_a_forgotten_user(two: Layout) -> None:
    two.config.write_text(two.config.read_text() + "\n[publish.guards]\nmax_top_item = 0\n")
    where = ["--root", str(two.root), "--day", str(THIRD), "--run-id", "three"]
    assert publish.main(where) == 3
    assert call("accept", "top_item", *where) == 0
    assert call("forget", "user-003", "--root", str(two.root)) == 0
    assert publish.main(where) == 0
