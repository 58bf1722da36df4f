"""The ranker: what its trees read, the order that they make, and the files that they leave."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from hmamba.errors import ConfigError, InputError
from hmamba.ranker import Known, Ranker, Shortlist, lightgbm, values_of


class Trees:
    """Stands for a booster: the correction is one of the values."""

    def __init__(self, column):
        self.column = column

    def predict(self, values, raw_score):
        assert raw_score
        return values[:, self.column].astype(np.float64)


def small():
    return Shortlist.of_table(
        np.array([[4, 2, 7], [1, 0, 3]]), np.array([[3.0, 2.0, 1.0], [5.0, -np.inf, -np.inf]], dtype=np.float32)
    )


def test_entries_without_a_score_are_no_entries():
    shortlist = small()
    assert shortlist.rows.tolist() == [0, 0, 0, 1]
    assert shortlist.columns.tolist() == [4, 2, 7, 1]
    assert shortlist.places.tolist() == [0, 1, 2, 0]
    assert shortlist.best(2).columns.tolist() == [4, 2, 1]


def test_values_equal_their_definition():
    of_item = np.arange(16, dtype=np.float32).reshape(8, 2)
    known = Known(np.array([7, 2, 9, 15]), np.array([[10], [20], [30], [40]], dtype=np.float32))
    values = values_of(small(), np.array([2.5, 2, 0, 4]), np.array([3, 0]), of_item, known, 8)
    nan, log4 = np.nan, np.log(4).astype(np.float32)
    np.testing.assert_array_equal(
        values,
        np.array(
            [
                [0, -0.5, 0, log4, 8, 9, nan],
                [-1, -1, 1, log4, 4, 5, 20],
                [-2, -3, 2, log4, 14, 15, 10],
                [0, -1, 0, 0, 2, 3, 30],
            ],
            dtype=np.float32,
        ),
    )
    assert values_of(small(), np.zeros(4), np.zeros(2), of_item, None, 8).shape == (4, 6)


def test_the_corrected_order_stays_within_its_row():
    corrected = Ranker(Trees(0), 3).corrected(small(), np.array([[0], [5], [2], [-9]], dtype=np.float32))
    assert corrected.rows.tolist() == [0, 0, 0, 1]
    assert corrected.columns.tolist() == [2, 4, 7, 1]  # 7, then two equal scores in the order of the columns
    assert corrected.scores.tolist() == [7, 3, 3, -4]


def grown():
    module, random = lightgbm(), np.random.default_rng(0)
    values = random.random((400, 3)).astype(np.float32)
    data = module.Dataset(values, values[:, 1] > 0.5, group=[10] * 40)
    return Ranker(module.train({"objective": "lambdarank", "verbose": -1, "num_threads": 1}, data, 3), 17), values


def test_saved_trees_correct_the_same(tmp_path):
    ranker, values = grown()
    ranker.save(tmp_path)
    loaded = Ranker.load(tmp_path, ranker.depth)
    assert loaded.depth == 17
    shortlist = Shortlist(np.repeat(np.arange(40), 10), np.tile(np.arange(10), 40), np.tile(-np.arange(10.0), 40))
    one, other = ranker.corrected(shortlist, values), loaded.corrected(shortlist, values)
    np.testing.assert_array_equal(one.columns, other.columns)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert (one.columns != shortlist.columns).any()


@pytest.mark.parametrize("damage", ["", "tree\nversion=v4\nnum_class=1", None])
def test_damaged_trees_are_named_with_a_cure(tmp_path, damage):
    grown()[0].save(tmp_path)
    (file,) = tmp_path.iterdir()
    file.unlink()
    if damage is not None:
        file.write_text(damage)
    with pytest.raises(InputError, match=r"ranker\.txt is missing or damaged .*--full-retrain"):
        Ranker.load(tmp_path, 10)


def test_a_missing_package_is_named_with_a_cure(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    cure = r'A ranker needs the package lightgbm .*hmamba-nightly\[rank\].* "none" and run a night with --full-retrain'
    with pytest.raises(ConfigError, match=cure):
        lightgbm()
    with pytest.raises(InputError, match=cure):  # as other faults of a stored model
        Ranker.load(tmp_path, 10)
