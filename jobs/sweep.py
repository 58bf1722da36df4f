"""Delete what killed steps have left under a root: the first step of a night calls this."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hmamba.contracts.contents import Contents
from hmamba.errors import HMambaError, InputError
from hmamba.models.promotions import promotions, rollbacks
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from hmamba.storage.locks import alone
from hmamba.storage.run_layout import CONTENTS
from hmamba.storage.temporary import Swept, discard, private_place, sweep

log = logging.getLogger("hmamba")


def sweep_root(layout: Layout) -> Swept:
    """Delete leftovers, and log how many there were. Raises no errors.

    Leftovers are hidden files and folders of processes that have ended, among them those to which DuckDB has spilled;
    checkpoints of trainings whose model is stored; and model folders without a readable list of contents, unless the
    version serves or has served. What a running process writes is kept.
    """
    swept = sweep(layout.root, below=False)
    with suppress(OSError):  # where no temporary file can be written, Python knows no folder for them
        place = private_place()
        swept += sweep(place.parent, below=False, target=f"{place.name}.tmp-")
    for folder in (layout.runs, layout.models, layout.candidates, layout.checks.folder, layout.reports):
        swept += sweep(folder)
    for find in (_checkpoints, _broken_models):
        with suppress(OSError, HMambaError):
            for leftover in find(layout):
                swept += discard(leftover)
    if swept.count:
        log.info("leftovers of killed steps are deleted: %d, %.1f MB", swept.count, swept.size / 2**20)
    return swept


def _checkpoints(layout: Layout) -> Iterator[Path]:
    """Checkpoints that no training resumes, because its model is stored. Their runs are locked until the next one."""
    for state in layout.training_states:
        with suppress(HMambaError, KeyError, TypeError), alone(state.parents[1], wait_seconds=0):
            if _is_model(layout.model(read_json(state)["version"])):
                yield state.parent


def _broken_models(layout: Layout) -> Iterator[Path]:
    """Folders of models that cannot be loaded and never served; of pruned models, the metrics stay.

    Raises:
        InputError: the promotions cannot be read.
    """
    taken_back = [promotion for rollback in rollbacks(layout) for promotion in rollback.taken_back]
    served = {promotion.version for promotion in (*promotions(layout), *taken_back)}
    for _, folder in layout.model_days:
        if folder.name not in served and not layout.is_pruned(folder.name) and not _is_model(folder):
            yield folder


def _is_model(folder: Path) -> bool:
    try:
        Contents.read(folder / CONTENTS)
    except InputError:
        return False
    return True
