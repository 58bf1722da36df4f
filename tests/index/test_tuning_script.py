"""Which search parameters are chosen, on an index whose recall at each of them is said beforehand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from hmamba.index.base import Trial, Tuned
from hmamba.index.tuning import START, SearchParameters, tune

QUERIES, K, FLOOR = 40, 16, 0.875  # shares of 16 items are exact
ASKED = np.zeros((QUERIES, 3)), K, (np.array([0, 1]), np.array([7, 8]))
"""Queries, items wanted, and entries to leave out."""
BEST = np.tile(np.linspace(1, 0.5, K), (QUERIES, 1)), np.tile(np.arange(K), (QUERIES, 1))


@dataclass
class Scripted:
    """1,000 lists of 100 items; a search finds the given shares of the best items, for even and for odd queries."""

    shares: dict[tuple[int, int], tuple[float, float]]
    parameters: SearchParameters = START
    tried: list[tuple[int, int]] = field(default_factory=list)
    nlist, items = 1_000, 100_000

    @property
    def vectors(self) -> range:
        return range(self.items)

    def with_parameters(self, parameters: SearchParameters) -> Scripted:
        return replace(self, parameters=parameters)

    def search(self, *asked):
        assert all(seen is given for seen, given in zip(asked, ASKED, strict=True))
        self.tried.append((self.parameters.nprobe, self.parameters.k_factor))
        found = BEST[1] + K
        for odd, share in enumerate(self.shares.get(self.tried[-1], (0.5, 0.5))):
            found[odd::2, : round(share * K)] -= K
        return BEST[0], found


def tuned(shares: dict[tuple[int, int], tuple[float, float]], **sizes: int) -> tuple[Tuned, Scripted]:
    index = Scripted(shares)
    for name, value in sizes.items():
        setattr(index, name, value)
    return tune(index, Trial(*ASKED, *BEST, FLOOR, seconds=10)), index


def both(share: float) -> tuple[float, float]:
    return share, share


def test_more_lists_are_chosen_where_they_need_less_work():
    found, index = tuned({(4, 2): both(0.75), (4, 4): both(0.9375), (6, 2): both(0.875), (9, 2): both(1.0)})
    assert index.tried == [(3, 2), (3, 4), (4, 2), (4, 4), (6, 2), (9, 2)]
    assert (found.searcher.parameters, found.recall) == (SearchParameters(6, 2), 0.875)


def test_the_first_is_kept_where_more_lists_only_mean_more_work():
    found, index = tuned({(4, 2): both(0.9375), (6, 2): both(1.0), (9, 2): both(1.0), (13, 2): both(1.0)})
    assert index.tried == [(3, 2), (3, 4), (4, 2), (6, 2), (9, 2)]
    assert (found.searcher.parameters, found.recall) == (SearchParameters(4, 2), 0.9375)


def test_lists_without_enough_recall_count_among_those_that_are_compared():
    found, index = tuned({(3, 2): both(0.625), (3, 4): both(0.6875), (3, 8): both(0.875), (9, 2): both(1.0)})
    assert index.tried == [(3, 2), (3, 4), (3, 8), (4, 2), (4, 4), (6, 2), (6, 4)]
    assert found.searcher.parameters == SearchParameters(3, 8)


def test_work_is_counted_in_items_of_lists_and_in_products():
    """2 k products more cost as much as 1,024 codes, which 10 lists hold: 9 lists more are less work, 14 are not."""
    shares = {(19, 2): both(0.625), (19, 4): both(0.9375), (28, 2): both(0.9375), (42, 2): both(0.9375)}
    assert tuned(shares)[0].searcher.parameters == SearchParameters(28, 2)
    shares = {(28, 2): both(0.625), (28, 4): both(0.9375), (42, 2): both(0.9375)}
    assert tuned(shares)[0].searcher.parameters == SearchParameters(28, 4)


@pytest.mark.parametrize(("shares", "enough"), [((0.875, 0.875), True), ((1.0, 0.8125), False), ((0.8125, 1.0), False)])
def test_both_halves_of_the_queries_have_to_reach_the_floor(shares, enough):
    found, index = tuned({(4, 2): shares, (4, 4): shares})
    assert (found.searcher is not None) == enough
    assert (found.recall, index.tried[2:4]) == (0.875, [(4, 2), (6, 2)]) if enough else found.recall == 0.5


def test_all_lists_are_tried_before_the_search_is_given_up():
    found, index = tuned({})
    assert (found.searcher, found.recall) == (None, 0.5)
    cells = [tried for tried, _ in index.tried]
    assert cells == sorted(cells)
    assert 666 < cells[-1] <= 1_000


def test_re_ranking_more_is_tried_as_long_as_it_finds_more():
    _, index = tuned({(3, 2): both(0.5), (3, 4): both(0.5625), (3, 8): both(0.625), (3, 16): both(0.6875)})
    assert index.tried[:5] == [(3, 2), (3, 4), (3, 8), (3, 16), (4, 2)]


def test_of_equal_work_the_fewest_lists_are_chosen():
    """A list of 512 items is as much work as 16 K products."""
    shares = {(2, 2): both(0.5), (2, 4): both(0.9375), (4, 2): both(1.0)}
    assert tuned(shares, nlist=512, items=512 * 512)[0].searcher.parameters == SearchParameters(2, 4)


@pytest.mark.parametrize(
    ("sizes", "first"),
    [({}, 3), ({"nlist": 10_000}, 39), ({"nlist": 100}, 1), ({"nlist": 1}, 1), ({"items": 5_000}, 12)],
)
def test_the_first_lists_are_one_in_256_or_more_with_four_times_k_items(sizes, first):
    assert tuned({}, **sizes)[1].tried[0] == (first, 2)


def test_items_that_are_fewer_than_four_times_k_are_not_searched_by_lists():
    found, index = tuned({}, items=4 * K - 1)
    assert (found, index.tried) == (Tuned(0.0, None), [])


def test_a_search_that_is_slower_than_the_exact_one_is_the_last():
    index = Scripted({})
    assert tune(index, Trial(*ASKED, *BEST, FLOOR, seconds=0)) == Tuned(0.5, None)
    assert index.tried == [(3, 2)]
