"""One of the processes of a training, started by torchrun: python -m torch.distributed.run -m tests.training.one_rank.

Arguments: the folder to work in, the items up to which the softmax is full, and the step at which rank 1 fails (0: none
does).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from hmamba.training.fit import Fit
from hmamba.training.ranks import joined
from tests.histories import random_histories
from tests.training.trainings import prepared, settings

TRAIN = {
    "epochs": 3,
    "tokens": 64,
    "row_share": 0.6,
    "half_life_days": 20.0,
    "ema": 0.9,
    "checkpoint_seconds": 1e-9,
    "negatives": 6,
}


def training(folder, full_softmax_items):
    """The training that is distributed. Some batches hold one window, so that rank 1 has no rows."""
    train = {**TRAIN, "full_softmax_items": full_softmax_items}
    config = settings(model={"dropout": 0.0, "score_terms": ("repeats",)}, train=train)
    return prepared(random_histories(users=16, events=120), folder, config)


def main(folder: Path, full_softmax_items: int, fails_at: int) -> None:
    """Train, and let rank 0 write the result."""
    with joined(torch.device("cpu")) as ranks:
        ready = training(folder / "checkpoint", full_softmax_items)
        fit = Fit(ready.model, ready.plan, ranks)
        real = fit._step

        def step(place, batch):
            if ranks.rank == 1 and place.step + 1 == fails_at:
                raise RuntimeError("rank 1 fails")
            real(place, batch)

        fit._step = step
        facts = fit.run()
        if ranks.leads:
            (folder / "facts.json").write_text(json.dumps(facts))
            save_file(ready.model.state_dict(), folder / "model.safetensors")


def running_threads() -> list[str]:
    """Names of the threads of this process, those of C++ too."""
    return [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    if left := [name for name in running_threads() if "gloo" in name]:
        sys.exit(f"threads of the process group outlive the training: {left}")  # could abort its exit
