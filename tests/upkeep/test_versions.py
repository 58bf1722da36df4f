"""The list of model versions."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from hmamba.contracts.models import ModelMetrics
from hmamba.models import promotions
from hmamba.models.files import save
from hmamba.storage.layout import Layout
from hmamba.upkeep.versions import versions
from tests.jobs.commands.call import call
from tests.report.metrics_of_night import TRAINED, verdict
from tests.stored import stored_model

DAYS = [date(2024, 1, day) for day in (28, 29, 30)]


@pytest.fixture
def shop(layout: Layout) -> tuple[Layout, list[str]]:
    """Three versions, each the parent of the next; the first two were promoted."""
    names: list[str] = []
    for number, day in enumerate(DAYS):
        stored = stored_model()
        parent = names[-1] if names else None
        inputs = replace(stored.provenance, day=day, parent=parent)
        names.append(save(layout, stored.model, inputs, stored.candidate_items, stored.item_ids))
        ModelMetrics(training=TRAINED, gate=verdict(challenger=names[-1])).write(layout.model_metrics(names[-1]))
        if number < 2:
            promotions.record_decision(layout, day, names[-1])
    return layout, names


def test_every_version_with_its_promotion(shop: tuple[Layout, list[str]]) -> None:
    layout, names = shop
    found = versions(layout)
    assert [(one.version, one.day, one.parent) for one in found] == [
        (name, day, parent) for name, day, parent in zip(names, DAYS, [None, *names], strict=False)
    ]
    assert [one.promoted_at is not None for one in found] == [True, True, False]
    assert [one.serves for one in found] == [False, True, False]
    assert [(one.metric, one.value, one.damage) for one in found] == 3 * [("ndcg@10", pytest.approx(0.176), None)]
    size = sum(path.stat().st_size for path in layout.model(names[0]).iterdir())
    assert found[0].bytes == size


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "items.parquet", "metrics.json", "contents.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_version_says_what_is_wrong(shop: tuple[Layout, list[str]], file: str, damage: str) -> None:
    layout, names = shop
    path = layout.model(names[1]) / file
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    found = versions(layout)
    assert [one.damage is not None for one in found] == [False, True, False]
    assert names[1] in str(found[1].damage)
    assert (found[1].day, found[1].serves) == (DAYS[1], True)


def test_a_promoted_version_that_is_gone_is_listed(shop: tuple[Layout, list[str]]) -> None:
    layout, names = shop
    layout.storage.delete(layout.model(names[1]))
    found = versions(layout)
    assert [one.version for one in found] == names
    assert "does not exist" in str(found[1].damage)
    assert found[1].bytes == 0


def test_on_the_command_line(shop: tuple[Layout, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    layout, names = shop
    Path(layout.model(names[2]) / "config.json").write_text("{")
    assert call("models", "--root", str(layout.root)) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == names
    assert lines[2].split()[-1] == "serves"
    assert lines[3].split()[-1] == "damaged"
    assert "config.json" in captured.err
    assert call("models", "--root", str(layout.root), "--json") == 0
    assert [one["version"] for one in json.loads(capsys.readouterr().out)] == names
