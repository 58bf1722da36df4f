"""Rules of the table of changed users, checked before publication."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb

from hmamba.errors import QualityError
from hmamba.quality.checks import check
from hmamba.quality.expectations import Figure
from hmamba.statements import one
from hmamba.storage.checks_layout import ChecksLayout

_MEANINGS = {
    "rows": "users whose rows differ from the table before",
    "rows_with_null": "rows with an empty value",
    "rows_with_repeated_user": "rows with a user of an earlier row",
    "gone_users_with_rows": "users marked as gone who have candidates",
    "changed_users_without_rows": "users not marked as gone who have no candidates",
    "users_unexplained": "users that the new table has more, or fewer, than the changes explain",
}
"""What each figure counts, in the order of the page."""


def check_changes(
    place: ChecksLayout,
    connection: duckdb.DuckDBPyConnection,
    changes: Path,
    after: Sequence[Path],
    unexplained: int,
    name: str,
) -> None:
    """Check a table of changed users and add a page to Data Docs.

    Args:
        place: folder of the checks.
        connection: DuckDB connection for the counts.
        changes: the table of changed users.
        after: all parts of the new candidates.
        unexplained: difference between the number of users of the new table and the number that follows from the table
            before and the changes.
        name: name of this run in Data Docs.

    Raises:
        QualityError: a rule is broken.
    """
    counted = one(connection, "changes/figures", {"changes": str(changes), "after": [str(path) for path in after]})
    counted["users_unexplained"] = abs(unexplained)
    figures = [
        Figure(rule, counted[rule], None, None if rule == "rows" else 0, meaning=meaning)
        for rule, meaning in _MEANINGS.items()
    ]
    outcome = check(place, "changes", name, figures)
    if outcome.broken:
        raise QualityError(
            f"The table of changed users broke its rules and nothing has been published: "
            f"{'; '.join(map(str, outcome.broken))}. Readers still have what was published before. To publish without "
            f"this table, set publish.changes = false.{outcome.details}"
        )
