"""The results of a backtest, as Markdown and as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from hmamba.backtest.judge import AS_TRAINED, RECOUNTED, REFIT, contrast, pooled
from hmamba.columns import BASELINES
from hmamba.contracts.backtest import BacktestNight
from hmamba.contracts.verdict import Comparison
from hmamba.pages import templates
from hmamba.report import figures
from hmamba.text import counted, metric_name, percent, signed

_BESIDE = ("hr@10", "mrr@10")  # shown beside the deciding metric, as is the recall among all candidates
_NONE = "\N{EN DASH}"


@dataclass(frozen=True)
class Findings:
    """Results over all nights.

    Attributes:
        metric: the metric that systems are compared by.
        keys: the metrics of the table, the one that systems are compared by first.
        nights: metrics of each night.
        systems: names, in the order of the table.
        means: metrics of each system, over users and nights.
        comparisons: effects of refitting, recounting and full retraining, by bootstrap over the users of all nights.
    """

    metric: str
    keys: tuple[str, ...]
    nights: tuple[BacktestNight, ...]
    systems: tuple[str, ...]
    means: dict[str, dict[str, float]]
    comparisons: tuple[Comparison, ...]

    @classmethod
    def of(cls, nights: Sequence[BacktestNight], chains: Sequence[str], metric: str, k: int) -> Findings:
        """Pool the nights: each user of each night counts once.

        Args:
            nights: the nights, at least one of them with metrics.
            chains: names of the chains, the reference first.
            metric: such as ndcg@10.
            k: number of candidates of each user.
        """
        judged = [night for night in nights if night.measured]
        names = list(dict.fromkeys(name for night in judged for name in night.measured))
        means = {name: pooled(judged, name) for name in names}
        reference = chains[0]
        pairs = [(f"{chain}, {RECOUNTED}", f"{chain}, {AS_TRAINED}") for chain in chains]
        pairs += [(f"{chain}, {REFIT}", f"{chain}, {RECOUNTED}") for chain in chains]
        pairs += [(f"{chain}, {RECOUNTED}", f"{reference}, {RECOUNTED}") for chain in chains[1:]]
        baselines = [name for name in BASELINES if name in means]
        if baselines:
            best = max(baselines, key=lambda name: means[name][metric])
            pairs += [(f"{reference}, {variant}", best) for variant in (RECOUNTED, REFIT)]
        compared = [found for pair in pairs if (found := contrast(judged, pair, metric)) is not None]
        measured = next(iter(means.values()))
        beside = [key for key in (*_BESIDE, f"recall@{k}") if key != metric and key in measured]
        return cls(metric, (metric, *beside), tuple(nights), tuple(names), means, tuple(compared))

    @property
    def users(self) -> tuple[int, int]:
        """Number of distinct evaluated users, and number of evaluations of a user on a night."""
        judged = [user for night in self.nights for user in night.user_ids]
        return len(set(judged)), len(judged)


def shown(name: str) -> str:
    """The display name of a system."""
    return BASELINES.get(name, name)


def markdown(found: Findings) -> str:
    """The tables as Markdown."""
    users, judged = found.users
    first, last = found.nights[0].day, found.nights[-1].day
    lines = [
        f"{counted(len(found.nights), 'night')}, {first} to {last}; {counted(users, 'user')} evaluated, "
        f"{counted(judged, 'time')} in total.",
        "",
        "| | " + " | ".join(metric_name(key) for key in found.keys) + " |",
        "|---" * (len(found.keys) + 1) + "|",
    ]
    for name in found.systems:
        lines.append(f"| {shown(name)} | " + " | ".join(f"{found.means[name][key]:.4f}" for key in found.keys) + " |")
    lines += ["", f"| comparison | {metric_name(found.metric)} | 95 % interval | |", "|---|---|---|---|"]
    for entry in found.comparisons:
        share = f" ({text})" if entry.relative is not None and (text := percent(entry.relative)) else ""
        lines.append(
            f"| {shown(entry.one)} against {shown(entry.other)} | {signed(entry.difference)}{share} "
            f"| {signed(entry.low)} to {signed(entry.high)} | {entry.says} |"
        )
    head = "| night | users | " + " | ".join(shown(name) for name in found.systems) + " |"
    lines += ["", head, "|---" * (len(found.systems) + 2) + "|"]
    for night in found.nights:
        cells = [
            f"{night.measured[name].means[found.metric]:.4f}" if name in night.measured else _NONE
            for name in found.systems
        ]
        lines.append(f"| {night.day} | {len(night.user_ids):,} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def chart(found: Findings) -> Markup:
    """A line chart of the deciding metric by night, one line for each system."""
    judged = [night for night in found.nights if night.measured]
    lines = [
        (
            shown(name),
            [night.measured[name].means[found.metric] if name in night.measured else None for night in judged],
        )
        for name in found.systems
    ]
    labels = [night.day.isoformat() for night in judged]
    return figures.lines("backtest", f"{metric_name(found.metric)} by night", labels, lines)


def page(found: Findings, title: str) -> str:
    """The HTML page. It loads no resources and runs no script."""
    return (
        templates("hmamba.backtest")
        .get_template("template.html")
        .render(
            title=title,
            found=found,
            chart=chart(found),
            shown=shown,
            signed=signed,
            counted=counted,
            metric_name=metric_name,
        )
    )
