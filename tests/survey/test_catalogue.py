"""The file that describes the items, among several that look like it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from hmamba.storage.layout import Layout
from tests.survey.proposals import proposed, table, why, write


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
