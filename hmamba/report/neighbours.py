"""Links from the report of a night to those before and after it, and to the page of all nights.

The pages of neighbours exist already when a night's report is written: only their links are written again, between the
marks of the ``nav`` element. A page is otherwise left as its night made it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

from markupsafe import Markup

from hmamba.storage.base import write_text
from hmamba.storage.layout import Layout

_LINKS = re.compile(r'<nav class="nights".*?</nav>', re.DOTALL)


def links_of(day: date, days: Sequence[date]) -> Markup:
    """The links of one page.

    Args:
        day: the page's day.
        days: all days with a report, in any order; with or without ``day``.
    """
    before = max((one for one in days if one < day), default=None)
    after = min((one for one in days if one > day), default=None)
    parts = [
        "" if before is None else f'<a href="../{before}/index.html" rel="prev">← {before}</a>',
        '<a href="../index.html">All nights</a>',
        "" if after is None else f'<a href="../{after}/index.html" rel="next">{after} →</a>',
    ]
    return Markup(
        f'<nav class="nights" aria-label="Other nights">{"".join(f"<span>{one}</span>" for one in parts)}</nav>'
    )


def reported_days(layout: Layout) -> list[date]:
    """Days that have a report, ascending."""
    return [day for day, _ in layout.report_days if layout.storage.exists(layout.report(day))]


def link_neighbours(layout: Layout, day: date) -> None:
    """Correct the links of the pages beside a new one, and of the oldest page, whose neighbour may be gone."""
    days = reported_days(layout)
    changed = {
        max((one for one in days if one < day), default=None),
        min((one for one in days if one > day), default=None),
        min(days, default=None),
    }
    for one in sorted(changed - {None, day}, key=str):
        assert one is not None
        place = layout.report(one)
        try:
            text = layout.storage.local_path(place).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a damaged page of another night, which stays as it is
        if (found := _LINKS.search(text)) is not None and found[0] != (links := links_of(one, days)):
            write_text(layout.storage, place, text.replace(found[0], links, 1))
