from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from hmamba.errors import InputError
from hmamba.examples import EXAMPLES, write_example


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_files_are_the_same_every_time(tmp_path: Path, name: str) -> None:
    first, second = write_example(name, tmp_path / "a"), write_example(name, tmp_path / "b")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    other = write_example(name, tmp_path / "c", seed=1)
    assert other[0].read_bytes() != first[0].read_bytes()


def test_films_are_rated_once_by_people_with_a_taste(tmp_path: Path) -> None:
    ratings, films = (pd.read_csv(path) for path in write_example("films", tmp_path))
    assert (ratings["userId"].nunique(), len(films)) == (300, 200)
    assert films["title"].is_unique
    assert not ratings.duplicated(["userId", "movieId"]).any()
    assert ratings["rating"].between(0.5, 5).all()
    assert ratings["timestamp"].is_monotonic_increasing
    assert pd.to_datetime(ratings["timestamp"], unit="s").dt.date.astype(str).max() == "2024-05-31"
    joined = ratings.merge(films, on="movieId")
    favourite = joined.groupby("userId")["genre"].agg(lambda genres: genres.value_counts(normalize=True).iloc[0])
    assert favourite.mean() > 0.5


def test_sessions_view_more_than_they_buy(tmp_path: Path) -> None:
    log, products = write_example("sessions", tmp_path)
    events = pd.DataFrame([json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()])
    known = pd.read_csv(products)
    assert events["session_id"].nunique() == 2000
    counts = events["event"].value_counts()
    assert counts["view"] > counts["cart"] > counts["purchase"] > 1000
    assert set(events["item_id"]) <= set(known["item_id"])
    assert known["name"].is_unique
    assert not events[events["event"] == "purchase"].duplicated(["session_id", "item_id"]).any()
    assert pd.to_datetime(events["timestamp"], unit="ms").dt.date.astype(str).max() == "2024-05-31"


def test_an_unknown_example_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Choose one of films, sessions"):
        write_example("books", tmp_path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="is a file"):
        write_example("films", tmp_path / "file")
