"""Links between the reports of nights, which may be written and deleted in any order."""

from __future__ import annotations

import shutil
from datetime import date, timedelta

from hmamba.report.neighbours import link_neighbours, links_of, reported_days
from hmamba.storage.layout import Layout
from tests.report.page import Page

DAYS = [date(2024, 1, 1) + timedelta(days=number) for number in range(4)]


def write(layout: Layout, day: date) -> None:
    """A report with little in it but its links."""
    place = layout.report(day)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"<p>{day} &lt;nav&gt;</p>{links_of(day, reported_days(layout))}<p>end</p>")
    link_neighbours(layout, day)


def links(layout: Layout, day: date) -> list[str]:
    return Page(layout.report(day).read_text()).links


def test_nights_in_any_order_lead_to_their_neighbours(layout: Layout) -> None:
    for number in (2, 0, 3, 1):
        write(layout, DAYS[number])
    for place, day in enumerate(DAYS):
        near = [DAYS[n] for n in (place - 1, place + 1) if 0 <= n < len(DAYS)]
        assert sorted(links(layout, day)) == sorted(["../index.html", *(f"../{one}/index.html" for one in near)])
        text = layout.report(day).read_text()
        assert text.startswith(f"<p>{day} &lt;nav&gt;</p>")
        assert text.endswith("<p>end</p>")


def test_the_oldest_page_forgets_a_neighbour_that_was_pruned(layout: Layout) -> None:
    for day in DAYS[:3]:
        write(layout, day)
    shutil.rmtree(layout.report(DAYS[0]).parent)
    write(layout, DAYS[3])
    assert links(layout, DAYS[1]) == ["../index.html", f"../{DAYS[2]}/index.html"]


def test_a_page_that_is_right_or_has_no_links_is_left_alone(layout: Layout) -> None:
    for day in DAYS[:2]:
        write(layout, day)
    layout.report(DAYS[0]).write_text("<p>of another version</p>")
    before = layout.report(DAYS[1]).stat().st_mtime_ns
    write(layout, DAYS[2])
    link_neighbours(layout, DAYS[2])
    assert layout.report(DAYS[0]).read_text() == "<p>of another version</p>"
    assert layout.report(DAYS[1]).stat().st_mtime_ns > before  # it has a next night now
    before = layout.report(DAYS[1]).stat().st_mtime_ns
    link_neighbours(layout, DAYS[2])
    assert layout.report(DAYS[1]).stat().st_mtime_ns == before


def test_a_folder_without_a_report_is_no_neighbour(layout: Layout) -> None:
    write(layout, DAYS[0])
    layout.report(DAYS[1]).parent.mkdir()
    write(layout, DAYS[2])
    assert links(layout, DAYS[0]) == ["../index.html", f"../{DAYS[2]}/index.html"]
    assert links(layout, DAYS[2]) == [f"../{DAYS[0]}/index.html", "../index.html"]


def test_a_damaged_page_of_another_night_is_left_alone(layout: Layout) -> None:
    write(layout, DAYS[0])
    layout.report(DAYS[0]).write_bytes(b"\xff<nav")
    write(layout, DAYS[1])
    assert layout.report(DAYS[0]).read_bytes() == b"\xff<nav"
