"""Draw the items on the Poincare disk, with their distances from the origin against popularity and category depth.

python -m bench.disk --root demo --out docs/images/catalogue-on-the-disk.png

Draws the items of the last published night. The disk has two dimensions and the model d: each item keeps its
hyperbolic distance from the origin, and its direction is projected on the plane in which the means of the departments
differ most.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from PIL import Image

from bench import hierarchy
from bench.hierarchy import Floats, Ints, Level
from hmamba.config import load
from hmamba.contracts import Manifest
from hmamba.errors import HMambaError, InputError
from hmamba.model import lorentz
from hmamba.report import disk
from hmamba.storage.layout import Layout
from hmamba.storage.local import atomic_file

DPI = 150
DEPARTMENTS = 8
DISTANCE = "distance from the origin (√K)"
INK, MUTED, LINE, OTHER = "#1c1e21", "#5d646d", "#d5d7d3", "#b4b8bd"
COLOURS = ("#56a5d8", "#e69f00", "#009e73", "#cc79a7", "#0072b2", "#d55e00", "#b3a100", "#2f3337")
_STYLE: dict[Any, object] = {
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.parse_math": False,
}


@dataclass(frozen=True)
class CandidateItems:
    """The items of one night.

    Attributes:
        model_version: version of the model that the points are of.
        tangents: [N, d] tangents at the origin, in units of sqrt K.
        K: minus the inverse of the curvature.
        events: [N] number of events of each item.
        paths: N category paths, the widest category first.
        names: names of the levels of those paths.
    """

    model_version: str
    tangents: Floats
    K: float
    events: Ints
    paths: list[tuple[str, ...]]
    names: list[str]


def read(root: str) -> CandidateItems:
    """Read the items of the last published night of a root.

    Raises:
        InputError: nothing has been published, the run's folder does not exist, or no item has a category.
    """
    layout = Layout.at(root)
    latest = Manifest.read(layout.latest, layout.storage)
    run = layout.run(latest.day, latest.run_id)
    vectors, items = run.item_points, run.items
    for path in (vectors, items):
        if not path.exists():
            raise InputError(f"{path} does not exist: the run's folder was cleared. Run the night again.")
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT v.point, coalesce(i.events, 0), i.category_path FROM read_parquet(?) v "
            "LEFT JOIN read_parquet(?) i USING (item_index) ORDER BY v.item_index",
            [str(vectors), str(items)],
        ).fetchall()
    points = np.array([row[0] for row in rows], dtype=np.float64)
    paths = [tuple(row[2] or ()) for row in rows]
    depth = max(map(len, paths), default=0)
    if not depth:
        raise InputError(f"{items}: no item has a category. Set [catalogue] in {layout.config}.")
    columns = load(None, layout).catalogue.category_path
    named = [name.removeprefix("product_") for name in columns] if len(columns) == depth else []
    names = named or [f"level {number}" for number in range(1, depth + 1)]
    K = float(np.median(points[:, 0] ** 2 - np.square(points[:, 1:]).sum(1)))
    events = np.array([row[1] for row in rows], dtype=np.int64)
    return CandidateItems(latest.model_version, disk.tangents_at_origin(points), K, events, paths, names)


def department_plane(tangents: Floats, codes: Ints) -> Floats:
    """The two directions [d, 2] in which the means of the departments differ most, weighted by their items.

    Args:
        tangents: [N, d] tangents at the origin.
        codes: [N] department of each item; -1 for none.
    """
    overall = tangents.mean(axis=0)
    present = np.unique(codes[codes >= 0])
    means = [np.sqrt((codes == code).sum()) * (tangents[codes == code].mean(axis=0) - overall) for code in present]
    return disk.principal_plane(np.array(means))


def _on_disk(axes: Axes, catalogue: CandidateItems, points: Floats) -> tuple[str, float]:
    """Draw the most popular items and the departments' centroids.

    Returns:
        The caption, and the share of the squared distances that lies in the plane.
    """
    departments, codes = hierarchy.group(catalogue.paths, 1)
    plane = department_plane(catalogue.tangents, codes)
    kept = disk.place(catalogue.tangents, plane)[1]
    shown = np.sort(np.argsort(-catalogue.events, kind="stable")[: disk.MAX_POINTS])
    places, codes_shown = disk.place(catalogue.tangents[shown], plane)[0], codes[shown]
    zoom = disk.magnification(places)
    x, y = places.T * zoom
    _rings(axes, zoom)
    counts = np.bincount(codes[codes >= 0], minlength=len(departments))
    largest = np.argsort(-counts, kind="stable")[:DEPARTMENTS]
    sizes = 5 + 90 * catalogue.events[shown] / max(1, catalogue.events.max())
    # The largest department first, so that smaller ones are drawn over it.
    for code, colour in zip(largest, COLOURS, strict=False):
        rows = codes_shown == code
        name = f"{departments[code][0]} ({counts[code]:,})"
        axes.scatter(x[rows], y[rows], s=sizes[rows], color=colour, alpha=0.65, linewidths=0, label=name)
    rest = ~np.isin(codes_shown, largest)
    if rest.any():
        others = f"other ({len(codes) - counts[largest].sum():,})"
        axes.scatter(x[rest], y[rest], s=sizes[rest], color=OTHER, alpha=0.65, linewidths=0, label=others)
    for code, colour in zip(largest, COLOURS, strict=False):
        ((right, up),), _ = disk.place(hierarchy.centroid(points[codes == code])[None], plane)
        axes.scatter(right * zoom, up * zoom, s=55, color=colour, edgecolors=INK, linewidths=1, marker="D", zorder=8)
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set(xlim=(-1.02, 1.02), ylim=(-1.02, 1.02))
    what = f"The {len(shown):,} most bought of" if len(shown) < len(codes) else "All"
    axes.set_title(f"{what} {len(codes):,} items, by department")
    legend = axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0.01), ncols=3, frameon=False, handletextpad=0.2, columnspacing=1.2
    )
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set(sizes=[36], alpha=1)
    note = (
        "Left: distance from the centre (+) is an item's hyperbolic distance from the origin. Directions are projected "
        f"on the plane in which departments differ most, with {kept:.1%} of the squared distances; items that look "
        "close may differ in other directions. Larger dots: more events. Diamonds: centroids of the departments. In "
        "brackets: number of items."
    )
    return (
        note if zoom == 1 else f"{note} Magnified {zoom:.1f} times: the rim of the disk is outside the picture.",
        kept,
    )


def _rings(axes: Axes, zoom: float) -> None:
    """Draw the origin, circles of equal distance around it, and the rim if it is within the picture."""
    for distance in disk.ring_distances(zoom):
        radius = np.tanh(distance / 2) * zoom
        axes.add_patch(Circle((0, 0), radius, fill=False, color=LINE, linewidth=1, zorder=0))
        axes.annotate(
            f"{distance:g} √K",
            (0, radius),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            color=INK,
            fontsize=8.5,
            zorder=9,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.6},
        )
    if zoom == 1:
        axes.add_patch(Circle((0, 0), 1, fill=False, color=MUTED, linewidth=1.4))
    axes.plot(0, 0, marker="+", color=INK, markersize=9, zorder=9)


def _against_events(axes: Axes, events: Ints, distances: Floats, rho: float) -> None:
    counted = np.maximum(events, 1)
    axes.hexbin(counted, distances, xscale="log", gridsize=42, bins="log", mincnt=1, cmap="Blues", linewidths=0.2)
    bins = np.digitize(counted, np.geomspace(counted.min(), counted.max() + 1, 13))
    middle = [(np.median(counted[bins == b]), np.median(distances[bins == b])) for b in np.unique(bins)]
    axes.plot(*zip(*middle, strict=True), color="#d55e00", linewidth=2, marker="o", markersize=4, label="median")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="events of the item (log scale; darker: more items)", ylabel=DISTANCE, ylim=(0, None))
    sign = f"{rho:+.2f}".replace("-", "\N{MINUS SIGN}")
    axes.set_title(f"Against popularity: Spearman's \N{GREEK SMALL LETTER RHO} = {sign}")
    axes.legend(frameon=False, loc="lower right")


def _against_depth(axes: Axes, found: list[Level], distances: Floats) -> None:
    def boxes(data: list[Floats], at: Floats, colour: str, label: str) -> None:
        style = {"color": MUTED}
        drawn = axes.boxplot(
            data,
            positions=at,
            widths=0.32,
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": colour, "edgecolor": MUTED},
            medianprops={"color": INK},
            whiskerprops=style,
            capprops=style,
        )
        drawn["boxes"][0].set_label(label)

    place = np.arange(len(found), dtype=np.float64)
    boxes([level.centroids for level in found], place - 0.19, "#8d6cab", "centroids of the groups")
    boxes([level.shuffled for level in found], place + 0.19, OTHER, "the same groups, items shuffled")
    boxes([distances], np.array([float(len(found))]), "#d9cde6", "items")
    ticks = [f"{level.name}\n{level.groups:,} groups" for level in found]
    axes.set_xticks(range(len(found) + 1), [*ticks, f"item\n{len(distances):,}"])
    axes.set(xlabel="depth in the hierarchy: deeper to the right", ylabel=DISTANCE, ylim=(0, None))
    axes.set_title("Against depth in the hierarchy of categories")
    axes.legend(frameon=False, loc="upper left")


def draw(catalogue: CandidateItems, out: Path) -> list[str]:
    """Draw the picture and report its statistics.

    Args:
        catalogue: the items.
        out: path of the PNG file.

    Returns:
        Lines of Markdown.
    """
    distances = np.linalg.norm(catalogue.tangents, axis=1)
    rho = hierarchy.spearman(catalogue.events, distances)
    points = lorentz.exp0(torch.from_numpy(catalogue.tangents), K=1.0).numpy()
    found = hierarchy.levels(points, catalogue.paths, catalogue.names)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(13, 7.4), dpi=DPI, facecolor="white", layout="constrained")
        grid = figure.add_gridspec(2, 2, width_ratios=[1.3, 1])
        note, kept = _on_disk(figure.add_subplot(grid[:, 0]), catalogue, points)
        figure.supxlabel(textwrap.fill(note, 200), x=0.02, ha="left", fontsize=8.5, color=MUTED)
        _against_events(figure.add_subplot(grid[0, 1]), catalogue.events, distances, rho)
        _against_depth(figure.add_subplot(grid[1, 1]), found, distances)
        pixels = io.BytesIO()
        figure.savefig(pixels, format="png")
    # A palette reduces the file to a quarter. Other methods lose the colours of departments with few dots.
    image = Image.open(pixels).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    with atomic_file(out) as temporary:
        image.save(temporary, format="png", optimize=True, dpi=(DPI, DPI))
    return _figures(catalogue, points, found, rho, kept)


def _figures(catalogue: CandidateItems, points: Floats, found: list[Level], rho: float, kept: float) -> list[str]:
    distances = np.linalg.norm(catalogue.tangents, axis=1)
    low, middle, high = np.quantile(distances, [0.05, 0.5, 0.95])
    dim = catalogue.tangents.shape[1]
    popular = np.argsort(-catalogue.events, kind="stable")[: disk.MAX_POINTS]
    rho_popular = hierarchy.spearman(catalogue.events[popular], distances[popular])
    mean, most = hierarchy.curved(catalogue.tangents, points)
    heads = (
        "level",
        f"groups of {hierarchy.LEAST_MEMBERS} or more",
        "median distance of their centroids",
        "the same, items shuffled",
        f"nearest {hierarchy.NEIGHBOURS} in the same group",
        "by chance",
    )
    return [
        f"Model {catalogue.model_version}: {len(distances):,} items in {dim} dimensions, K = {catalogue.K:.3g}.",
        f"Distance from the origin in √K: median {middle:.3f}, 5 % to 95 % {low:.3f} to {high:.3f}, largest "
        f"{distances.max():.3f}.",
        f"The plane of the picture holds {kept:.1%} of the squared distances; two directions of {dim} hold "
        f"{2 / dim:.1%} where all are alike.",
        f"Hyperbolic distances between items are longer than flat ones by {mean:.2%} on average, {most:.2%} at most.",
        f"Spearman's rho of distance and events: {rho:+.3f}; {rho_popular:+.3f} of the {len(popular):,} most bought.",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *(
            f"| {level.name} | {level.groups:,} | {np.median(level.centroids):.4f} | {np.median(level.shuffled):.4f} "
            f"| {level.near:.2%} | {level.chance:.2%} |"
            for level in found
        ),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.disk", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--root", required=True, help="folder of a recommender with published candidates, such as ./demo"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/images/catalogue-on-the-disk.png"), help="PNG to write")
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    try:
        lines = draw(read(options.root), options.out)
    except HMambaError as error:
        logging.getLogger("hmamba").error("%s", error)
        return error.exit_code
    print("\n".join([*lines, "", f"Picture: {options.out}"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
