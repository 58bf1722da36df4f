"""The library: recommendations from every kind of data frame, and from a saved folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
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
    polars = pytest.importorskip("polars")
    found = Recommender(SETTINGS).fit(polars.from_pandas(events)).recommend()
    assert isinstance(found, polars.DataFrame)
    assert found.to_dicts() == fitted.recommend().to_dict("records")


def test_ids_keep_their_type(events: pd.DataFrame) -> None:
    numbered = events.assign(
        user_id=events.user_id.astype("category").cat.codes.astype("int64") + 1000,
        item_id=events.item_id.astype("category").cat.codes.astype("int32"),
    )
    found = Recommender(SETTINGS).fit(numbered).recommend([1000, 1001])
    assert (found.user_id.dtype, found.item_id.dtype) == (np.int64, np.int32)
    assert found.user_id.unique().tolist() == [1000, 1001]


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
    with pytest.raises(InputError, match=r"config\.json does not exist"):
        Recommender.load(tmp_path / "nowhere")


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, hmamba; print(sorted({'torch', 'duckdb', 'pyarrow', 'numpy', 'pydantic'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hmamba.nothing  # noqa: B018
    assert {"Recommender", "open"} <= set(dir(hmamba))
