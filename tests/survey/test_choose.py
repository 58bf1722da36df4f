"""The column of each role: what is found, what can be given, and what is said where nothing fits."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hmamba.errors import ConfigError, InputError
from hmamba.storage.layout import Layout
from hmamba.survey.choose import parse_given
from hmamba.survey.starter import toml
from tests.survey.proposals import proposed, table, why, write


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


def test_values_in_place_of_a_header_are_noticed(layout: Layout, tmp_path: Path) -> None:
    path = write(tmp_path / "in", table().set_axis(["A39HT", "0205616461", "1369699200"], axis=1))
    with pytest.raises(InputError, match="'0205616461' looks like a value: if the first line is no header, write"):
        proposed(layout, path)


def test_rows_of_another_encoding_are_not_taken_for_an_empty_file(layout: Layout, tmp_path: Path) -> None:
    path = write(tmp_path / "in", table(itemid=["Größe"] * 3))
    path.write_text(path.read_text(encoding="utf-8"), encoding="cp1252")
    with pytest.raises(InputError, match=r"none of its rows can be read, such as line 2: '.*\\xf6") as error:
        proposed(layout, path)
    (command,) = re.findall(r"\((iconv .*)\)\.$", str(error.value))
    subprocess.run(command.replace("NEW", "new.csv"), shell=True, check=True, cwd=tmp_path)
    assert proposed(layout, tmp_path / "new.csv").values()["source"]["columns"]["item_id"] == "itemid"


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
