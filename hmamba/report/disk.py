"""Project the item points onto the Poincare disk.

The projection keeps the geodesic distance to the origin exactly. It approximates the direction from the origin by the
two principal components (uncentred) of the points log-mapped at the origin.

Shapes: N points, d the width of the tangent space.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OTHER = "other"
SHOWN_DEPARTMENTS = 8
MAX_POINTS = 4000
ZOOM_BELOW = 0.6
"""If all points lie closer to the centre than this radius, the picture is magnified."""


@dataclass(frozen=True)
class Dot:
    """One item: disk coordinates in [-1, 1], radius of the dot relative to the smallest, and title."""

    x: float
    y: float
    size: float
    title: str


@dataclass(frozen=True)
class Department:
    """The dots of one department. ``colour`` is a palette index, from 1."""

    name: str
    colour: int
    dots: tuple[Dot, ...]


@dataclass(frozen=True)
class Ring:
    """A circle of equal geodesic distance (in units of sqrt K) around the origin; ``radius`` is its disk radius."""

    distance: float
    radius: float


@dataclass(frozen=True)
class Disk:
    """The drawing.

    ``zoom`` is the factor by which coordinates are magnified; ``kept`` is the share of the tangent vectors' squared
    length along the two drawn directions.
    """

    departments: tuple[Department, ...]
    rings: tuple[Ring, ...]
    zoom: float
    kept: float
    shown: int
    items: int


def tangents_at_origin(points: Floats) -> Floats:
    """Log-map Lorentz points to the tangent space at the origin.

    Args:
        points: [N, d+1], time coordinate first, all on one hyperboloid <x,x>_L = -K; K is read from the points.

    Returns:
        [N, d] in units of sqrt K. The norm of a row is its geodesic distance to the origin.
    """
    time, space = points[:, 0], points[:, 1:]
    norms = np.linalg.norm(space, axis=1)
    root_k = np.sqrt(max(float(np.median(time**2 - norms**2)), 1e-12))
    tangents: Floats = space * (np.arcsinh(norms / root_k) / np.maximum(norms, 1e-12))[:, None]
    return tangents


def principal_plane(vectors: Floats) -> Floats:
    """The first two principal directions [d, 2] of vectors [N, d], uncentred, in descending order."""
    axes = np.linalg.eigh(vectors.T @ vectors).eigenvectors[:, ::-1][:, :2]
    if axes.shape[1] < 2:
        axes = np.pad(axes, ((0, 0), (0, 1)))
    # An eigenvector's sign is arbitrary: fix it, so that the same points give the same picture.
    strongest = axes[np.abs(axes).argmax(axis=0), np.arange(2)]
    found: Floats = axes * np.where(strongest < 0, -1.0, 1.0)
    return found


def place(tangents: Floats, plane: Floats) -> tuple[Floats, float]:
    """Place tangents at the origin [N, d] on the Poincare disk, in the directions of a plane [d, 2].

    Returns:
        Disk coordinates [N, 2], whose lengths are tanh(rho / 2) with rho the geodesic distance to the origin in units
        of sqrt K, and the share of the squared tangent lengths that lies in the plane.
    """
    flat = tangents @ plane
    lengths, distances = np.linalg.norm(flat, axis=1), np.linalg.norm(tangents, axis=1)
    kept = float(np.square(flat).sum() / max(np.square(tangents).sum(), 1e-12))
    return flat * (np.tanh(distances / 2) / np.maximum(lengths, 1e-12))[:, None], kept


def project(points: Floats) -> tuple[Floats, float]:
    """Place Lorentz points [N, d+1] on the Poincare disk, in their own principal directions; see :func:`place`."""
    tangents = tangents_at_origin(points)
    return place(tangents, principal_plane(tangents))


def magnification(places: Floats) -> float:
    """Magnification that makes disk coordinates [N, 2] fill the picture; 1 if some lie near the rim."""
    reach = float(np.linalg.norm(places, axis=1).max(initial=0.0))
    return 1.0 if reach >= ZOOM_BELOW or reach == 0.0 else 0.94 / reach


def draw(points: Floats, titles: list[str], departments: list[str], events: list[int], items: int) -> Disk:
    """Lay out the disk.

    Args:
        points: [N, d+1] Lorentz points, time first.
        titles: N titles.
        departments: N departments; the eight most frequent get a colour each, the rest share one.
        events: N event counts, which set the size of the dots.
        items: number of all items, drawn or not.
    """
    places, kept = project(points)
    zoom = magnification(places)
    sizes = 1.0 + np.sqrt(np.asarray(events, dtype=np.float64) / max(1, max(events, default=1))) * 2.0
    members: dict[str, list[int]] = {}
    for row, name in enumerate(departments):
        members.setdefault(name, []).append(row)
    order = sorted(members, key=lambda name: (-len(members[name]), name))
    groups = [(name, members[name]) for name in order[:SHOWN_DEPARTMENTS]]
    rest = [row for name in order[SHOWN_DEPARTMENTS:] for row in members[name]]
    if rest:
        groups.append((OTHER, sorted(rest)))
    drawn = tuple(
        Department(
            name,
            place,
            tuple(
                Dot(float(places[row, 0]) * zoom, float(places[row, 1]) * zoom, float(sizes[row]), titles[row])
                for row in reversed(rows)
            ),
        )
        for place, (name, rows) in enumerate(groups, start=1)
    )
    rings = tuple(Ring(distance, float(np.tanh(distance / 2)) * zoom) for distance in ring_distances(zoom))
    return Disk(drawn, rings, zoom, kept, len(titles), items)


def ring_distances(zoom: float) -> list[float]:
    """Round distances, in units of sqrt K, whose rings lie inside a picture magnified by ``zoom``."""
    step = next(step for step in (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.0) if np.tanh(step) * zoom < 1)
    return [round(step * n, 3) for n in range(1, 5) if step and np.tanh(step * n / 2) * zoom < 1]
