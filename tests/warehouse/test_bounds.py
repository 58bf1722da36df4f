"""Pulls with each number of the data's settings at its bounds: they succeed, or a rule or setting is named."""

from __future__ import annotations

import re

import pytest

from hmamba.configdocs import groups
from tests.landing import Root

SECTIONS = ("source.limits", "warehouse", "quality")
BOUNDS = [
    (group.name, one.name, bound)
    for group in groups()
    if group.name in SECTIONS
    for one in group.settings
    for bound in re.findall(r"[≥≤] ([-+.e0-9]+)", one.type)
]


@pytest.mark.parametrize(("section", "name", "bound"), BOUNDS)
def test_a_pull_at_a_bound(root: Root, section: str, name: str, bound: str) -> None:
    value = int(float(bound)) if name != "threads" or float(bound) == 1 else 64  # a thread each would be started
    value = 2**30 if bound == "1.07374e+09" else value
    root.configure(f"[{section}]\n{name} = {value}\n")
    root.drop(
        "a.csv", "user_id,item_id,event_time\n" + "".join(f"u{n},i{n % 7},2024-01-{n % 28 + 1}\n" for n in range(90))
    )
    for _ in range(2):
        code, _, log = root.step("ingest")
        assert code in (0, 2, 3), log
        assert code == 0 or name in log or "broke its rules" in log, log
