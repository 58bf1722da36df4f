"""Proposals for several kinds of exports, and errors. The pull of each is tests/jobs/test_start.py."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pandas as pd
import pytest

from hmamba.errors import InputError
from hmamba.sources.discover import find_files
from hmamba.storage.layout import Layout
from tests.survey import exports
from tests.survey.proposals import proposed, table, why, write


def test_films(layout: Layout, tmp_path: Path) -> None:
    folder = exports.movielens(tmp_path / "ml")
    proposal = proposed(layout, folder)
    values = proposal.values()
    assert values["source"] == {
        "path": str(folder / "ratings.csv"),
        "columns": {"user_id": "userId", "item_id": "movieId", "event_time": "timestamp", "weight": "rating"},
        "time_format": "epoch_s",
    }
    assert values["catalogue"] == {
        "path": str(folder / "movies.csv"),
        "item_id": "movieId",
        "title": "title",
        "category_path": ["genres"],
    }
    assert values["quality"] == {"min_time": datetime(1989, 1, 1)}
    assert values["candidates"] == {"k": 15, "exclude_seen": True}
    assert proposal.day == date(2014, 1, 20)
    assert "joined by '|'" in why(proposal, "categories")
    assert proposal.ratings == (0.5, 5.0)
    assert any("tags.csv could be interactions too" in remark for remark in proposal.remarks)


def test_sessions_with_event_types(layout: Layout, tmp_path: Path) -> None:
    proposal = proposed(layout, exports.sessions(tmp_path / "log") / "events.csv")
    values = proposal.values()
    assert values["source"]["columns"] == {
        "user_id": "visitorid",
        "item_id": "itemid",
        "event_time": "timestamp",
        "event_type": "event",
    }
    assert values["source"]["time_format"] == "epoch_ms"
    assert {name: kind["target"] for name, kind in values["events"].items()} == {
        "view": False,
        "addtocart": False,
        "transaction": True,
    }
    assert "catalogue" not in values
    assert proposal.day == date(2024, 4, 29)
    config = proposal.config()
    assert config.events.types["transaction"].weight == 1.0
    assert config.candidates.exclude_seen  # of what is bought little is bought again; views do not count


def test_groceries_in_day_folders(layout: Layout, tmp_path: Path) -> None:
    folder = exports.groceries(tmp_path / "shop")
    values = proposed(layout, folder).values()
    assert values["source"]["path"] == f"{folder}/**/part-*.parquet"
    assert values["source"]["columns"]["weight"] == "qty"
    assert values["source"]["timezone"] == "UTC"
    assert values["catalogue"]["category_path"] == ["department", "category"]
    assert values["catalogue"]["title"] == "product_name"
    assert values["candidates"]["exclude_seen"] is False


def test_reviews_as_gzipped_json_lines(layout: Layout, tmp_path: Path) -> None:
    folder = exports.reviews(tmp_path / "reviews")
    values = proposed(layout, folder / "reviews.jsonl.gz").values()  # the metadata lie beside it
    assert values["source"]["columns"] == {
        "user_id": "reviewerID",
        "item_id": "asin",
        "event_time": "unixReviewTime",
        "weight": "overall",
    }
    assert values["catalogue"]["path"] == str(folder / "meta.jsonl.gz")
    assert values["catalogue"]["category_path"] == ["categories"]


def test_positions_instead_of_times(layout: Layout, tmp_path: Path) -> None:
    proposal = proposed(layout, exports.ordered(tmp_path / "order"))
    values = proposal.values()
    assert values["source"]["columns"] == {"user_id": "user_id", "item_id": "item_id", "position": "position"}
    assert values["catalogue"]["category_path"] == ["categories"]
    assert "title" not in values["catalogue"]
    assert proposal.day == datetime.now(UTC).date()


def test_files_under_the_root_are_named_from_it(layout: Layout) -> None:
    exports.sessions(layout.landing / "clicks")
    assert proposed(layout, layout.landing).values()["source"]["path"] == "landing/clicks/events.csv"


def test_a_folder_with_a_bracket_is_no_pattern(layout: Layout, tmp_path: Path) -> None:
    folder = exports.sessions(tmp_path / "a [1] b")
    frame = pd.read_csv(folder / "events.csv")
    frame.to_csv(folder / "events2.csv", index=False)
    path = proposed(layout, folder).values()["source"]["path"]
    assert len(find_files(path, layout.root, "source.path", follow_links=True)) == 2
    assert path == str(folder)


@pytest.mark.parametrize("columns", [(), ("event_type=event",)])
def test_files_without_rows_are_named(layout: Layout, tmp_path: Path, columns: tuple[str, ...]) -> None:
    path = write(tmp_path / "in", table(event=["buy"] * 3).head(0))
    with pytest.raises(InputError, match=r"^log\.csv holds no rows\."):
        proposed(layout, path, columns=columns)


def test_an_empty_file_does_not_hide_files_of_its_shape(layout: Layout, tmp_path: Path) -> None:
    write(tmp_path / "in", table().head(0), "log-1.csv")
    write(tmp_path / "in", table(), "log-2.csv")
    assert proposed(layout, tmp_path / "in").values()["source"]["columns"]["user_id"] == "userId"


@pytest.mark.parametrize(
    ("items", "k", "reason"),
    [
        (1, 1, "1 item with events: all of them"),
        (8, 8, "8 items with events: all of them"),
        (11, 10, "11 items with events: a tenth, from 10 to 100"),
        (300, 30, "300 items with events: a tenth, from 10 to 100"),
    ],
)
def test_the_reason_for_the_number_of_items_a_user(
    layout: Layout, tmp_path: Path, items: int, k: int, reason: str
) -> None:
    pairs = [(user, item) for user in range(5) for item in range(items)]
    frame = pd.DataFrame(pairs, columns=["userId", "itemid"]).assign(ts=1716985932)
    proposal = proposed(layout, write(tmp_path / "in", frame))
    assert proposal.values()["candidates"]["k"] == k
    assert why(proposal, "items a user") == reason


def test_a_weight_column_with_gaps_is_left_out_with_a_remark(layout: Layout, tmp_path: Path) -> None:
    path = write(tmp_path / "in", table(rating=[1.0, None, 2.0]))
    proposal = proposed(layout, path)
    assert "weight" not in proposal.values()["source"]["columns"]
    assert any("'rating' could be the weight" in remark for remark in proposal.remarks)


def test_times_that_were_never_set_do_not_change_min_time(layout: Layout, tmp_path: Path) -> None:
    path = write(tmp_path / "in", table(ts=[0, 1716985932, 7258118400]))
    proposal = proposed(layout, path)
    assert "quality" not in proposal.values()
    assert proposal.day == date(2024, 5, 29)
    assert sum("are refused" in remark for remark in proposal.remarks) == 2


@pytest.mark.parametrize("name", ["things.csv", "things.parquet"])
def test_columns_of_values_that_items_share_are_attributes(layout: Layout, tmp_path: Path, name: str) -> None:
    folder, numbers = tmp_path / "in", range(60)
    frame = {"userId": [n % 20 for n in numbers], "itemid": [1_000 + n for n in numbers], "ts": 1716985932}
    write(folder, pd.DataFrame(frame), "log.csv")
    things = pd.DataFrame(
        {
            "itemid": [1_000 + n for n in numbers],
            "title": [f"Thing {n}" for n in numbers],
            "brand": [f"Brand {n // 5}" for n in numbers],
            "url": [f"https example {n}" for n in numbers],  # of one item each
            "on_sale": ["yes" if n % 2 else "no" for n in numbers],  # of half of the items each
            "price": [f"{n // 3}.50" for n in numbers],
            "released": [f"2020-01-{n // 4 + 1:02d}" for n in numbers],
            "colours": [f"c{n // 4}|c{n // 4 + 1}" for n in numbers],  # joined
        }
    )
    path = folder / name
    if name.endswith("parquet"):
        things.assign(tags=[[f"tag {n // 4}", "any"] for n in numbers]).to_parquet(path, index=False)
    else:
        things.to_csv(path, index=False)
    proposal = proposed(layout, folder)
    expected = ["brand", "tags"] if name.endswith("parquet") else ["brand"]
    assert proposal.values()["catalogue"]["attributes"] == expected
    assert why(proposal, "attributes").startswith("values that items share, such as brand Brand 0")
    assert proposal.config().catalogue.attributes == tuple(expected)


@pytest.mark.parametrize("place", ["nowhere", "nowhere/*.csv"])
def test_a_missing_path_is_named(layout: Layout, tmp_path: Path, place: str) -> None:
    with pytest.raises(InputError, match=r"no such file or folder"):
        proposed(layout, tmp_path / place)


def test_no_data_files_are_an_error(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match=r"no file with one of the endings \.parquet, \.csv"):
        proposed(layout, tmp_path / "notes.txt")
    (tmp_path / "a.parquet").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match=r"nothing can be read\. .*is not a Parquet file"):
        proposed(layout, tmp_path)
