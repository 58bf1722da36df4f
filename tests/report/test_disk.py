from __future__ import annotations

import numpy as np
import pytest

from hmamba.report.disk import OTHER, draw, project
from tests.report.metrics_of_night import lorentz


@pytest.mark.parametrize("k", [0.25, 1.0, 64.0])
def test_distance_to_the_origin_is_kept(generator: np.random.Generator, k: float) -> None:
    distances = generator.uniform(0.05, 4.0, size=500)
    directions = generator.normal(size=(500, 16))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = lorentz(directions * (np.sqrt(k) * np.sinh(distances))[:, None], k).astype(np.float64)
    places, kept = project(points)
    found = 2 * np.arctanh(np.linalg.norm(places, axis=1))
    assert np.abs(found - distances).max() < 1e-3
    assert 0 < kept < 1


def test_points_of_a_plane_keep_their_pairwise_distances(generator: np.random.Generator) -> None:
    """On a two-dimensional subspace through the origin nothing is lost: the disk is an isometry."""
    basis, _ = np.linalg.qr(generator.normal(size=(8, 2)))
    space = (generator.normal(size=(40, 2)) @ basis.T) * 1.2
    points = np.concatenate([np.sqrt(1 + (space**2).sum(1, keepdims=True)), space], axis=1)
    gram = points[:, 1:] @ points[:, 1:].T - np.outer(points[:, 0], points[:, 0])
    true = np.arccosh(np.maximum(-gram, 1.0))
    places, kept = project(points)
    squares = ((places[:, None] - places[None]) ** 2).sum(-1)
    room = 1 - (places**2).sum(-1)
    drawn = np.arccosh(1 + 2 * squares / np.outer(room, room))
    assert kept == pytest.approx(1.0)
    assert np.abs(drawn - true).max() < 1e-5


def test_the_same_points_give_the_same_picture_whatever_their_sign_convention(generator: np.random.Generator) -> None:
    points = lorentz(generator.normal(size=(50, 4)), 1.0).astype(np.float64)
    assert np.array_equal(project(points)[0], project(points.copy())[0])


def test_a_point_at_the_origin_is_drawn_in_the_middle() -> None:
    places, _ = project(np.array([[8.0, 0.0, 0.0], [8.0, 0.0, 0.0]]))
    assert np.array_equal(places, np.zeros((2, 2)))


def test_the_ninth_department_and_all_after_it_share_a_colour(generator: np.random.Generator) -> None:
    departments = [f"d{n:02d}" for n in range(11) for _ in range(20 - n)]
    count = len(departments)
    points = lorentz(generator.normal(size=(count, 4)), 1.0).astype(np.float64)
    drawn = draw(points, ["t"] * count, departments, [1] * count, 999)
    assert [group.name for group in drawn.departments] == [f"d{n:02d}" for n in range(8)] + [OTHER]
    assert [group.colour for group in drawn.departments] == list(range(1, 10))
    assert len(drawn.departments[-1].dots) == 12 + 11 + 10
    assert sum(len(group.dots) for group in drawn.departments) == drawn.shown == count
    assert drawn.items == 999


@pytest.mark.parametrize(("reach", "zoomed"), [(0.05, True), (3.0, False)])
def test_a_crowded_middle_is_magnified(generator: np.random.Generator, reach: float, zoomed: bool) -> None:
    directions = generator.normal(size=(30, 4))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    points = lorentz(directions * np.sinh(reach), 1.0).astype(np.float64)
    drawn = draw(points, ["t"] * 30, ["d"] * 30, [1] * 30, 30)
    assert (drawn.zoom > 1) is zoomed
    furthest = max(np.hypot(dot.x, dot.y) for group in drawn.departments for dot in group.dots)
    assert 0.85 < furthest < 1
    assert drawn.rings
    assert all(0 < ring.radius < 1 for ring in drawn.rings)


def test_more_events_make_a_larger_dot(generator: np.random.Generator) -> None:
    points = lorentz(generator.normal(size=(3, 4)), 1.0).astype(np.float64)
    drawn = draw(points, ["rare", "common", "between"], ["d"] * 3, [1, 100, 25], 3)
    sizes = {dot.title: dot.size for dot in drawn.departments[0].dots}
    assert sizes["rare"] < sizes["between"] < sizes["common"]
