"""The verdict in words and rows: who was judged on what, and what each comparison says."""

from __future__ import annotations

from dataclasses import dataclass

from hmamba.columns import BASELINES
from hmamba.contracts.verdict import Verdict
from hmamba.report.gather import Night
from hmamba.report.text import counted, metric_name

NAMES = {"challenger": "new model", "champion": "champion", **BASELINES}

SAYS: dict[str, str] = {"better": "better", "worse": "worse", "cannot be told": "cannot be told apart"}
"""What a comparison says, as the page words it."""

_TINY = 0.001  # of a metric; relative to less than this, noise is hundreds of percent
_LARGEST = 3.0  # relative difference that is still read as a percentage


@dataclass(frozen=True)
class Contrast:
    """One comparison of the verdict: the mean of a metric over users, ``one`` minus ``other``.

    ``low`` and ``high`` bound its 95 % interval; ``relative`` is the difference in percent, empty where that would
    mislead.
    """

    one: str
    other: str
    metric: str
    difference: float
    low: float
    high: float
    relative: str
    says: str

    @property
    def label(self) -> str:
        """Both names."""
        return f"{NAMES.get(self.one, self.one)} vs {NAMES.get(self.other, self.other)}"

    @property
    def interval(self) -> str:
        """The bounds of the interval."""
        return f"{signed(self.low)} to {signed(self.high)}"

    @property
    def figures(self) -> str:
        """The difference and its interval."""
        return f"{signed(self.difference)}, 95\N{NO-BREAK SPACE}% interval {self.interval}"


def signed(value: float) -> str:
    """A difference with its sign and four decimals; six where four would be zeros, and no sign on 0."""
    text = f"{value:+.4f}" if abs(value) >= 0.00005 else f"{value:+.6f}"
    return "0.0000" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def relative(value: float, reference: float) -> str:
    """How ``value`` compares with ``reference``, such as "+3.1 %".

    Empty where a percentage would mislead: the reference is tiny, or the difference is several times as large.
    """
    if reference < _TINY or abs(value / reference - 1) > _LARGEST:
        return ""
    text = f"{(value / reference - 1) * 100:+.1f}"
    text = "0.0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
    return f"{text}\N{NO-BREAK SPACE}%"


def contrasts(night: Night) -> list[Contrast]:
    """The verdict's comparisons of judged models, in its order."""
    found = []
    for entry in () if night.verdict is None else night.verdict.comparisons:
        mine, theirs = (night.metrics.get(name, {}).get(entry.metric) for name in (entry.one, entry.other))
        if mine is not None and theirs is not None:
            share = relative(mine, theirs)
            found.append(
                Contrast(
                    entry.one, entry.other, entry.metric, entry.difference, entry.low, entry.high, share, entry.says
                )
            )
    return found


def deciding(night: Night) -> Contrast | None:
    """The comparison on which the new model's promotion depends: with the champion, or with the best baseline."""
    metric = "" if night.verdict is None else night.verdict.metric
    mine = {entry.other: entry for entry in contrasts(night) if entry.one == "challenger"}
    if "champion" in mine:
        return mine["champion"]
    return max(mine.values(), key=lambda entry: night.metrics[entry.other].get(metric, 0.0), default=None)


def behind(night: Night) -> list[Contrast]:
    """The comparisons by which what serves is worse than a baseline."""
    verdict = night.verdict
    if verdict is None:
        return []
    roles = {verdict.champion: "champion", verdict.challenger: "challenger"}
    role = roles.get(verdict.serving)
    return [
        entry for entry in contrasts(night) if (entry.one, entry.says) == (role, "worse") and entry.other in BASELINES
    ]


def judged_on(verdict: Verdict) -> list[str]:
    """Who was judged on what, and why, in sentences."""
    why, users = verdict.split_why.strip().rstrip("."), verdict.users
    split = [f"How the events were split: {why}."] if why else []
    if not users:
        return ["Nobody could be judged on.", *split]
    first, last = verdict.holdout_from, verdict.holdout_to
    when = "" if first is None else f"on {first}" if first == last else f"from {first} to {last}"
    asked = counted(verdict.questions, "question")
    if verdict.split == "last":
        what = ", ".join(part for part in ("each user's last basket", when) if part)
        told = f"Judged on {counted(users, 'user')} with {asked}: {what}, held out of training."
    else:
        told = f"Judged on {counted(users, 'user')} with {asked} {when}, held out of training."
    return [
        told,
        "A question is one basket, asked for from what came before it. Each user counts once, whatever the number of "
        "questions.",
        *split,
    ]


def metric_of(night: Night) -> str:
    """The metric that decides, as the page writes it."""
    return "" if night.verdict is None else metric_name(night.verdict.metric)
