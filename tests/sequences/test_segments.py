"""Counts by segment equal those of pandas, and shares their formula."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hmamba.sequences.files import Snapshot
from hmamba.sequences.segments import Group, Segments
from tests.landing import DAY, Root
from tests.synthetic import make_interactions, write_landing

SETTINGS = """
[snapshot]
shards = 2
[source.columns]
weight = "weight"
[users]
path = "landing/people.csv"
segments = ["club", "country"]
min_users = 5
"""


def people() -> pd.DataFrame:
    """40 users; clubs of 10, 5 and 4 of them, and two countries. Five users have no club, and five are not there."""
    users = [f"user-{number:03d}" for number in range(40)]
    clubs = ["gold"] * 10 + ["silver"] * 5 + ["tiny"] * 4 + [None] * 21
    countries = ["1", "2"] * 20
    frame = pd.DataFrame({"user_id": users, "club": clubs, "country": countries})
    return pd.concat([frame[:35], pd.DataFrame({"user_id": ["nobody"], "club": ["gold"], "country": ["2"]})])


def events() -> pd.DataFrame:
    """One event in nine is of weight 0, which nobody wanted."""
    frame = make_interactions()
    frame.loc[::9, "weight"] = 0.0
    return frame


@pytest.fixture
def files(root: Root) -> Snapshot:
    root.configure(SETTINGS)
    write_landing(root.layout.root, events())
    people().to_csv(root.layout.landing / "people.csv", index=False)
    root.ok("ingest")
    root.ok("snapshot")
    return Snapshot.open(root.layout.run(DAY, "manual"))


def test_groups_are_counted_over_all_shards_and_small_ones_left_out(files: Snapshot) -> None:
    found = Segments.read(files.segments)
    assert (found.columns, found.min_users) == (("club", "country"), 5)
    names = pd.read_parquet(files.items).set_index("item_id").item_index
    wanted = events().query("weight > 0").merge(people(), on="user_id")
    wanted["item_index"] = wanted.item_id.map(names)
    expected = {}
    for column in ("club", "country"):
        for value, part in wanted.groupby(column):
            if part.user_id.nunique() >= 5:
                expected[column, value] = (part.user_id.nunique(), part.item_index.value_counts().to_dict())
    assert set(expected) == {("club", "gold"), ("club", "silver"), ("country", "1"), ("country", "2")}
    groups = {
        key: (group.users, dict(zip(group.items.tolist(), group.events.tolist(), strict=True)))
        for key, group in found.groups.items()
    }
    assert groups == expected


def test_users_have_the_groups_of_their_values(files: Snapshot) -> None:
    found = Segments.read(files.segments)
    shard = next(n for n in range(2) if "user-000" in set(pd.read_parquet(files.described_users(n)).user_id))
    ids = pa.array(["user-000", "user-039", "stranger", "user-000"], pa.large_string())
    codes, groups = found.of_users(ids, files.described_users(shard))
    assert codes.tolist() == [0, 1, 1, 0]
    assert groups == [(found.groups["club", "gold"], found.groups["country", "1"]), ()]
    assert found.of_users(ids, None)[1] == [()]


def test_a_snapshot_without_segments_has_no_such_file(root: Root) -> None:
    root.configure("[snapshot]\nshards = 2\n")
    write_landing(root.layout.root, make_interactions())
    root.ok("ingest")
    root.ok("snapshot")
    files = Snapshot.open(root.layout.run(DAY, "manual"))
    assert (files.segments, files.users_without_events(0)) == (None, None)


def test_a_column_that_is_not_there_is_an_error_that_names_a_close_one(root: Root) -> None:
    root.configure(SETTINGS.replace('"club", "country"', '"klub"'))
    write_landing(root.layout.root, make_interactions())
    people().to_csv(root.layout.landing / "people.csv", index=False)
    root.ok("ingest")
    code, _, log = root.step("snapshot")
    assert code == 2
    assert "users.segments names the column 'klub', which the users file does not have. Is 'club' meant?" in log
    root.configure(SETTINGS.replace('"club", "country"', '"club"'))
    root.ok("snapshot")


def test_shares_shrink_towards_the_next_group_and_all_users() -> None:
    counts = np.array([0, 60, 30, 10, 0, 1])
    narrow = Group(np.array([2, 4, 9]), np.array([3, 50, 7]), users=6)
    wide = Group(np.array([1, 3]), np.array([1, 3]), users=18)
    segments = Segments(("a", "b"), 6, {})
    overall = counts / 101
    second = (18 * np.array([0, 0.25, 0, 0.75, 0, 0]) + 6 * overall) / 24
    first = (6 * np.array([0, 0, 1, 0, 0, 0]) + 6 * second) / 12
    assert segments.shares((), counts).tolist() == overall.tolist()
    np.testing.assert_allclose(segments.shares((wide,), counts), second)
    np.testing.assert_allclose(segments.shares((narrow, wide), counts), first)
    assert first.sum() == pytest.approx(1)
    assert ((first > 0) == (counts > 0)).all()


def test_a_group_that_takes_nothing_that_may_be_recommended_counts_for_nothing() -> None:
    counts = np.array([0, 1, 3])
    group = Group(np.array([7]), np.array([1]), users=100)
    assert Segments(("a",), 6, {}).shares((group,), counts).tolist() == (counts / 4).tolist()
