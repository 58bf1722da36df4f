"""The gate's verdict on a night: who was judged on what, the figures, and who serves."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import ClassVar, Literal

from hmamba.columns import BASELINE_VERSION
from hmamba.contracts.document import Document, Part
from hmamba.errors import InputError

Says = Literal["better", "worse", "cannot be told"]


class Comparison(Part):
    """How ``one`` compares with ``other`` in the mean of a metric over users.

    Attributes:
        one, other: names of what is compared.
        metric: such as ndcg@10.
        users: how many there are.
        difference: mean of one minus mean of the other.
        low, high: 95 % interval of the difference, by bootstrap over users; both the difference where there is one.
        relative: the difference, as a share of the other's mean; None where that is 0.
        says: better or worse where the interval is on one side of 0, and six users or more differ.
    """

    one: str
    other: str
    metric: str
    users: int
    difference: float
    low: float
    high: float
    relative: float | None
    says: Says

    def __str__(self) -> str:
        return f"{self.difference:+.4f}, 95 % interval {self.low:+.4f} to {self.high:+.4f}"


class Verdict(Document):
    """What the gate found and decided.

    Attributes:
        day: the night.
        holdout_from, holdout_to: days of the held-out events; None where events have no times, or nobody is judged.
        users: users who are judged.
        questions: queries of the evaluation set; each is one basket.
        split: "days", or "last" where each user's last baskets are held out.
        split_why: why so, in words.
        challenger: the version trained for the night; None if nothing was trained.
        champion: the version that served before; None if there is none.
        metric: what decides, such as ndcg@10.
        metrics: figures by contestant (challenger, champion and baselines) and metric.
        comparisons: of the models with each other and with the baselines.
        serving: the model or baseline that serves; None if the gate refused the night.
        promoted: whether the challenger is the champion from now on.
        reason: why, in words.
        warning: what readers of the table have to know; None if nothing.
    """

    CURE: ClassVar[str] = "Run the gate step again (python -m jobs.gate)."

    day: date
    holdout_from: date | None
    holdout_to: date | None
    users: int
    questions: int
    split: Literal["days", "last"]
    split_why: str
    challenger: str | None
    champion: str | None
    metric: str
    metrics: dict[str, dict[str, float]]
    comparisons: tuple[Comparison, ...] = ()
    serving: str | None = None
    promoted: bool = False
    reason: str
    warning: str | None = None

    @property
    def baseline(self) -> str | None:
        """The baseline that serves, such as popularity; None where a model serves, or nothing."""
        serving = self.serving or ""
        return serving.removeprefix(BASELINE_VERSION) if serving.startswith(BASELINE_VERSION) else None


def read_serving(path: Path) -> str:
    """The model or baseline that a verdict lets serve.

    Raises:
        InputError: the gate has not run, its verdict cannot be read, or it refused the night.
    """
    verdict = Verdict.read(path)
    if verdict.serving is None:
        raise InputError(f"{path}: no model and no baseline serves tonight: {verdict.reason}")
    return verdict.serving
