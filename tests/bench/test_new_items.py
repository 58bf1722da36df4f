"""New and rare items: the baselines by hand, and a table of the command."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from bench.new_items import POPULAR, RANDOM, header_of, lines_of, measure_new, popular_in_category, split_items
from bench.protocols import TEST, launch_late, leave_one_out
from hmamba.sequences.candidate_items import CandidateItems
from tests.bench.files import order_data
from tests.histories import histories_of


def test_items_of_the_most_frequent_category_come_first_and_popular_ones_first_in_it():
    past = histories_of([(0, 1), (1, 2), (2, 5)], [(0, 5)])
    category = np.array([0, 1, 1, 1, 1, 2, 2, 3])
    popularity = np.array([0, 5, 4, 0, 9, 3, 3, 8])
    every = CandidateItems.only(np.arange(1, 8), 8)
    shown = popular_in_category(past, category, popularity, every, 7, exclude_seen=False)
    assert shown.tolist() == [[4, 1, 2, 3, 5, 6, 7], [5, 6, 4, 7, 1, 2, 3]]
    unseen = popular_in_category(past, category, popularity, every, 4, exclude_seen=True)
    assert unseen.tolist() == [[4, 3, 6, 7], [6, 4, 7, 1]]


def test_items_that_are_launched_late_have_no_training_events(tmp_path):
    data = order_data(tmp_path, users=60)
    late = launch_late(data, 0.3)
    experiment = leave_one_out(late, 50)
    gone = data.histories.item_events(data.size) - late.histories.item_events(data.size) > 0
    assert gone.any()
    assert late.histories.lengths.min() >= 3
    assert (experiment.train.item_events(data.size) == 0)[experiment.exams[TEST].evaluation_set.items].any()
    assert launch_late(data, 0.3).histories.items.tolist() == late.histories.items.tolist()
    assert launch_late(data, 0.0).histories.events == data.histories.lengths[data.histories.lengths >= 3].sum()


def test_hits_are_counted_by_the_number_of_training_events(tmp_path):
    """A model that ranks new items in the order of their index, and others not at all."""
    experiment = leave_one_out(launch_late(order_data(tmp_path, users=60), 0.3), 50)
    exam = experiment.exams[TEST]
    size = experiment.size
    known, new = split_items(experiment, sp.csr_array(np.ones((size, 1), dtype=np.float32)))
    events = experiment.train.item_events(size)
    assert not events[new.eligible].any()
    assert events[known.eligible].all()
    queries = len(exam.evaluation_set)

    def rank(exam, exclude_seen):
        nothing = np.full((queries, 1), -1), np.full((queries, 1), -np.inf, dtype=np.float32)
        items = np.tile(new.eligible, (queries, 1))
        return nothing, (items, -np.arange(len(new), dtype=np.float32) * np.ones((queries, 1), dtype=np.float32))

    measured = measure_new(experiment, exam, rank, new, np.zeros(size, dtype=np.int64))
    few = events[exam.evaluation_set.items]
    assert measured[RANDOM]["0"]["queries"] == (few == 0).sum()
    for share in ("0", "0.2"):
        assert measured[f"HMamba, share {share}"]["0"]["hr"] == 1.0
        assert measured[f"HMamba, share {share}"]["1 to 5"]["hr"] == 0.0
    assert measured[POPULAR]["0"]["hr"] == pytest.approx(1.0)  # fewer items than places
    assert measured[RANDOM]["0"]["hr"] == pytest.approx(1.0)
    header, lines = header_of([measured]), lines_of([measured, measured])
    assert all(len(line) == len(header) for line in lines)
    assert lines[0][:2] == ["queries", str((few == 0).sum())]


def test_chance_is_the_share_of_the_unseen_items(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.new_items.DEPTH", 2)
    experiment = leave_one_out(order_data(tmp_path), 50)
    exam, size = experiment.exams[TEST], experiment.size
    known, new = split_items(experiment, None)
    assert len(new) == 0

    def rank(exam, exclude_seen):
        empty = np.zeros((len(exam.evaluation_set), 0))
        return (empty.astype(np.int64), empty.astype(np.float32)), (empty.astype(np.int64), empty.astype(np.float32))

    measured = measure_new(experiment, exam, rank, new, np.zeros(size, dtype=np.int64))
    left = len(known) - exam.evaluation_set.past.lengths
    few = experiment.train.item_events(size)[exam.evaluation_set.items] <= 5
    assert measured[RANDOM]["0 to 5"]["hr"] == pytest.approx((2 / left[few]).mean())
