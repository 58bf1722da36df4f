"""SASRec and a kNN merged: the order of merging, the choice of the kNN, and rankings that outlive the training."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

from bench import accuracy, floors, merged
from bench.protocols import leave_one_out
from bench.store import Store
from tests.bench.files import order_data, order_only
from tests.bench.test_accuracy import STAND_IN, cells, stand_in

HEADING = "test, all users, unmasked"


def test_items_are_taken_in_turn_each_once():
    first = np.array([[1, 2, 3, 4], [1, 2, -1, -1], [5, 6, 7, 8], [-1, -1, -1, -1], [-1, -1, -1, -1]])
    second = np.array([[9, 1, 2, 8], [1, 2, 3, -1], [5, 6, 7, 8], [3, 2, 1, 4], [-1, -1, -1, -1]])
    expected = [[1, 9, 2, 3], [1, 2, 3, -1], [5, 6, 7, 8], [3, 2, 1, 4], [-1, -1, -1, -1]]
    assert merged.interleave(first, second).tolist() == expected
    assert merged.interleave(second, first)[0].tolist() == [9, 1, 2, 3]


def test_the_ranking_that_begins_keeps_every_other_place_as_long_as_nothing_is_shared():
    first, second = np.arange(100)[None] + 1, np.arange(100)[None] + 1001
    assert merged.interleave(first, second)[0].tolist() == [n for k in range(50) for n in (1 + k, 1001 + k)]


def test_the_knn_is_chosen_by_recall_on_validation(tmp_path):
    experiment = leave_one_out(order_data(tmp_path), None)

    def run(validation, test):
        def views(value):
            return {"all users": {"masked": {"recall@100": value}, "unmasked": {"recall@100": 1 - value}}}

        return {"measured": {"validation": views(validation), "test": views(test)}}

    assert merged.better({"item-kNN": run(0.3, 0.1), "V-SKNN": run(0.2, 0.9)}, experiment) == "item-kNN"
    assert merged.better({"item-kNN": run(0.3, 0.9), "V-SKNN": run(0.4, 0.1)}, experiment) == "V-SKNN"


@pytest.mark.parametrize("name", ["item-kNN", "V-SKNN"])
def test_a_knn_ranks_as_it_did_when_its_settings_were_chosen(tmp_path, name):
    experiment = leave_one_out(order_data(tmp_path), None)
    settings, rank = floors.floor(name, experiment)
    before = merged.rankings(experiment, lambda _, exam: rank(exam))
    after = merged.knn_rankings(name, settings, experiment)
    assert set(after) == {"validation masked", "validation unmasked", "test masked", "test unmasked"}
    for which, ranked in before.items():
        np.testing.assert_array_equal(after[which], ranked)


@pytest.fixture
def page(tmp_path, capsys):
    """Runs the command with a stand-in for SASRec that ranks the validation's answer first; returns the page."""
    data, python = order_only(tmp_path / "order.parquet"), stand_in(tmp_path, STAND_IN.format(python=sys.executable))

    def call(systems, *options):
        places = ["--work", str(tmp_path / "work"), "--peers-python", python, "--print-only"]
        fixed = ["--peer-set", "dropout_rate=0.3", "--peer-set", "lr=0.01"]
        assert accuracy.main([str(data), "--systems", systems, *places, *fixed, *options]) == 0
        return capsys.readouterr().out

    return call


def test_the_row_has_what_either_ranking_finds(page):
    """The stand-in finds the answers of validation; the kNN, which ranks all items, those of the test."""
    text = page("floors,sasrec", "--split", "validation")
    row = cells(text, "validation, all users, unmasked", "SASRec + ")
    assert row[0].endswith(", merged")
    assert float(row[1]) == pytest.approx(
        float(cells(text, "validation, all users, unmasked", "SASRec (R")[1]), abs=0.1
    )
    tested = page("floors,sasrec")
    knn = row[0].removeprefix("SASRec + ").removesuffix(", merged")
    assert float(cells(tested, HEADING, "SASRec + ")[10]) == float(cells(tested, HEADING, knn)[10]) == 1.0
    assert float(cells(tested, HEADING, "SASRec (RecTools)")[10]) == 0.0
    assert "SASRec first" not in cells(tested, "Runs", "SASRec + ")[0]
    assert f"kNN = {knn}" in cells(tested, "Runs", "SASRec + ")[-1]


def test_a_finished_run_is_merged_without_another_training(page, tmp_path, monkeypatch):
    """Rankings that the process left in its folder are enough; without any, the row says how to get them."""
    page("sasrec")
    finished, moved = tmp_path / "work" / "finished", tmp_path / "moved"
    (arrays,) = finished.glob("*.npz")
    shutil.move(arrays, moved)
    monkeypatch.setattr("bench.systems.run_sasrec", lambda *_, **__: pytest.fail("trained again"))
    missing = cells(page("floors,sasrec"), HEADING, "SASRec + ")
    assert "not run: rankings of SASRec are not stored; --again" in missing[0]
    assert set(missing[1:]) == {"-"}
    shutil.move(moved, arrays)
    first = cells(page("floors"), HEADING, "SASRec + ")
    assert float(first[10]) == 1.0
    shutil.rmtree(finished.parent / "under-way", ignore_errors=True)
    arrays.unlink()
    assert cells(page("hmamba", "--set", "train.epochs=1"), HEADING, "SASRec + ") == first


def test_rankings_left_in_the_folder_of_a_finished_run_are_kept(page, tmp_path, monkeypatch):
    """A command that was killed between the result and the cleaning leaves the folder."""
    with monkeypatch.context() as patch:
        patch.setattr("bench.store.shutil.rmtree", lambda *_, **__: None)
        page("sasrec")
    (arrays,) = (tmp_path / "work" / "finished").glob("*.npz")
    arrays.unlink()
    assert float(cells(page("floors"), HEADING, "SASRec + ")[10]) == 1.0
    assert arrays.exists()


def test_our_recall_is_divided_by_the_merged_one(page):
    text = page(
        "floors,sasrec,hmamba", "--set", "train.epochs=1", "--set", "model.dim=16", "--set", "model.head_dim=16"
    )
    ours, theirs = (float(cells(text, HEADING, name)[10]) for name in ("HMamba", "SASRec + "))
    (ratio,) = {
        line.rpartition("R@100 ")[2].rstrip(".")
        for line in text.partition(f"## {HEADING}")[2].partition("\n## ")[0].splitlines()
        if line.startswith("HMamba (tuned) divided by SASRec + ")
    }
    assert float(ratio) == pytest.approx(ours / theirs, abs=1e-3)


def test_arrays_of_a_run_are_read_as_they_were_written(tmp_path):
    store, identity = Store(tmp_path), {"system": "x"}
    assert store.arrays(identity) is None
    store.keep_arrays(identity, {"test masked": np.arange(6, dtype=np.int32).reshape(2, 3)})
    store.keep(identity, {"value": 1})
    found = Store(tmp_path).arrays(identity) or {}
    assert found["test masked"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert [run["value"] for run in Store(tmp_path).finished()] == [1]
