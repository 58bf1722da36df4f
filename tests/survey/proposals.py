"""Proposals for files that a test writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from hmamba.storage.layout import Layout
from hmamba.survey.choose import parse_given
from hmamba.survey.propose import Proposal, propose


def proposed(layout: Layout, *places: Path | str, columns: tuple[str, ...] = ()) -> Proposal:
    return propose(layout, [str(place) for place in places], parse_given(columns))


def why(proposal: Proposal, what: str) -> str:
    (seen,) = [choice.seen for choice in proposal.choices if choice.what == what]
    return seen


def table(**columns: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"userId": [1, 2, 1], "itemid": [3, 4, 5], "ts": [1716985932] * 3} | columns)


def write(folder: Path, frame: pd.DataFrame, name: str = "log.csv") -> Path:
    folder.mkdir(exist_ok=True)
    frame.to_csv(folder / name, index=False)
    return folder / name
