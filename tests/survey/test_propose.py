"""Proposals for several kinds of exports, and errors. The pull of each is tests/jobs/test_start.py."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hmamba.config import parse
from hmamba.errors import ConfigError, InputError
from hmamba.sources.discover import find_files
from hmamba.storage.layout import Layout
from hmamba.survey.choose import parse_given
from hmamba.survey.propose import Proposal, propose
from hmamba.survey.starter import toml
from tests.survey import exports


def proposed(layout: Layout, *places: Path | str, columns: tuple[str, ...] = ()) -> Proposal:
    return propose(layout, [str(place) for place in places], parse_given(columns))


def why(proposal: Proposal, what: str) -> str:
    (seen,) = [choice.seen for choice in proposal.choices if choice.what == what]
    return seen


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


def table(**columns: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"userId": [1, 2, 1], "itemid": [3, 4, 5], "ts": [1716985932] * 3} | columns)


def write(folder: Path, frame: pd.DataFrame, name: str = "log.csv") -> Path:
    folder.mkdir(exist_ok=True)
    frame.to_csv(folder / name, index=False)
    return folder / name


@pytest.mark.parametrize(
    ("renamed", "words"),
    [
        ({"userId": "KUNDE"}, "no column looks like the user. It has the columns 'KUNDE', 'itemid', 'ts'"),
        ({"itemid": "WARE"}, "no column looks like the item"),
        ({"ts": "wann"}, "no column looks like the time of the event"),
    ],
)
def test_if_no_column_fits_the_error_lists_the_columns(
    layout: Layout, tmp_path: Path, renamed: dict[str, str], words: str
) -> None:
    path = write(tmp_path / "in", table().rename(columns=renamed))
    with pytest.raises(InputError) as error:
        proposed(layout, path)
    assert words in str(error.value)
    assert "--column" in str(error.value)
    role = {"userId": "user_id", "itemid": "item_id", "ts": "event_time"}[next(iter(renamed))]
    columns = proposed(layout, path, columns=(f"{role}={next(iter(renamed.values()))}",)).values()["source"]["columns"]
    assert columns[role] in renamed.values()


def test_the_error_shows_an_unreadable_time_column(layout: Layout, tmp_path: Path) -> None:
    path = write(tmp_path / "in", table(ts=["12/1/2010 8:26"] * 3))
    with pytest.raises(InputError, match=r"'ts' holds '12/1/2010 8:26', which is neither ISO 8601"):
        proposed(layout, path)
    with pytest.raises(InputError, match="column 'ts' holds '12/1/2010 8:26'"):
        proposed(layout, path, columns=("event_time=ts",))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1716985932, "soon", 1716985933], r"'ts' holds 'soon' \(33\.3% of its values are unreadable\)"),
        ([1716985932, "2024-05-29", 1716985933], "'ts' holds numbers in 67% of its values and dates in the others"),
        ([20240531, 20240601, 20240602], "'ts' holds numbers such as 20240601, which are not times between 1973"),
    ],
)
def test_the_error_shows_an_unreadable_time(layout: Layout, tmp_path: Path, values: list[Any], words: str) -> None:
    path = write(tmp_path / "in", table(ts=values))
    for columns in ((), ("event_time=ts",)):
        with pytest.raises(InputError, match=words) as error:
            proposed(layout, path, columns=columns)
        assert "--column event_time" not in str(error.value)
        assert "seconds, milliseconds" in str(error.value)


def test_a_time_column_with_another_name_can_be_given(layout: Layout, tmp_path: Path) -> None:
    path = write(tmp_path / "in", table(ts=["soon"] * 3, moment_=[1716985932] * 3))
    with pytest.raises(InputError, match="Say which it is with --column event_time=NAME"):
        proposed(layout, path)


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
    ("role", "values", "words"),
    [
        ("event_type", [None] * 3, "column 'given' is empty in the 3 sampled rows"),
        ("user_id", [None] * 3, "column 'given' is empty"),
        ("item_id", [1.5, 2.5, 3.0], "holds numbers that are not whole"),
        ("position", [1, 2, "x"], "holds values that are not whole numbers, such as 'x'"),
        ("weight", [1, 2, "x"], "holds values that are not numbers, such as 'x'"),
    ],
)
def test_a_given_column_must_fit_its_role(
    layout: Layout, tmp_path: Path, role: str, values: list[Any], words: str
) -> None:
    path = write(tmp_path / "in", table(given=values))
    with pytest.raises(InputError, match=words):
        proposed(layout, path, columns=(f"{role}=given",))


def test_a_given_event_type_column_with_too_many_types_is_refused(layout: Layout, tmp_path: Path) -> None:
    numbers = list(range(50))
    path = write(tmp_path / "in", pd.DataFrame({"user": numbers, "item": numbers, "ts": "2024-05-31", "code": numbers}))
    with pytest.raises(InputError, match="column 'code' holds 50 different values; at most 40 event types"):
        proposed(layout, path, columns=("event_type=code",))


def test_a_given_column_must_exist(layout: Layout, tmp_path: Path) -> None:
    path = write(tmp_path / "in", table())
    with pytest.raises(InputError, match="no column 'who'"):
        proposed(layout, path, columns=("user_id=who",))
    for wrong in ("user_id", "person=userId", "user_id="):
        with pytest.raises(ConfigError, match="write ROLE=NAME, with a role of user_id"):
            parse_given([wrong])


def test_alternative_columns_are_named(layout: Layout, tmp_path: Path) -> None:
    path = write(tmp_path / "in", table(session_id=[7, 8, 9]))
    proposal = proposed(layout, path)
    assert "could also be 'session_id'" in why(proposal, "user")
    assert "could also be 'session_id'" in toml(proposal)


@pytest.mark.parametrize(
    ("items", "k", "reason"),
    [
        (0, 1, "no item has 5 events or more"),
        (1, 1, "1 item has 5 events or more: all of them"),
        (8, 8, "8 items have 5 events or more: all of them"),
        (11, 10, "11 items have 5 events or more: a tenth, from 10 to 100"),
        (300, 30, "300 items have 5 events or more: a tenth, from 10 to 100"),
    ],
)
def test_the_reason_for_the_number_of_items_a_user(
    layout: Layout, tmp_path: Path, items: int, k: int, reason: str
) -> None:
    pairs = [(user, item) for user in range(5) for item in range(items)] or [(1, 1)]
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


def test_ids_with_a_decimal_point_are_those_of_the_catalogue(layout: Layout, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    table().astype({"itemid": "float64"}).to_parquet(folder / "log.parquet", index=False)
    write(folder, pd.DataFrame({"id": [3, 4, 5], "name": ["x", "y", "z"]}), "things.csv")
    assert proposed(layout, folder).values()["catalogue"] == {
        "path": str(folder / "things.csv"),
        "item_id": "id",
        "title": "name",
    }


def test_a_catalogue_of_other_items_is_not_chosen(layout: Layout, tmp_path: Path) -> None:
    write(tmp_path / "in", pd.DataFrame({"itemid": [103, 104, 105], "title": ["x", "y", "z"]}), "things.csv")
    proposal = proposed(layout, write(tmp_path / "in", table()))
    assert "catalogue" not in proposal.values()


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


class TestCatalogue:
    """Which file names the items, where several look like it. Users are 1 to 60, items 1 to 20."""

    def events(self, folder: Path, users: int = 60) -> Path:
        numbers = range(120)
        frame = {"userId": [n % users + 1 for n in numbers], "itemid": [n % 20 + 1 for n in numbers], "ts": 1716985932}
        return write(folder, pd.DataFrame(frame), "log.csv")

    def names(self, count: int, what: str, first: int = 1) -> pd.DataFrame:
        numbers = range(first, first + count)
        return pd.DataFrame({"id": numbers, "name": [f"{what} {n}" for n in numbers]})

    def test_a_file_of_users_is_not_a_catalogue(self, layout: Layout, tmp_path: Path) -> None:
        write(tmp_path / "in", self.names(60, "Anna"), "people.csv")
        proposal = proposed(layout, self.events(tmp_path / "in"))
        assert "catalogue" not in proposal.values()
        assert "people.csv: 'id' matches users rather than items: left out." in proposal.remarks

    def test_users_and_items_in_files_of_the_same_columns_are_separated(self, layout: Layout, tmp_path: Path) -> None:
        write(tmp_path / "in", self.names(60, "Anna"), "people.csv")
        things = write(tmp_path / "in", self.names(24, "Thing"), "things.csv")
        proposal = proposed(layout, self.events(tmp_path / "in"))
        assert proposal.values()["catalogue"] == {"path": str(things), "item_id": "id", "title": "name"}
        assert why(proposal, "title") == "such as Thing 1"

    def test_ambiguous_ids_give_a_remark(self, layout: Layout, tmp_path: Path) -> None:
        write(tmp_path / "in", self.names(20, "Thing"), "things.csv")
        proposal = proposed(layout, self.events(tmp_path / "in", users=20))
        assert proposal.values()["catalogue"]["item_id"] == "id"
        assert any("'id' matches the ids of users equally well" in remark for remark in proposal.remarks)

    @pytest.mark.parametrize("other", ["things-2.csv", "old.csv"])
    def test_of_two_catalogues_with_the_same_columns_the_larger_is_chosen(
        self, layout: Layout, tmp_path: Path, other: str
    ) -> None:
        folder = tmp_path / "in"
        write(folder, self.names(18, "Old"), other)
        larger = write(folder, self.names(24, "Thing"), "things-1.csv")
        proposal = proposed(layout, self.events(folder))
        assert proposal.values()["catalogue"]["path"] == str(larger)
        assert f"{other} could be the catalogue too. things-1.csv was chosen." in proposal.remarks
        assert why(proposal, "title") == "such as Thing 1"

    def test_of_two_catalogues_with_other_columns_one_is_chosen(self, layout: Layout, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        write(folder, self.names(20, "Thing").rename(columns={"name": "category"}), "kinds.csv")
        proposal = proposed(layout, write(folder, self.names(20, "Thing"), "things.csv"), self.events(folder))
        assert proposal.values()["catalogue"]["path"] == str(folder / "things.csv")
        assert "kinds.csv could be the catalogue too. things.csv was chosen." in proposal.remarks

    def test_parts_of_one_catalogue_are_combined(self, layout: Layout, tmp_path: Path) -> None:
        folder = tmp_path / "in" / "things"
        folder.mkdir(parents=True)
        for part, first in enumerate((1, 11)):
            write(folder, self.names(10, "Thing", first), f"part-{part}.csv")
        proposal = proposed(layout, folder, self.events(tmp_path / "in"))
        assert proposal.values()["catalogue"]["path"] == str(folder)
        assert why(proposal, "catalogue") == "names 100% of the items"
        assert not [remark for remark in proposal.remarks if "catalogue too" in remark]


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


class TestText:
    def test_every_value_has_a_comment_and_is_what_is_proposed(self, layout: Layout, tmp_path: Path) -> None:
        proposal = proposed(layout, exports.movielens(tmp_path / "ml"))
        text = toml(proposal)
        assert tomllib.loads(text) == {**proposal.values(), "events": {}}
        lines = text.splitlines()
        values = [number for number, line in enumerate(lines) if " = " in line and not line.startswith("#")]
        assert all(lines[number - 1].startswith("# ") for number in values)
        assert max(map(len, lines)) <= 120
        assert "# min_weight_as_target = 4" in lines

    def test_the_line_about_ratings_can_be_uncommented(self, layout: Layout, tmp_path: Path) -> None:
        text = toml(proposed(layout, exports.movielens(tmp_path / "ml")))
        config = parse(tomllib.loads(text.replace("# min_weight", "min_weight")), "x")
        assert config.events.min_weight_as_target == 4

    def test_names_with_toml_syntax_are_escaped(self, layout: Layout, tmp_path: Path) -> None:
        events = ['a "b"\n[model]\ndim = 3', "view", "purchase"]
        path = write(tmp_path / "in", table(event=events))
        proposal = proposed(layout, path)
        assert tomllib.loads(toml(proposal)) == proposal.values()
        assert set(proposal.config().events.types) == set(events)
