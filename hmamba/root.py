"""Read a root that the nightly steps write: its champion, candidates, metrics and models."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds

from hmamba.candidates.lookup import Recommendations, published_manifest, recommend
from hmamba.config import Config, load
from hmamba.errors import InputError
from hmamba.files import read_json
from hmamba.layout import Layout, RunLayout
from hmamba.models import files as model_files
from hmamba.models import promotions

if TYPE_CHECKING:
    from hmamba.recommender import Recommender

_STEP = re.compile(r"([a-z]+)(?:-(\d+))?\.json")


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
        prefix = "run_date="
        names = [path.name.removeprefix(prefix) for path in self.layout.candidates.glob(f"{prefix}*")]
        return sorted(map(date.fromisoformat, names))

    def manifest(self, day: date | None = None) -> dict[str, Any]:
        """The manifest of a day's published candidates.

        Args:
            day: the day; None for the newest.

        Raises:
            InputError: nothing is published for that day, or a file of the manifest is missing or truncated.
        """
        return published_manifest(self.layout, day)

    def candidates(self, day: date | None = None) -> ds.Dataset:
        """The published candidates as an Arrow dataset: user_id, rank, item_id, score, model_version.

        The dataset is lazy: ``.to_table()`` reads it into Arrow, and Polars and DuckDB can scan it.

        Args:
            day: the day; None for the newest.

        Raises:
            InputError: as :meth:`manifest`.
        """
        return ds.dataset([str(self.layout.root / file["path"]) for file in self.manifest(day)["files"]])

    def recommend(self, user: str, k: int = 10) -> Recommendations:
        """A user's ``k`` best published candidates, with titles.

        Raises:
            InputError: the user has no candidates, or nothing is published.
        """
        return recommend(self.layout, str(user), k)

    def metrics(self, day: date | None = None) -> dict[str, Any]:
        """The step metrics of a published night, by step; for ``score`` a list with one entry per shard.

        Args:
            day: the day; None for the newest.

        Raises:
            InputError: as :meth:`manifest`.
        """
        found: dict[str, Any] = {}
        for path in sorted(self._run(day).facts.glob("*.json")):
            if (name := _STEP.fullmatch(path.name)) is None:
                continue
            if name[2] is None:
                found[name[1]] = read_json(path)
            else:
                found.setdefault(name[1], []).append(read_json(path))
        return found

    def verdict(self, day: date | None = None) -> dict[str, Any]:
        """The gate's measurements and decision on a published night.

        Args:
            day: the day; None for the newest.

        Raises:
            InputError: as :meth:`manifest`, or the run's folder was removed.
        """
        verdict: dict[str, Any] = read_json(self._run(day).verdict)
        return verdict

    def recommender(self, day: date | None = None) -> Recommender:
        """The model that served a published night, with the users of its snapshot.

        Args:
            day: the day; None for the newest.

        Raises:
            InputError: as :meth:`manifest`, the run's folder was removed, or a baseline served.
        """
        from hmamba.recommender import Recommender

        run = self._run(day)
        version = model_files.serving(run.verdict)
        if not run.model.is_dir():
            raise InputError(f"{version} served that night and is a baseline. Open a night that a model served.")
        return Recommender.of_run(run, version, self.config)

    def _run(self, day: date | None) -> RunLayout:
        manifest = self.manifest(day)
        return self.layout.run(date.fromisoformat(manifest["day"]), manifest["run_id"])
