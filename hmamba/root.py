"""Read a root that the nightly steps write: its champion, candidates, metrics and models."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.dataset as ds

from hmamba.candidates.lookup import Recommendations, published_manifest, recommend
from hmamba.clock import day_of
from hmamba.config import Config, load
from hmamba.contracts import Manifest
from hmamba.contracts.models import Rollback
from hmamba.contracts.scored import ScoreMetrics, ShardMetrics
from hmamba.contracts.step import StepMetrics
from hmamba.contracts.steps import KEPT_METRICS
from hmamba.contracts.verdict import Verdict, read_serving
from hmamba.errors import InputError
from hmamba.models import promotions
from hmamba.report.history import Night, nights
from hmamba.storage.layout import Layout
from hmamba.storage.run_layout import RunLayout

if TYPE_CHECKING:
    from hmamba.candidates.compare import TableComparison
    from hmamba.candidates.explanation import Explanation
    from hmamba.recommender import Recommender
    from hmamba.upkeep.check import Area
    from hmamba.upkeep.versions import Version


def open_root(root: str | Path) -> Root:
    """Open the root of a nightly recommender.

    Args:
        root: folder of the root.

    Raises:
        ConfigError: a setting in its hmamba.toml is invalid.
        InputError: the folder does not exist.
    """
    return Root(Layout.existing(root))


class Root:
    """A root, opened for reading.

    Attributes:
        layout: paths under the root.
        config: settings of the root.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.config: Config = load(None, layout)

    @property
    def champion(self) -> str | None:
        """The model version that was promoted last; None before the first promotion."""
        promoted = promotions.promotions(self.layout)
        return promoted[-1].version if promoted else None

    @property
    def days(self) -> list[date]:
        """Days with published candidates, oldest first."""
        return sorted(day for day, _ in self.layout.published_days)

    def manifest(self, day: date | str | None = None) -> Manifest:
        """The manifest of a day's published candidates.

        Args:
            day: the day; None for the newest.

        Raises:
            InputError: nothing is published for that day, or a file of the manifest is missing or truncated.
        """
        return published_manifest(self.layout, self._day(day))

    def candidates(self, day: date | str | None = None) -> ds.Dataset:
        """The published candidates as an Arrow dataset: user_id, rank, item_id, score, model_version.

        The dataset is lazy: ``.to_table()`` reads it into Arrow, and Polars and DuckDB can scan it.

        Args:
            day: the day; None for the newest.

        Raises:
            InputError: as :meth:`manifest`.
        """
        return ds.dataset([str(self.layout.root / file.path) for file in self.manifest(day).files])

    def table(self, name: str, day: date | str | None = None) -> ds.Dataset:
        """A table beside the published candidates as an Arrow dataset, see docs/candidates.md.

        Args:
            name: similar_items, popular, segments, user_vectors or item_vectors.
            day: the day; None for the newest.

        Raises:
            InputError: as :meth:`manifest`, or the table was not published that day.
        """
        manifest = self.manifest(day)
        if name not in manifest.tables:
            found = ", ".join(manifest.tables) or "none"
            raise InputError(
                f"There is no table {name!r} beside the candidates of {manifest.day}; there is: {found}. Name it in "
                "publish.tables and run that night again."
            )
        return ds.dataset([str(self.layout.root / file.path) for file in manifest.tables[name]])

    def recommend(self, user: str, k: int = 10, *, with_history: bool = False) -> Recommendations:
        """A user's ``k`` best published candidates, with titles, and the user's ``k`` newest events on request.

        Raises:
            InputError: the user has no candidates, or nothing is published.
        """
        return recommend(self.layout, str(user), k, with_history=with_history)

    def explain(self, user: str, item: str) -> Explanation:
        """Why an item is in a user's newest published list, or is not.

        Raises:
            InputError: see :func:`hmamba.candidates.explain.explain`.
        """
        from hmamba.candidates.explain import explain

        return explain(self.layout, str(user), str(item))

    def compare(
        self, first: date | str | None = None, second: date | str | None = None, *, users: int = 3
    ) -> TableComparison:
        """Compare two published tables: churn, order, coverage, items gained and lost, and examples of users.

        Args:
            first: day of the table before; None for the newest one before ``second``.
            second: day of the table now; None for the newest.
            users: number of users that are shown, from the most changed to the least.

        Raises:
            InputError: a day has no published table, or a file of one is missing or truncated.
        """
        from hmamba.candidates.compare import compare, two_days

        days = two_days(self.layout, self._day(first), self._day(second))
        return compare(self.layout, *days, users=users, config=self.config.warehouse)

    def metrics(self, day: date | str | None = None) -> dict[str, StepMetrics]:
        """The step metrics of a published night, by step; for ``score`` the sums over all shards.

        Args:
            day: the day; None for the newest.

        Raises:
            InputError: as :meth:`manifest`, or a file of metrics is damaged.
        """
        run = self._run(day)
        found = {step: kind.read_if_exists(run.step_metrics(step), run.storage) for step, kind in KEPT_METRICS.items()}
        shards = [ShardMetrics.read(path, run.storage) for path in run.score_metrics if run.storage.exists(path)]
        found["score"] = ScoreMetrics.of(shards) if shards else None
        return {step: metrics for step, metrics in found.items() if metrics is not None}

    def history(self) -> list[Night]:
        """All nights, oldest first, from the documents that they have left."""
        return nights(self.layout)

    def rollbacks(self) -> tuple[Rollback, ...]:
        """All rollbacks, oldest first.

        Raises:
            InputError: the list of promotions is damaged.
        """
        return promotions.rollbacks(self.layout)

    def check(self) -> list[Area]:
        """Verify every digest, every sum of the ledger and every document."""
        from hmamba.upkeep.check import check

        return list(check(self.layout))

    def models(self) -> list[Version]:
        """All model versions, oldest first.

        Raises:
            InputError: the list of promotions is damaged.
        """
        from hmamba.upkeep.versions import versions

        return versions(self.layout)

    def verdict(self, day: date | str | None = None) -> Verdict:
        """The gate's measurements and decision on a published night.

        Args:
            day: the day; None for the newest.

        Raises:
            InputError: as :meth:`manifest`, or the run's folder was removed.
        """
        run = self._run(day)
        return Verdict.read(run.verdict, run.storage)

    def recommender(self, day: date | str | None = None) -> Recommender:
        """The model that served a published night, with the users of its snapshot.

        Args:
            day: the day; None for the newest.

        Raises:
            InputError: as :meth:`manifest`, the run's folder was removed, or a baseline served.
        """
        from hmamba.recommender import Recommender

        run = self._run(day)
        version = read_serving(run)
        if not run.model.is_dir():
            raise InputError(f"{version} served that night and is a baseline. Open a night that a model served.")
        return Recommender.of_run(run, version, self.config)

    def _run(self, day: date | str | None) -> RunLayout:
        manifest = self.manifest(day)
        return self.layout.run(manifest.day, manifest.run_id)

    @staticmethod
    def _day(day: date | str | None) -> date | None:
        if isinstance(day, str):
            try:
                day = day_of(day)
            except ValueError as error:
                raise InputError(f"{error}.") from None
        return day.date() if isinstance(day, datetime) else day
