"""Comparisons and the page from planted arrays: no model is trained."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.geometry.compare import COVERAGE, DIVERSITY, GINI, RARE_ANSWERS, Compared, Facts, Trained
from bench.geometry.measures import Difference
from bench.geometry.page import by_popularity, difference, distances, page, verdict
from bench.geometry.trained import ENCODER, PARTS, TOP, WHOLE
from bench.protocols import TEST, leave_one_out
from tests.bench.files import order_data

SEEDS = (1, 2, 3)


@pytest.fixture
def experiment(tmp_path):
    data = order_data(tmp_path, users=60)
    ids = [None if each is None else str(each) for each in data.ids.to_pylist()][1:]
    paths = [["all", f"c{n % 3}"] for n in range(len(ids))]
    items = {"item_id": pa.array(ids), "categories": pa.array(paths, pa.list_(pa.string()))}
    pq.write_table(pa.table(items), data.items)
    return leave_one_out(data, 50)


def planted(experiment, variant, seed, **arrays):
    """A training whose answers are all first with Full and third with the twin, and whose lists are items 1 to 10."""
    truth = experiment.exams[TEST].evaluation_set
    users = len(truth.past)
    rank = 1 if variant == "full" else 3
    usual = {f"ranks {part}": np.full(len(truth.items), rank) for part in PARTS}
    usual |= {f"top {part}": np.tile(np.arange(1, TOP + 1), (users, 1)) for part in PARTS}
    usual |= {"user radius": np.ones(users), "item radius": np.arange(experiment.size, dtype=float)}
    result = {
        "seed": seed,
        "settings": {"model.variant": variant},
        "commit": "c",
        "date": "d",
        "machine": "m",
        "epochs": [{"seconds": 9.0}] * 3,
        "cpu_seconds": [9.0, 2.0, 1.0],
        "best_epoch": 1,
        "seconds": 12.0,
        "parameters": 7,
        "curvature": 0.25,
    }
    return Trained(variant, 8, seed, result, {**usual, **arrays})


def both(experiment, **of_euclidean):
    trainings = [planted(experiment, "full", seed) for seed in SEEDS]
    trainings += [planted(experiment, "euclidean", seed, **of_euclidean) for seed in SEEDS]
    return Compared(trainings, Facts(experiment))


def line(text, start):
    (found,) = [each for each in text.splitlines() if each.startswith(f"| {start} |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_differences_are_full_minus_euclidean_and_counted(experiment):
    compared = both(experiment)
    text = verdict(compared)
    assert line(text, f"{WHOLE}: NDCG@10")[1] == "**+0.5000** ± 0.0000 / 0.0000"
    assert line(text, f"{ENCODER}: R@100")[1] == "+0.0000 ± 0.0000 / 0.0000"
    assert line(text, f"{WHOLE}: {COVERAGE}")[1] == "+0.0000 ± - / 0.0000"
    assert line(text, "CPU seconds of an epoch: Full / Euclidean")[1] == "1.000"
    # NDCG@10 over all answers and over rare ones, of both parts.
    assert "4 are clearly in favour of Full and 0 clearly" in text
    assert f"{WHOLE}: {DIVERSITY}" in text


def test_an_even_exposure_is_in_favour(experiment):
    """The twin shows other items to each user, so that its Gini is lower, its coverage and diversity larger."""
    users = len(experiment.exams[TEST].evaluation_set.past)
    eligible = experiment.candidate_items.eligible
    even = eligible[(np.arange(users)[:, None] + np.arange(TOP)) % len(eligible)]
    compared = both(experiment, **{f"top {part}": even for part in PARTS})
    full, twin = (compared.summary(compared.of(name, 8)[0], WHOLE) for name in ("full", "euclidean"))
    assert full[COVERAGE][0] == pytest.approx(TOP / len(eligible))
    assert full[GINI][0] == pytest.approx(1 - TOP / len(eligible))
    assert twin[COVERAGE][0] == 1.0
    assert twin[GINI][0] < full[GINI][0]
    # The Gini and the coverage of both parts; those of diversity differ by user.
    text = verdict(compared)
    assert "**" in line(text, f"{WHOLE}: {GINI}")[1]
    assert int(text.rpartition(" clearly in favour of the Euclidean twin")[0].rpartition(" ")[2]) >= 4


def test_groups_hold_all_answers_from_the_least_popular(experiment):
    compared = both(experiment)
    groups = compared.facts.by_popularity
    assert sum(group.answers.astype(int) for group in groups).tolist() == [1] * len(groups[0].answers)
    events = compared.facts.events[compared.facts.exam.evaluation_set.items]
    highest = [events[group.answers].max() for group in groups]
    assert all(events[group.answers].min() > most for group, most in zip(groups[1:], highest[:-1], strict=True))
    text = by_popularity(compared, WHOLE, 8)
    assert line(text, groups[0].name)[1] == str(int(groups[0].answers.sum()))
    rare = line(text, RARE_ANSWERS.removeprefix("answers with "))
    assert rare[1] == str(int((events <= 5).sum()))
    assert rare[2:5] == ["1.0000", "0.5000", "**+0.5000** ± 0.0000 / 0.0000"]


def test_radii_are_correlated_with_ranks_and_users(experiment):
    """The twin's users are the better served the nearer they are; its items the more popular the nearer they are."""
    facts = Facts(experiment)
    truth = facts.exam.evaluation_set
    ranks = np.random.default_rng(0).permutation(len(truth.items)) + 1
    far = {"user radius": ranks.astype(float), "item radius": -facts.users.astype(float)}
    compared = both(experiment, **far, **{f"ranks {part}": ranks for part in PARTS})
    (measures, *_) = compared.of("euclidean", 8)
    assert measures.of_users(WHOLE)[0].rho == pytest.approx(-1)
    users, given, entropy, _ = measures.of_items()
    assert users.rho == pytest.approx(-1)
    assert np.isnan(given.rho)  # each user takes an item once here
    assert np.isfinite(entropy.rho)
    text = distances(compared)
    cells = [each for each in text.splitlines() if each.startswith("| 8 | euclidean")]
    assert "-1.000 (-1.000 to -1.000)" in cells[0]
    assert "1 (1 to 1)" in next(each for each in text.splitlines() if each.startswith("| 8 | full"))


def test_only_seeds_of_both_variants_are_compared(experiment):
    trainings = [planted(experiment, "full", seed) for seed in SEEDS] + [planted(experiment, "euclidean", 2)]
    compared = Compared(trainings, Facts(experiment))
    found = compared.summary_difference(8, WHOLE, "NDCG@10")
    assert (found.mean, found.count) == (0.5, 1)
    assert "nothing can be told from chance" in verdict(compared)
    text = page("# Title", "conditions", Compared(trainings[:1], Facts(experiment)))
    assert f"| {WHOLE}: NDCG@10 |" not in text
    assert "d = 8, full, K = 4 at the end" in text
    assert [each.epoch_seconds for each in compared.of("full", 8)] == [2.0] * 3


def test_a_difference_without_an_error_of_one_kind_has_a_dash():
    assert difference(Difference(0.5, float("nan"), 0.25, 2)) == "+0.5000 ± - / 0.2500"
    assert difference(Difference()) == "-"
