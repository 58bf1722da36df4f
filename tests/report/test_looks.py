"""How the pages of the report look in a browser: on a screen and a phone, in both colour schemes.

Measured in the page itself: bounding boxes, and contrasts of the colours that the browser computes (WCAG 2.2: text at
least 4.5, graphics at least 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hmamba.contracts import Manifest
from hmamba.contracts.verdict import Interval
from hmamba.report.render import write_report
from hmamba.storage.layout import Layout
from tests.browser import Browser, browser
from tests.report.metrics_of_night import DAY, RUN, compared, verdict
from tests.report.night import hostile_catalogue, publish, write_night
from tests.report.test_trend import write_documents
from tests.synthetic import make_interactions

BEFORE = DAY - timedelta(days=1)
SCREEN, PHONE = 1280, 390

MEASURE = """
(() => {
  const rgba = text => {
    const n = text.match(/[\\d.]+/g).map(Number);
    return {c: n.slice(0, 3), a: n.length > 3 ? n[3] : 1};
  };
  const light = c => {
    const [r, g, b] = c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05);
  };
  const over = (front, alpha, back) => front.map((v, i) => v * alpha + back[i] * (1 - alpha));
  const behind = element => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const {c, a} = rgba(getComputedStyle(e).backgroundColor);
      if (a > 0) layers.push([c, a]);
      if (a === 1) break;
    }
    return layers.reverse().reduce((back, [c, a]) => over(c, a, back), [255, 255, 255]);
  };
  const opacity = element => {
    let all = 1;
    for (let e = element; e; e = e.parentElement) all *= Number(getComputedStyle(e).opacity);
    return all;
  };
  const told = element => `${element.tagName} ${element.getAttribute("class") || ""} ${element.textContent.trim()}`;
  const found = {texts: 0, graphics: 0, pale: [], faint: [], small: [], beyond: [], uneven: []};
  document.querySelectorAll("details").forEach(e => { e.open = true; });
  const line = rgba(getComputedStyle(document.querySelector("section")).borderTopColor).c.join();

  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement, style = getComputedStyle(element);
    if (!node.nodeValue.trim() || element.closest("title, defs") || style.display === "none") continue;
    const inside = element.closest("svg");
    const {c, a} = rgba(inside ? style.fill : style.color);
    found.texts += 1;
    const contrast = ratio(over(c, a * opacity(element), behind(element)), behind(element));
    if (contrast < 4.5) found.pale.push(`${contrast.toFixed(2)} ${told(element)}`);
    const scale = inside ? inside.getBoundingClientRect().width / inside.viewBox.baseVal.width : 1;
    const size = parseFloat(style.fontSize) * scale;
    if (size < 10) found.small.push(`${size.toFixed(1)} ${told(element)}`);
  }

  const graphics = [...document.querySelectorAll(".swatch, .bar i, .stack i")].map(e => [e, "backgroundColor", ""]);
  document.querySelectorAll("svg.plot :is(path, circle, rect, line, use)").forEach(e => {
    if (e.closest("defs")) return;  // drawn, with the style of the use element, where it is used
    graphics.push([e, "fill", "fillOpacity"], [e, "stroke", "strokeOpacity"]);
  });
  for (const [element, property, own] of graphics) {
    const style = getComputedStyle(element), back = behind(element);
    if (style[property] === "none" || !style[property].startsWith("rgb")) continue;
    const {c, a} = rgba(style[property]);
    const alpha = a * opacity(element) * (own ? Number(style[own]) : 1);
    // Lines of the grid and halos of the background's own colour carry nothing.
    if (!alpha || c.join() === line || c.join() === back.join()) continue;
    found.graphics += 1;
    const contrast = ratio(over(c, alpha, back), back);
    if (contrast < 3) found.faint.push(`${contrast.toFixed(2)} ${property} ${told(element)}`);
  }

  found.wider = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  document.querySelectorAll("body *").forEach(e => {
    const box = e.getBoundingClientRect();
    if (box.right > innerWidth + 0.5 && !e.closest(".wide") && !e.closest("defs")) found.beyond.push(told(e));
  });
  const rows = e => [...e.children].reduce((tops, child) => {
    const top = Math.round(child.getBoundingClientRect().top);
    return {...tops, [top]: (tops[top] || 0) + 1};
  }, {});
  found.tiles = [...document.querySelectorAll(".tiles")].map(e => Object.values(rows(e)));
  found.wide = [...document.querySelectorAll(".wide")].map(e => [e.scrollWidth - e.clientWidth,
    getComputedStyle(e).overflowX]);
  found.tables = [...document.querySelectorAll("table")].filter(e => !e.closest(".wide")).map(e =>
    e.getBoundingClientRect().right <= innerWidth);
  found.dark = matchMedia("(prefers-color-scheme: dark)").matches;
  return found;
})()
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The report of a night with every section, and the page of all nights."""
    layout = Layout.at(tmp_path_factory.mktemp("shop"))
    groups = [
        {
            "kind": kind, "least_events": least, "most_events": None, "users": 30, "answers": 40,
            "metrics": {"challenger": 0.2, "most_bought": 0.1},
            "comparison": compared("challenger", "most_bought", low + 0.05, low, low + 0.1),
        }
        for kind, least, low in (("history", 1, 0.01), ("users", 1, -0.2), ("items", 9, -0.05))
    ]  # fmt: skip
    intervals = {"challenger": Interval(low=0.15, high=0.2)}
    write_night(layout, make_interactions(), hostile_catalogue(), judged=verdict(groups=groups, intervals=intervals))
    publish(layout)
    manifest = Manifest.read(layout.latest)
    manifest.write(layout.published_manifest(DAY))
    earlier = layout.published_manifest(BEFORE)
    earlier.parent.mkdir()
    for part in layout.published_parts(DAY):
        (earlier.parent / part.name).write_bytes(part.read_bytes())
    manifest.model_copy(update={"day": BEFORE}).write(earlier)
    write_documents(layout, BEFORE)
    return {"night": write_report(layout, DAY, RUN), "all nights": layout.all_reports}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests."""
    with browser(tmp_path_factory.mktemp("chromium") / "profile") as running:
        yield running


@pytest.fixture(scope="module", params=["night", "all nights"])
def page(request: pytest.FixtureRequest, pages: dict[str, Path]) -> Path:
    return pages[request.param]


@pytest.fixture(scope="module", params=[(w, s) for w in (SCREEN, PHONE) for s in ("light", "dark")], ids=str)
def looks(request: pytest.FixtureRequest, chromium: Browser, page: Path) -> tuple[int, dict[str, Any]]:
    """What is measured at one width in one scheme."""
    width, scheme = request.param
    chromium.show(page, width, scheme)
    found = chromium.run(MEASURE)
    assert found["dark"] == (scheme == "dark")
    return width, found


def test_text_can_be_read(looks: tuple[int, dict[str, Any]]) -> None:
    _, found = looks
    assert found["texts"] > 50
    assert found["pale"] == []
    assert found["small"] == []


def test_graphics_stand_out(looks: tuple[int, dict[str, Any]]) -> None:
    _, found = looks
    assert found["graphics"] > 20
    assert found["faint"] == []


def test_nothing_is_wider_than_the_window(looks: tuple[int, dict[str, Any]]) -> None:
    _, found = looks
    assert found["wider"] == 0
    assert found["beyond"] == []
    assert all(found["tables"])


def test_tables_scroll_and_tiles_stand_two_a_row_on_a_phone(looks: tuple[int, dict[str, Any]]) -> None:
    width, found = looks
    assert found["wide"]
    assert all(scrolls in ("auto", "scroll") for _, scrolls in found["wide"])
    if width == PHONE:
        assert any(more > 0 for more, _ in found["wide"])
        for rows in found["tiles"]:
            assert all(number == 2 for number in rows[:-1])
            assert rows[-1] in (1, 2)


def test_the_measure_finds_what_is_wrong(chromium: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        '<!doctype html><meta name="viewport" content="width=device-width"><style>section {border: 1px solid #eee}'
        "</style><section><p style='color: #999'>pale</p><p style='width: 2000px'>wide</p>"
        '<svg class="plot" viewBox="0 0 3000 100" style="width: 300px"><text x="0" y="90" style="font-size: 60px">'
        'tiny</text><circle r="9" style="fill: #cde"/></svg></section>'
    )
    chromium.show(page, SCREEN, "light")
    found = chromium.run(MEASURE)
    assert [one.partition(" ")[2] for one in found["pale"]] == ["P  pale"]
    assert [one.partition(" ")[2] for one in found["small"]] == ["text  tiny"]
    assert found["beyond"] == ["P  wide"]
    assert found["wider"] > 0
    assert len(found["faint"]) == 1
