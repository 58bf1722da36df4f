"""The choice of a night's precision and search. That of IVF by its recall is in test_ivf.py."""

from __future__ import annotations

import numpy as np
import pytest

from hmamba.index import choice
from hmamba.index.base import Tuned
from hmamba.index.choice import choose
from hmamba.index.index import ItemIndex
from hmamba.index.matmul import MatmulSearcher
from hmamba.index.precision import Float32Recall
from hmamba.index.registry import SEARCHERS
from tests.histories import histories_of, random_histories
from tests.index.test_precision import WISHES, write_shards
from tests.stored import stored_model


def test_an_ordinary_model_stays_in_float32(tmp_path):
    stored = stored_model(items=300)
    files = write_shards(tmp_path, random_histories(items=300))
    chosen = choose(stored, stored.candidate_items, files, WISHES)
    assert (chosen.float32_recall.depth, chosen.float32_recall.users) == (100, 30)
    assert chosen.float32_recall.share >= 0.999
    assert set(chosen.queries_per_second) == {"flat", "matmul"}
    assert chosen.index.kind == max(chosen.queries_per_second, key=chosen.queries_per_second.get)


def test_searches_are_timed_under_the_conditions_of_scoring(tmp_path, monkeypatch):
    """All users of the sample in one call; seen items are excluded only if scoring excludes them."""
    stored = stored_model(items=300)
    histories = random_histories(items=300)
    files, calls, search = write_shards(tmp_path, histories), [], ItemIndex.search

    def recorded(index, queries, k, excluded=None):
        calls.append((len(queries), k, 0 if excluded is None else len(excluded[0])))
        return search(index, queries, k, excluded)

    monkeypatch.setattr(ItemIndex, "search", recorded)
    pairs = len({(row, item) for row, item in zip(histories.owner, histories.items, strict=True)})
    for exclude_seen in (True, False):
        calls.clear()
        choose(stored, stored.candidate_items, files, WISHES.model_copy(update={"exclude_seen": exclude_seen}))
        timed = [call for call in calls if call[1] == WISHES.k]
        assert set(timed) == {(len(histories), WISHES.k, pairs if exclude_seen else 0)}


def test_without_users_there_is_no_measurement(tmp_path):
    stored = stored_model()
    files = write_shards(tmp_path, histories_of([(0, 99)], [(0, 98)]))
    chosen = choose(stored, stored.candidate_items, files, WISHES)
    assert (chosen.index.kind, chosen.float32_recall.share, chosen.float32_recall.users) == ("flat", None, 0)
    assert chosen.queries_per_second == {}


def speeds_are(monkeypatch, **speeds):
    monkeypatch.setattr(choice, "_speeds", lambda indexes, *_: {name: speeds[name] for name in indexes})


@pytest.fixture
def files(tmp_path):
    return write_shards(tmp_path, random_histories(items=300))


@pytest.mark.parametrize(("speeds", "kind"), [({"flat": 2, "matmul": 1}, "flat"), ({"flat": 1, "matmul": 2}, "matmul")])
def test_the_fastest_exact_search_is_used(files, monkeypatch, speeds, kind):
    speeds_are(monkeypatch, **speeds)
    stored = stored_model(items=300)
    chosen = choose(stored, stored.candidate_items, files, WISHES)
    assert (chosen.index.kind, chosen.queries_per_second, chosen.recall) == (kind, speeds, None)


@pytest.mark.parametrize(("share", "kind"), [(0.999, "flat"), (0.9989, "float64"), (None, "flat")])
def test_float32_must_reach_its_floor(files, monkeypatch, share, kind):
    speeds_are(monkeypatch, flat=2, matmul=1)
    found = Float32Recall(share, 100, 30)
    monkeypatch.setattr(choice.float32_recall, "measure", lambda *_: found)
    stored = stored_model(items=300)
    chosen = choose(stored, stored.candidate_items, files, WISHES)
    assert (chosen.index.kind, chosen.float32_recall) == (kind, found)
    assert chosen.index.vectors.dtype == (np.float64 if kind == "float64" else np.float32)


class Approximate(MatmulSearcher):
    """Finds as much as a test says."""

    name, is_exact = "approximate", False
    recall, trials = 0.5, []

    def tuned(self, trial):
        self.trials.append(trial)
        return Tuned(self.recall, self if self.recall >= trial.floor else None)


@pytest.mark.parametrize(
    ("items", "recall", "speed", "kind", "shown"),
    [
        (300, 0.9, 9, "flat", None),  # no more items than the setting says: it is not tried
        (299, 0.9, 9, "approximate", 0.9),
        (299, 0.9, 1, "flat", 0.9),
        (299, 0.7, 9, "flat", 0.7),
    ],
)
def test_an_approximate_search_is_used_for_many_items_if_it_is_faster_and_good_enough(
    files, monkeypatch, items, recall, speed, kind, shown
):
    for name in [name for name, searcher in SEARCHERS.items() if not searcher.is_exact]:
        monkeypatch.delitem(SEARCHERS, name)
    monkeypatch.setitem(SEARCHERS, Approximate.name, Approximate)
    monkeypatch.setattr(Approximate, "recall", recall)
    monkeypatch.setattr(Approximate, "trials", [])
    speeds_are(monkeypatch, flat=4, matmul=3, approximate=speed)
    stored = stored_model(items=300)
    wishes = WISHES.model_copy(update={"approximate_items": items, "recall": 0.8, "exclude_seen": True})
    chosen = choose(stored, stored.candidate_items, files, wishes)
    assert (chosen.index.kind, chosen.recall) == (kind, shown)
    assert ("approximate" in chosen.queries_per_second) == (shown is not None and shown >= 0.8)
    for trial in Approximate.trials:
        assert (trial.k, trial.floor, trial.seconds) == (20, 0.8, len(trial.queries) / 4)  # of the fastest exact one
        exact = MatmulSearcher(chosen.index.vectors).search(trial.queries, trial.k, trial.excluded)
        assert np.array_equal(trial.columns, exact[1])
    assert len(Approximate.trials) == (0 if items == 300 else 1)


def test_seen_items_of_every_part_of_the_sample_are_excluded():
    stored = stored_model(eligible=[3, 5, 7])
    parts = [histories_of([(0, 3)], []), histories_of([(0, 9), (1, 7), (2, 5)])]
    rows, columns = choice._seen(stored.candidate_items, parts)
    assert (rows.tolist(), stored.candidate_items.eligible[columns].tolist()) == ([0, 2, 2], [3, 5, 7])
