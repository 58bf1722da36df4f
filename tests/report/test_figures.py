from __future__ import annotations

import re
from datetime import date
from xml.etree import ElementTree

import pytest

from hmamba.contracts.verdict import Says
from hmamba.report.figures import Line, bars, curve, forest, trend
from hmamba.report.judged import Contrast


@pytest.fixture(params=["curve", "bars"])
def drawn(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The same plot drawn twice."""
    if request.param == "curve":
        return tuple(str(curve("loss", "loss $x_1$", [1, 2, 3], [3.0, 1.0, 2.0], "min")) for _ in range(2))
    rows = [("a <b>", 0.5, 1), ("c", 0.25, 2)]
    return tuple(str(bars("hr", "HR@10", rows)) for _ in range(2))


def test_the_same_plot_has_the_same_bytes(drawn: tuple[str, str]) -> None:
    assert drawn[0] == drawn[1]


def test_a_plot_names_no_address_and_follows_the_page(drawn: tuple[str, str]) -> None:
    assert "http" not in drawn[0]
    assert "var(--ink)" in drawn[0]
    assert "var(--c" in drawn[0]
    assert "#0400" not in drawn[0]


def test_a_plot_is_well_formed_and_tells_its_figures(drawn: tuple[str, str]) -> None:
    tree = ElementTree.fromstring(drawn[0])
    told = tree.get("aria-label") or ""
    assert ("1" in told and "epoch 2" in told) or ("a <b> 0.5000" in told and "c 0.2500" in told)


def test_two_plots_on_one_page_share_no_id() -> None:
    ids = []
    for name in ("first", "second"):
        tree = ElementTree.fromstring(curve(name, "t", [1, 2], [1.0, 2.0], "max"))
        ids.append({element.get("id") for element in tree.iter() if element.get("id")})
    assert ids[0]
    assert not ids[0] & ids[1]


@pytest.mark.parametrize(("values", "best", "place"), [([3.0, 1.0, 2.0], "min", 2), ([3.0, 1.0, 2.0], "max", 1)])
def test_the_best_epoch_is_named(values: list[float], best: str, place: int) -> None:
    assert f"at epoch {place}." in curve("c", "t", [1, 2, 3], values, best)


def test_small_changes_are_labelled_in_full() -> None:
    """Matplotlib would write an offset such as +1.54e-1 above the axis."""
    drawn = curve("c", "t", [1, 2, 3], [0.15400, 0.15408, 0.15401], "max")
    assert {"0.15400", "0.15404", "0.15408"} <= set(re.findall(r">([^<>\n]+)<", drawn))


def test_bars_of_zeros_do_not_divide_by_zero() -> None:
    assert "0.0000" in bars("z", "t", [("a", 0.0, 1)])


def compared(says: Says, low: float, high: float) -> Contrast:
    """A row of a forest plot."""
    bounds = {"difference": (low + high) / 2, "low": low, "high": high}
    return Contrast(one="new <b>", other="old", metric="ndcg@10", users=9, relative=None, says=says, share="", **bounds)


def test_a_forest_tells_each_row_and_colours_it_by_its_verdict() -> None:
    rows = [compared("better", 0.1, 0.3), compared("worse", -0.3, -0.1)]
    drawn = forest("f", "NDCG@10", [*rows, compared("cannot be told", -0.1, 0.2)])
    told = ElementTree.fromstring(drawn).get("aria-label") or ""
    better, worse = (
        "+0.2000, 95\u00a0% interval +0.1000 to +0.3000",
        "\u22120.2000, 95\u00a0% interval \u22120.3000 to \u22120.1000",
    )
    assert told.startswith(f"NDCG@10. new <b> vs old: {better}, better. new <b> vs old: {worse}, worse.")
    assert {"var(--good)", "var(--bad)", "var(--muted)"} <= set(re.findall(r"var\(--\w+\)", drawn))
    assert "#0500" not in drawn
    assert forest("f", "NDCG@10", rows) == forest("f", "NDCG@10", rows)
    assert "var(--bad)" not in forest("f", "NDCG@10", rows[:1])


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (0.2, 0.3), (-0.3, -0.2)])
def test_a_forest_always_shows_zero(low: float, high: float) -> None:
    drawn = forest("f", "t", [compared("better", low, high)])
    labels = re.findall(r">([^<>\n]+)<", drawn)
    assert any(float(text.replace("\u2212", "-")) == 0 for text in labels if re.fullmatch(r"[\u2212\d.]+", text))


def test_a_trend_has_gaps_intervals_and_words() -> None:
    days = [date(2023, 12, 31), date(2024, 1, 1), date(2024, 1, 5)]
    served = Line("served", 5, [1.0, None, 3.0], [(0.5, 1.5), None, (2.0, 4.0)])
    rows = [served, Line("reference", 9, [2.0, 2.0, None], dashed=True)]
    drawn = trend("t", "a metric", days, rows, ".1f", 0.0)
    assert drawn == trend("t", "a metric", days, rows, ".1f", 0.0)
    told = ElementTree.fromstring(drawn).get("aria-label") or ""
    assert told == (
        "a metric, 2023-12-31 to 2024-01-05: served from 1.0 to 3.0, between 1.0 and 3.0; reference from 2.0 to 2.0, "
        "between 2.0 and 2.0."
    )
    texts = re.findall(r">([^<>\n]+)<", drawn)
    assert {"31 Dec", "2023", "2 Jan", "2024", "5 Jan", "served", "reference", "0"} <= set(texts)


def test_a_trend_of_one_night_is_a_point_and_a_line_without_values_is_told() -> None:
    drawn = trend("t", "rows", [date(2024, 1, 5)], [Line("rows", 4, [7.0]), Line("none", 3, [None])], ",.0f", 0.0)
    assert "rows from 7 to 7, between 7 and 7; none none." in drawn
