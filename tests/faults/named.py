"""Faults that once ended with exit status 0 and another result, each by its name."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from hmamba.storage.layout import Layout
from tests.faults.damage import damage
from tests.faults.processes import Ended, Running, run
from tests.faults.world import RUN_ID, SECOND, World, arguments, day_of

Fault = Callable[[Path, str, World], list[Ended]]


def _damaged(how: str, *pattern: str) -> Fault:
    """Damage the first file of the night's folder, or of the root, that matches a pattern, then run the step."""

    def fault(root: Path, step: str, world: World) -> list[Ended]:
        folders = (Layout.at(root).run(SECOND, RUN_ID).folder, root)
        file = next(path for folder in folders for glob in pattern for path in sorted(folder.glob(glob)))
        damage(root, file.relative_to(root), how, random.Random(1))
        return [run(arguments(root, step, day_of(step)))]

    return fault


def _second_snapshot(root: Path, step: str, world: World) -> list[Ended]:
    """A snapshot of other settings under the same run id, after scoring; of the night's own once the step has ended."""
    config = Layout.at(root).config
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("shards = 2", "shards = 1"), encoding="utf-8")
    made = run(arguments(root, "snapshot", SECOND))
    config.write_text(text, encoding="utf-8")
    ended = run(arguments(root, step, SECOND))
    again = run(arguments(root, "snapshot", SECOND))
    assert made.status == again.status == 0, f"{made.message} {again.message}"
    return [ended]


def _second_gate(root: Path, step: str, world: World) -> list[Ended]:
    """The model that serves is stored again with other weights, after scoring."""
    run_folder = Layout.at(root).run(SECOND, RUN_ID)
    shutil.rmtree(run_folder.model)
    earlier = next(
        path for path in sorted(Layout.at(root).runs.glob("*/*/model")) if SECOND.isoformat() not in str(path)
    )
    shutil.copytree(earlier, run_folder.model)
    return [run(arguments(root, step, SECOND))]


def _swapped_while_published(root: Path, step: str, world: World) -> list[Ended]:
    """A part is replaced by another one while it is published."""
    parts = [Layout.at(root).run(SECOND, RUN_ID).candidate_part(shard) for shard in (0, 1)]
    content = [part.read_bytes() for part in parts]
    publishing = Running(arguments(root, step, SECOND))
    time.sleep(random.Random(3).uniform(0, 0.5 * world.seconds[step]))
    for part, other in zip(parts, reversed(content), strict=True):
        part.write_bytes(other)
    ended = publishing.wait()
    for part, own in zip(parts, content, strict=True):
        part.write_bytes(own)
    return [ended]


NAMED: dict[str, tuple[str, Fault]] = {
    "one bit of a snapshot's shard before training": (
        "train",
        _damaged("flip", "sequences/shard-0001.parquet"),
    ),
    "one bit of a snapshot's shard before scoring": (
        "score-0",
        _damaged("flip", "sequences/shard-0000.parquet"),
    ),
    "one bit of the snapshot's items": ("index", _damaged("flip", "sequences/items.parquet")),
    "a shard deleted before training": ("train", _damaged("remove", "sequences/shard-0001.parquet")),
    "a shard deleted before the gate": ("gate", _damaged("remove", "sequences/shard-0000.parquet")),
    "one bit of the champion's weights": ("train", _damaged("flip", "models/*/model.safetensors")),
    "one bit of the serving model's weights": ("score-1", _damaged("flip", "model/model.safetensors")),
    "one bit of the serving model's counts": (
        "index",
        _damaged("flip", "model/*.npz", "model/c*.parquet"),
    ),
    "one bit of a candidate part": ("publish", _damaged("flip", "candidates/part-0001.parquet")),
    "a second snapshot under the same run id": ("publish", _second_snapshot),
    "another model under the same run id": ("publish", _second_gate),
    "a part swapped while it is published": ("publish", _swapped_while_published),
    "one bit of a night's part before a refresh": (
        "refresh",
        _damaged("flip", "candidates/part-0000.parquet"),
    ),
    "one bit of the verdict": ("index", _damaged("flip", "verdict.json")),
}
"""Each fault with the step that it disturbs."""
