"""The picture of a catalogue, and the figures beside it, on catalogues whose structure is known."""

from __future__ import annotations

import re
from pathlib import Path

import geoopt
import numpy as np
import pytest
import torch
from PIL import Image

from bench import disk, hierarchy
from hmamba.model import lorentz
from hmamba.storage.layout import Layout
from tests.report.night import publish, write_night
from tests.synthetic import make_catalogue, make_interactions


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published night whose departments each have a direction, and whose popular items lie near the origin."""
    layout = Layout.at(tmp_path_factory.mktemp("picture"))
    candidate_items = make_catalogue()
    candidate_items["category_path"] = [
        list(row) for row in candidate_items[["department", "category"]].itertuples(index=False)
    ]
    write_night(layout, make_interactions(), candidate_items)
    publish(layout)
    return layout.root


def planted(random: np.random.Generator, spread: float) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """Four departments of three types of 20 items: points with K = 1 and category paths."""
    paths = [(f"d{d}", f"d{d} t{t}") for d in range(4) for t in range(3) for _ in range(20)]
    directions = {name: random.normal(size=6) for path in paths for name in path}
    tangents = np.array([directions[a] + 0.5 * directions[b] for a, b in paths]) + spread * random.normal(size=(240, 6))
    return lorentz.exp0(torch.from_numpy(tangents), K=1.0).numpy(), paths


def test_a_picture_and_its_figures(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "images" / "disk.png"
    assert disk.main(["--root", str(root), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert out.stat().st_size < 400_000
    with Image.open(out) as image:
        assert (image.width, image.height) == (13 * 150, 1110)
        shown = {colour for _, colour in image.convert("RGB").getcolors(2**24) or []}
    for colour in disk.COLOURS[:4]:  # four departments
        exact = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)])
        assert min(np.abs(np.array(other) - exact).max() for other in shown) <= 8
    rho = float(said.partition("Spearman's rho of distance and events: ")[2].split(";")[0])
    assert rho < -0.9
    row = next(line for line in said.splitlines() if line.startswith("| level 1 |"))
    near, chance = (float(cell) for cell in re.findall(r"([\d.]+)%", row))
    assert near > 2 * chance


def test_a_root_that_has_not_published_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert disk.main(["--root", str(tmp_path), "--out", str(tmp_path / "x.png")]) == 2
    assert "latest.json does not exist" in caplog.text


def test_the_centroid_has_the_least_squared_lorentzian_distance_to_its_points() -> None:
    generator = torch.Generator().manual_seed(0)
    points = lorentz.exp0(torch.randn(30, 5, generator=generator, dtype=torch.float64), K=1.0)
    centre = torch.from_numpy(hierarchy.centroid(points.numpy()))
    around = centre + 0.01 * torch.randn(200, 5, generator=generator, dtype=torch.float64)
    other, best = (lorentz.exp0(part, K=1.0) for part in (around, centre[None]))
    cost = [(-2 - 2 * lorentz.inner(part[:, None], points[None])).sum(1) for part in (other, best)]
    assert (cost[0] > cost[1]).all()


def test_a_planted_hierarchy_is_found_and_a_shuffled_one_is_not() -> None:
    random = np.random.default_rng(0)
    points, paths = planted(random, spread=0.2)
    department, kind = hierarchy.levels(points, paths, ["department", "type"])
    assert (department.groups, kind.groups) == (4, 12)
    assert department.chance == pytest.approx(59 / 239)
    assert kind.chance == pytest.approx(19 / 239)
    assert department.near > 0.95
    assert kind.near > 0.9
    assert np.median(department.centroids) > 2 * np.median(department.shuffled)
    mixed = [paths[row] for row in random.permutation(len(paths))]
    department, kind = hierarchy.levels(points, mixed, ["department", "type"])
    assert abs(department.near - department.chance) < 0.05
    assert abs(kind.near - kind.chance) < 0.05
    assert np.median(department.centroids) < 1.5 * np.median(department.shuffled)


def test_items_without_a_category_are_in_no_group() -> None:
    groups, codes = hierarchy.group([("a", "b"), (), ("a",), ("c", "b")], 2)
    assert (groups, codes.tolist()) == ([("a", "b"), ("c", "b")], [0, -1, -1, 1])


def test_the_nearest_items_are_those_of_the_geodesic_distance() -> None:
    points = lorentz.exp0(torch.randn(700, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64), K=1.0)
    distance = geoopt.manifolds.Lorentz(k=1.0).dist(points[:, None], points[None])
    distance.fill_diagonal_(torch.inf)
    expected = distance.topk(5, dim=1, largest=False).indices.sort(dim=1).values
    assert np.array_equal(np.sort(hierarchy.nearest(points.numpy(), 5), axis=1), expected.numpy())


def test_distances_are_flat_near_the_origin_and_longer_far_from_it() -> None:
    tangents = np.random.default_rng(0).normal(size=(50, 3))
    found = []
    for scale in (1e-3, 1.0):
        points = lorentz.exp0(torch.from_numpy(tangents * scale), K=1.0).numpy()
        found.append(hierarchy.curved(tangents * scale, points))
    assert max(found[0]) < 1e-4
    assert 0.05 < found[1][0] < found[1][1]


def test_spearman_follows_ranks_and_shares_ties() -> None:
    assert hierarchy.spearman([1, 2, 3, 4], [10, 20, 25, 1000]) == pytest.approx(1)
    assert hierarchy.spearman([1, 2, 2, 3], [4, 3, 2, 1]) == pytest.approx(-0.948683, abs=1e-6)


def test_the_plane_separates_departments_that_lie_in_it() -> None:
    random = np.random.default_rng(1)
    codes = np.repeat([0, 1, 2], 50)
    tangents = random.normal(size=(150, 8)) * 2.0
    tangents[:, 5:7] = np.array([[3, 0], [-3, 3], [0, -3]])[codes] + 0.1 * random.normal(size=(150, 2))
    plane = disk.department_plane(tangents, codes)
    assert np.linalg.norm(plane[5:7], axis=0).min() > 0.95
