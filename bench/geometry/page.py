"""The Markdown page of a comparison."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from bench.geometry.compare import EUCLIDEAN, FULL, GINI, QUERY_METRICS, RARE_ANSWERS, Compared, Measures, mean_of
from bench.geometry.measures import Correlation, Difference, Floats
from bench.geometry.trained import PARTS
from bench.systems import Row
from bench.tables import origins, runs_table, table

VARIANTS = (FULL, EUCLIDEAN)
SECONDS = "CPU seconds of an epoch"
RARE_NAME = RARE_ANSWERS.removeprefix("answers with ")
NOTES = f"""\
Differences are Full minus Euclidean twin for the same users, as mean ± standard error over users / standard error over
seeds; "-" where there is none. **Bold**: 0 is outside of the 95 % intervals over users and over seeds (Student's t). Of
many comparisons some are bold by chance. Answers of a group: the other relevant items of a query count as misses, and
queries without an answer in the group are left out. The groups by popularity hold about equal numbers of test answers
(as in SGL, Wu et al., SIGIR 2021, whose groups hold equal numbers of interactions). Coverage@10: share of the candidate
items that are in somebody's first 10. Gini of exposure@10: 0 if all candidate items are shown equally often, near 1 if
few get all places. Diversity@10: mean Jaccard distance of the category names of two items of a list. Encoder alone: the
base score of the same training, without any score term. {SECONDS}: median over the epochs of a training, validation
included. Wall time is under Runs; other work on the machine adds to it."""


def _number(value: float, digits: int = 4, sign: str = "") -> str:
    return "-" if not np.isfinite(value) else f"{value:{sign}.{digits}f}"


def difference(found: Difference, digits: int = 4) -> str:
    """A cell: mean ± standard error over users / over seeds, bold if it is clear."""
    if not np.isfinite(found.mean):
        return "-"
    mean = _number(found.mean, digits, "+")
    shown = f"**{mean}**" if found.clear else mean
    return f"{shown} ± {_number(found.users, digits)} / {_number(found.seeds, digits)}"


def _mean(values: Floats) -> float:
    return float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")


def _over_seeds(values: Sequence[float], digits: int = 4) -> str:
    """A cell: mean ± standard deviation over seeds."""
    if not values or not np.isfinite(values).all():
        return "-"
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def _correlation(found: list[Correlation]) -> str:
    mean = mean_of(found)
    return "-" if not np.isfinite(mean.rho) else f"{mean.rho:+.3f} ({mean.low:+.3f} to {mean.high:+.3f})"


def _seconds(measures: Measures) -> Floats:
    return np.array([measures.epoch_seconds])


def _ratio(compared: Compared, dim: int) -> str:
    ours, theirs = ([each.epoch_seconds for each in compared.of(name, dim)] for name in VARIANTS)
    return _number(statistics.mean(ours) / statistics.mean(theirs), 3) if ours and theirs else "-"


def verdict(compared: Compared) -> str:
    """One table of all differences: rows are measures, columns dimensions; and how many are clear."""
    dims, lines = compared.dims, []
    told, ours, theirs = 0, 0, 0
    for part in PARTS:
        for name in compared.names(part):
            found = [compared.summary_difference(dim, part, name) for dim in dims]
            if any(np.isfinite(each.mean) for each in found):
                lines.append([f"{part}: {name}", *map(difference, found)])
            told += sum(np.isfinite(each.seeds) for each in found)
            better = -1 if name == GINI else 1  # a low Gini is an even exposure
            ours += sum(each.clear and better * each.mean > 0 for each in found)
            theirs += sum(each.clear and better * each.mean < 0 for each in found)
    lines.append([SECONDS, *(difference(compared.difference(dim, _seconds), 1) for dim in dims)])
    lines.append([f"{SECONDS}: Full / Euclidean", *(_ratio(compared, dim) for dim in dims)])
    count = (
        f"Of {told} differences of measures, {ours} are clearly in favour of Full and {theirs} clearly in favour of "
        "the Euclidean twin."
        if told
        else "No dimension has two seeds of both variants yet, so nothing can be told from chance."
    )
    return f"{table(['Full minus Euclidean', *(f'd = {dim}' for dim in dims)], lines)}\n\n{count}"


def values(compared: Compared, part: str) -> str:
    """Means and standard deviations over seeds of all measures of a part."""
    lines, header = [], ["d", "variant"]
    for dim in compared.dims:
        for variant in VARIANTS:
            of_seeds = [compared.summary(each, part) for each in compared.of(variant, dim)]
            if of_seeds:
                header = [
                    "d",
                    "variant",
                    *(name.replace(f", {RARE_ANSWERS}", f", {RARE_NAME}") for name in of_seeds[0]),
                ]
                cells = [_over_seeds([_mean(each[name]) for each in of_seeds]) for name in of_seeds[0]]
                lines.append([str(dim), variant, *cells])
    return table(header, lines)


def by_popularity(compared: Compared, part: str, dim: int) -> str:
    """Metrics and differences by group of the answers' popularity."""
    lines = []
    for group in [*compared.facts.by_popularity, compared.facts.rare]:
        rows = compared.facts.exam.evaluation_set.rows[group.answers]
        name = RARE_NAME if group is compared.facts.rare else group.name
        cells = [f"{len(np.unique(rows)):,}"]
        for metric in QUERY_METRICS:
            for variant in VARIANTS:
                of_seeds = [_mean(each.queries(part, group)[metric]) for each in compared.of(variant, dim)]
                cells.append(_number(statistics.mean(of_seeds)) if of_seeds else "-")
            cells.append(difference(compared.group_difference(dim, part, group, metric)))
        lines.append([name, *cells])
    columns = [f"{metric} {what}" for metric in QUERY_METRICS for what in ("Full", "Euclidean", "difference")]
    return table(["training events of the answer", "queries", *columns], lines)


def distances(compared: Compared) -> str:
    """Correlations of the radii of users and items, means over seeds."""
    users, items = [], []
    for dim in compared.dims:
        for variant in VARIANTS:
            found = compared.of(variant, dim)
            if found:
                of_parts = [zip(*(each.of_users(part) for each in found), strict=True) for part in PARTS]
                cells = [_correlation(list(column)) for part in of_parts for column in part]
                users.append([str(dim), variant, _spread(found, "user"), *cells])
                cells = [
                    _correlation(list(column)) for column in zip(*(each.of_items() for each in found), strict=True)
                ]
                items.append([str(dim), variant, _spread(found, "item"), *cells])
    given = [f"{part}{suffix}" for part in PARTS for suffix in ("", ", given length", ", given length and popularity")]
    spread = "radius: median (5 % to 95 %)"
    note = (
        "Spearman's rho with a 95 % interval over users or items (Fisher's z), means over seeds. The radius is the "
        "geodesic distance from the origin, for the Euclidean twin the norm; a user's is that of the test query, an "
        "item's is over candidate items with training events. Given: partial correlations of ranks, of users given the "
        "length of the history and the popularity of the answer, of items given the training events. The audience's "
        "entropy is that of the category names of what an item's users take besides it. Where each user takes an item "
        "once, its users are its events, and the correlation given events is undefined."
    )
    parts = [
        note,
        "**User's radius and reciprocal rank of the first answer** (positive: served better far out)",
        table(["d", "variant", spread, *given], users),
        "**Item's radius, and breadth of its audience** (negative: broad items near the origin)",
        table(["d", "variant", spread, "users", "users, given events", "entropy", "entropy, given events"], items),
    ]
    return "\n\n".join(parts)


def _spread(found: list[Measures], which: str) -> str:
    low, middle, high = np.mean([each.spread(which) for each in found], axis=0)
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def _rows(compared: Compared) -> list[Row]:
    found = []
    for dim in compared.dims:
        for variant in VARIANTS:
            results = [each.trained.result for each in compared.of(variant, dim)]
            if results:
                radius = statistics.mean(1 / result["curvature"] for result in results)
                name = f"d = {dim}, {variant}" + (f", K = {radius:.0f} at the end" if variant == FULL else "")
                found.append(Row(name, results))
    return found


def page(title: str, conditions: str, compared: Compared) -> str:
    """The whole page."""
    parts = [title, conditions, "## Full minus Euclidean", verdict(compared), NOTES]
    for part in PARTS:
        parts += [f"## Values: {part}", values(compared, part)]
    for part in PARTS:
        for dim in compared.dims:
            parts += [f"## By popularity of the answer: {part}, d = {dim}", by_popularity(compared, part, dim)]
    rows = _rows(compared)
    parts += ["## Distance from the origin", distances(compared), "## Runs", runs_table(rows), origins(rows)]
    return "\n\n".join(parts) + "\n"
