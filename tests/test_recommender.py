"""The library: recommendations from every kind of data frame, and from a saved folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import uuid
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest

import hmamba
from hmamba import Recommender
from hmamba.errors import ConfigError, InputError
from tests.synthetic import make_catalogue, make_interactions

SETTINGS: dict[str, Any] = {
    "train": {"epochs": 2, "min_item_events": 2, "device": "cpu"},
    "model": {"dim": 16, "d_state": 8, "head_dim": 8},
    "gate": {"min_users": 5},
    "candidates": {"k": 5},
}


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    return make_interactions()


@pytest.fixture(scope="module")
def fitted(events: pd.DataFrame) -> Recommender:
    return Recommender(SETTINGS).fit(events)


def test_every_user_gets_new_items_in_order(fitted: Recommender, events: pd.DataFrame) -> None:
    found = fitted.recommend()
    assert list(found.columns) == ["user_id", "item_id", "score", "rank"]
    assert set(found.user_id) == set(events.user_id) == set(fitted.users)
    seen = set(zip(events.user_id, events.item_id, strict=True))
    assert not seen & set(zip(found.user_id, found.item_id, strict=True))
    for _, rows in found.groupby("user_id"):
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
        assert rows.score.is_monotonic_decreasing
        assert rows.item_id.is_unique


def test_items_without_events_are_recommended_by_their_categories(events: pd.DataFrame) -> None:
    catalogue = make_catalogue(64)  # of which items 60 to 63 have no events
    settings = {
        **SETTINGS,
        "candidates": {"k": 10, "new_items": 0.2},
        "catalogue": {"category_path": ["department", "category"]},
    }
    fitted = Recommender(settings).fit(events, catalogue)
    new = [f"item-{number:03d}" for number in range(60, 64)]
    assert fitted.new_items == new
    assert not set(new) & set(fitted.items)
    assert len(fitted.similar_items(fitted.items, k=1)) == len(fitted.items)
    found = fitted.recommend()
    assert (found[found.item_id.isin(new)].groupby("user_id").size() >= 2).all()
    assert found[found.item_id.isin(new)].user_id.nunique() == len(fitted.users)
    for _, rows in found.groupby("user_id"):
        assert rows.score.is_monotonic_decreasing
    only = fitted.recommend(items=[*new[:3], "no such item"])
    assert only.groupby("user_id").item_id.agg(set).map(lambda items: items == set(new[:3])).all()


def test_users_keep_their_order_and_items_can_be_restricted(fitted: Recommender) -> None:
    users = fitted.users[:3][::-1]
    assert fitted.recommend(users, k=2).user_id.drop_duplicates().tolist() == users
    allowed = fitted.recommend(users, k=5).item_id.unique()[:4]
    found = fitted.recommend(users, k=5, items=allowed)
    assert set(found.item_id) <= set(allowed)


def test_viewed_items_can_be_kept(fitted: Recommender, events: pd.DataFrame) -> None:
    user = fitted.users[0]
    seen = set(events.item_id[events.user_id == user])
    assert seen & set(fitted.recommend([user], k=60, filter_viewed=False).item_id)
    assert not seen & set(fitted.recommend([user], k=60).item_id)


def test_similar_items_are_the_nearest_by_the_points(fitted: Recommender) -> None:
    item = fitted.recommend(k=1).item_id.iloc[0]
    found = fitted.similar_items([item], k=4)
    assert found.target_item_id.tolist() == [item] * 4
    assert item not in set(found.item_id)
    assert found.score.is_monotonic_decreasing
    back = fitted.similar_items([found.item_id.iloc[0]], k=60).set_index("item_id").score
    assert back[item] == pytest.approx(found.score.iloc[0], abs=1e-5)


def test_points_lie_on_the_hyperboloid(fitted: Recommender) -> None:
    points = fitted.encode(fitted.users[:4]).astype(np.float64)
    assert points.shape == (4, 17)
    norms = (points[:, 1:] ** 2).sum(axis=1) - points[:, 0] ** 2
    np.testing.assert_allclose(norms, norms[0], rtol=1e-4)
    assert norms[0] < 0


def as_relation(frame: pd.DataFrame) -> Any:
    return duckdb.connect().from_arrow(pa.Table.from_pandas(frame))


@pytest.mark.parametrize(
    ("convert", "kind"), [(pa.Table.from_pandas, pa.Table), (as_relation, pa.Table)], ids=["arrow", "duckdb"]
)
def test_other_frames_give_the_same(
    fitted: Recommender, events: pd.DataFrame, convert: Any, kind: type[object]
) -> None:
    found = Recommender(SETTINGS).fit(convert(events)).recommend()
    assert isinstance(found, kind)
    pd.testing.assert_frame_equal(found.to_pandas(), fitted.recommend())


def test_polars_frames_give_the_same(fitted: Recommender, events: pd.DataFrame) -> None:
    found = Recommender(SETTINGS).fit(polars.from_pandas(events)).recommend()
    assert isinstance(found, polars.DataFrame)
    assert found.to_dicts() == fitted.recommend().to_dict("records")


def numbered(events: pd.DataFrame) -> pd.DataFrame:
    codes = {name: events[name].astype("category").cat.codes.astype("int64") for name in ("user_id", "item_id")}
    return events.assign(user_id=codes["user_id"] + 1000, item_id=codes["item_id"])


IDS = {
    "int32": lambda ids: ids.astype("int32"),
    "nullable": lambda ids: ids.astype("Int64"),
    "category": lambda ids: ids.astype(str).astype("category"),
    "numbers as categories": lambda ids: ids.astype("category"),
    "float": lambda ids: ids.astype("float64"),
    "decimal": lambda ids: ids.map(Decimal),
    "uuid": lambda ids: ids.map(lambda number: uuid.UUID(int=number)),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_keep_their_type(events: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    frame = numbered(events)
    frame = frame.assign(user_id=IDS[kind](frame.user_id), item_id=IDS[kind](frame.item_id))
    fitted = Recommender(SETTINGS).fit(frame)
    if kind == "uuid":
        frame = frame.assign(user_id=frame.user_id.map(str), item_id=frame.item_id.map(str))
    assert set(fitted.users) == set(frame.user_id)
    assert set(fitted.items) <= set(frame.item_id)
    wanted = list(frame.user_id[:2].unique())
    found = fitted.recommend(wanted, k=3)
    assert found.user_id.unique().tolist() == wanted
    assert set(found.item_id) <= set(frame.item_id)
    assert fitted.similar_items(fitted.items[:1], k=2).target_item_id.tolist() == fitted.items[:1] * 2
    fitted.save(tmp_path / "saved")
    pd.testing.assert_frame_equal(Recommender.load(tmp_path / "saved").recommend(wanted, k=3), found)


@pytest.mark.parametrize("brands", ["text", "lists"])
def test_attributes_of_a_frame_of_items_are_used(events: pd.DataFrame, tmp_path: Path, brands: str) -> None:
    names = [f"brand {number % 4} {number // 16}" for number in range(60)]  # users have a cluster of items each
    things = make_catalogue()[["item_id"]].assign(brand=names if brands == "text" else [[name] for name in names])
    settings = SETTINGS | {"catalogue": {"attributes": ["brand"]}, "train": SETTINGS["train"] | {"epochs": 1}}
    settings["model"] = SETTINGS["model"] | {"score_terms": ["attributes"]}
    for items, has_term in ((things, True), (things.assign(brand=None), False)):
        recommender = Recommender(settings).fit(events, items)
        recommender.save(tmp_path / str(has_term))
        (config,) = (tmp_path / str(has_term)).rglob("config.json")
        assert (list(json.loads(config.read_text())["counted_terms"]) == ["attributes"]) == has_term
        again = Recommender.load(tmp_path / str(has_term))
        pd.testing.assert_frame_equal(again.recommend(k=3), recommender.recommend(k=3))


def test_users_may_be_asked_for_twice(fitted: Recommender) -> None:
    user = fitted.users[0]
    found = fitted.recommend([user, user], k=2)
    assert found["rank"].tolist() == [1, 2, 1, 2]
    assert found.user_id.tolist() == [user] * 4


def test_items_that_are_unknown_are_no_candidates(fitted: Recommender) -> None:
    allowed = [fitted.items[0], fitted.items[5], "unheard of"]
    assert set(fitted.recommend(k=5, items=allowed, filter_viewed=False).item_id) == set(allowed[:2])
    with pytest.raises(InputError, match="none of them is a candidate item"):
        fitted.recommend(items=["unheard of"])
    with pytest.raises(InputError, match="none of them is a candidate item"):
        fitted.recommend(items=[])


def test_some_items_are_searched_exactly_whatever_the_index(events: pd.DataFrame, monkeypatch: Any) -> None:
    """An approximate index would have to be built and tuned again."""
    rec = Recommender(SETTINGS).fit(events)
    fitted = rec._get()
    allowed = rec.items[::2]
    exact = rec.recommend(k=5, items=allowed)
    approximate = type("Lists", (type(fitted.index.searcher),), {"name": "ivf", "is_exact": False})
    monkeypatch.setattr(fitted.index.searcher, "__class__", approximate)
    pd.testing.assert_frame_equal(rec.recommend(k=5, items=allowed), exact)


def test_without_faiss_products_search(events: pd.DataFrame, fitted: Recommender, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert Recommender(SETTINGS).fit(events).recommend(k=3).item_id.tolist() == fitted.recommend(k=3).item_id.tolist()


def test_neighbours_are_found_a_block_at_a_time(fitted: Recommender, monkeypatch: Any) -> None:
    whole = fitted.similar_items(fitted.items, k=3)
    monkeypatch.setattr("hmamba.index.matmul.block_rows", lambda _: 7)
    pd.testing.assert_frame_equal(fitted.similar_items(fitted.items, k=3), whole)


def test_repeat_consumption_is_recommended(events: pd.DataFrame) -> None:
    again = Recommender({**SETTINGS, "candidates": {"k": 5, "exclude_seen": False}}).fit(events)
    found = again.recommend(filter_viewed=False)
    seen = set(zip(events.user_id, events.item_id, strict=True))
    assert seen & set(zip(found.user_id, found.item_id, strict=True))


def test_metadata_of_items_gives_categories(events: pd.DataFrame) -> None:
    settings = {
        **SETTINGS,
        "catalogue": {"path": "given", "title": "title", "category_path": ["department", "category"]},
        "model": {**SETTINGS["model"], "category_levels": [1], "category_vectors": True},
    }
    assert len(Recommender(settings).fit(events, make_catalogue(60)).recommend(k=3))


def test_a_saved_recommender_recommends_the_same(fitted: Recommender, tmp_path: Path) -> None:
    fitted.save(tmp_path / "saved")
    again = Recommender.load(tmp_path / "saved")
    pd.testing.assert_frame_equal(again.recommend(), fitted.recommend())
    np.testing.assert_array_equal(again.encode(), fitted.encode())
    assert again.config == fitted.config


def test_what_is_no_recommender_is_not_replaced(fitted: Recommender, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "precious.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("home", "file"):
        with pytest.raises(InputError, match="exists and is no saved recommender"):
            fitted.save(tmp_path / name)
    assert (tmp_path / "home" / "precious.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for _ in range(2):
        fitted.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(Recommender.load(tmp_path / "empty").users) == len(fitted.users)


def test_sequences_that_are_gone_are_told_before_anything_is_written(fitted: Recommender, tmp_path: Path) -> None:
    fitted.save(tmp_path / "saved")
    again = Recommender.load(tmp_path / "saved")
    shutil.rmtree(tmp_path / "saved")
    with pytest.raises(InputError, match=r"were removed or replaced\. Load or fit it again"):
        again.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


DAMAGE = [
    "recommender.json",
    "ids.parquet",
    "sequences/items.parquet",
    "sequences/manifest.json",
    "model/model.safetensors",
]


@pytest.mark.parametrize("how", ["missing", "changed"])
@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_named_with_its_cure(fitted: Recommender, tmp_path: Path, name: str, how: str) -> None:
    fitted.save(tmp_path / "saved")
    path = tmp_path / "saved" / name
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(b"{}" if name.endswith("recommender.json") else path.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match=path.name) as told:
        Recommender.load(tmp_path / "saved")
    if (name, how) != ("recommender.json", "missing"):
        assert "Save the recommender again, or fit it again." in str(told.value)


def test_a_model_of_another_machine_can_be_loaded(fitted: Recommender, tmp_path: Path) -> None:
    fitted.save(tmp_path / "saved")
    with pytest.raises(ConfigError, match="sees no CUDA device"):
        Recommender.load(tmp_path / "saved", device="cuda")
    assert Recommender.load(tmp_path / "saved", device="cpu").users == fitted.users


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda rec: rec.recommend("u1"), r"users = 'u1': give a list of user ids, such as \['u1'\]"),
        (lambda rec: rec.similar_items(3), r"items = 3: give a list"),
        (lambda rec: rec.recommend(pd.DataFrame({"user_id": ["u"]})), "users is a frame: give one of its columns"),
        (lambda rec: rec.recommend([1, "b"]), "Give ids of one type"),
        (lambda rec: rec.recommend(k=-1), "k = -1: give 0 or more"),
        (lambda rec: rec.similar_items(rec.items[:1], k=-1), "k = -1: give 0 or more"),
        (lambda rec: rec.encode([[1], [2]]), "users are of type"),
    ],
)
def test_questions_that_make_no_sense_get_a_sentence(fitted: Recommender, ask: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ask(fitted)


@pytest.mark.parametrize(
    "frame",
    [None, {"user_id": ["u"]}, pd.DataFrame({"user_id": [1, "b"], "item_id": 1, "event_time": datetime(2024, 1, 1)})],
    ids=["none", "dict", "mixed"],
)
def test_what_is_no_frame_gets_a_sentence(frame: Any) -> None:
    with pytest.raises(InputError, match=r"interactions cannot be read .* Give a pandas, Polars or PyArrow frame"):
        Recommender(SETTINGS).fit(frame)


def test_what_a_pull_would_warn_of_is_logged(events: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="hmamba")
    twice = pd.concat([events.assign(user_id=events.user_id.where(events.user_id != "user-000", "nan"))] * 2)
    settings = {**SETTINGS, "catalogue": {"path": "given", "title": "title"}}
    items = pd.DataFrame({"item_id": ["other"], "title": ["Other"]})
    Recommender(settings).fit(twice, items)
    assert "941 of 1882 rows are copies of another row" in caplog.text
    assert "user 'nan'" in caplog.text
    assert "names no item of the interactions" in caplog.text


def test_the_nights_list_of_items_is_refused(events: pd.DataFrame) -> None:
    settings = {**SETTINGS, "candidates": {"k": 5, "allowed_items": "allowed.csv"}}
    with pytest.raises(ConfigError, match="call recommend with items="):
        Recommender(settings).fit(events)


def test_errors_name_what_is_wrong(fitted: Recommender, events: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Call fit or load"):
        Recommender(SETTINGS).recommend()
    with pytest.raises(InputError, match=r"user 'nobody', 'nor she'"):
        fitted.recommend(["nobody", "nor she"])
    with pytest.raises(InputError, match=r"item 'nothing'"):
        fitted.similar_items(["nothing"])
    with pytest.raises(InputError, match=r"interactions has no column 'item_id'"):
        Recommender(SETTINGS).fit(events.drop(columns="item_id"))
    late = events.assign(item_id=events.item_id.where(events.index != 4))
    with pytest.raises(InputError, match=r"1 of 941 rows of interactions cannot be used.*line 4.*item_id"):
        Recommender(SETTINGS).fit(late)
    with pytest.raises(InputError, match="no rows"):
        Recommender(SETTINGS).fit(events[:0])
    with pytest.raises(ConfigError, match="epoch"):
        Recommender({"train": {"epoch": 3}})
    with pytest.raises(InputError, match=r"holds no saved recommender"):
        Recommender.load(tmp_path / "nowhere")


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, hmamba; print(sorted({'torch', 'duckdb', 'pyarrow', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hmamba.nothing  # noqa: B018
    assert {"Recommender", "open"} <= set(dir(hmamba))


def test_the_example_script_prints_ten_films_for_each_of_three_users() -> None:
    script = Path(__file__).parents[1] / "docs" / "example.py"
    shown = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    best, similar = (part.splitlines()[1:] for part in shown.split(" user_id ")[1].split(" target_item_id "))
    assert len({line.split()[0] for line in best}) == 3
    assert [line.split()[3] for line in best] == [str(rank) for rank in range(1, 11)] * 3
    assert len(similar) == 5
    assert all(line.rstrip().endswith(")") for line in (*best, *similar))  # titles end with the year
