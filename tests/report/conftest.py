"""A made-up night, written once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hmamba.layout import Layout
from tests.report.night import write_night
from tests.synthetic import make_catalogue, make_interactions

HOSTILE = "<script>alert('x')</script> \"& 🧀 \u202eevil"


def hostile_catalogue(items: int = 60) -> pd.DataFrame:
    """A catalogue with a hostile title, a hostile department, an empty title, no category and a title without end."""
    found = make_catalogue(items)
    found["category_path"] = [list(row) for row in found[["department", "category"]].itertuples(index=False)]
    found.at[0, "title"] = HOSTILE
    found.at[1, "category_path"] = ["</style><script>", "b"]
    found.at[2, "title"] = None
    found.at[3, "category_path"] = None
    found.at[4, "title"] = "x" * 10_000
    return found


@pytest.fixture(scope="session")
def night_layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """A root with everything that a run leaves behind. Tests only read it or write the report."""
    layout = Layout.at(tmp_path_factory.mktemp("night"))
    write_night(layout, make_interactions(), hostile_catalogue())
    return layout


@pytest.fixture
def generator() -> np.random.Generator:
    """Fixed randomness."""
    return np.random.default_rng(0)


@pytest.fixture
def copied(night_layout: Layout, tmp_path: Path) -> Layout:
    """A copy of the night that a test may change."""
    import shutil

    shutil.copytree(night_layout.root, tmp_path / "copy")
    return Layout.at(tmp_path / "copy")
