"""Files as a source: an empty landing folder, and files that do not lie where they should."""

from __future__ import annotations

import pytest

from tests.landing import Root
from tests.synthetic import make_catalogue, make_interactions, write_landing


def write_products(root: Root) -> None:
    path = root.layout.landing / "products" / "p.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    make_catalogue().to_csv(path, index=False)


@pytest.mark.parametrize("settings", ["", '[source]\npath = "landing/interactions/*.csv"\n'])
def test_an_empty_landing_folder_says_what_was_looked_for_and_where(root: Root, settings: str) -> None:
    root.configure(settings)
    folder = root.landing()
    code, _, log = root.step("ingest")
    assert code == 2
    assert f"{folder}" in log
    assert "names that end in .parquet, .csv, .json, .jsonl, .ndjson" in log
    assert "source.path = 'landing/interactions" in log
    assert not root.layout.warehouse.exists()


def test_a_catalogue_alone_is_nothing_to_start_from(root: Root) -> None:
    root.configure('[catalogue]\npath = "landing/products"\n')
    root.landing()
    write_products(root)
    code, _, log = root.step("ingest")
    assert (code, "Nothing to start from" in log, "Outside of it" in log) == (2, True, False)
    assert not root.layout.warehouse.exists()


@pytest.mark.parametrize("is_made", [True, False], ids=["empty", "absent"])
def test_files_beside_the_landing_folder_are_pointed_out(root: Root, is_made: bool) -> None:
    if is_made:
        root.landing()
    root.layout.landing.mkdir(parents=True, exist_ok=True)
    make_interactions().to_csv(root.layout.landing / "events.csv", index=False)
    make_interactions().to_parquet(root.layout.root / "more.parquet", index=False)
    code, _, log = root.step("ingest")
    assert code == 2
    assert str(root.layout.landing / "interactions") in log
    assert "Outside of it lies more.parquet, landing/events.csv: move files of interactions there" in log


def test_a_folder_one_level_too_high_names_the_right_one(root: Root) -> None:
    root.configure('[source]\npath = "landing"\n')
    write_products(root)
    write_landing(root.layout.root, make_interactions())
    code, _, log = root.step("ingest")
    assert code == 2
    assert "landing/products/p.csv has no column 'user_id'" in log
    assert "Files that have it lie in landing/interactions: if landing/products holds something else" in log
    assert "set source.path = 'landing/interactions'" in log


def test_a_file_that_is_none_of_interactions_says_why_it_was_read(root: Root) -> None:
    root.configure('[source]\npath = "landing"\n')
    write_products(root)
    code, _, log = root.step("ingest")
    assert (code, "It was read because source.path = 'landing' includes it" in log) == (2, True), log
