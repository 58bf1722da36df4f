"""RecTools' SASRec, an epoch at a time: one for each line on standard input. Runs in the peers' environment.

Reads   job.json         settings, seed, threads, epochs at most
        train.parquet    user, item, place: what is learnt from, places ascending in time
Prints  a line of JSON for each epoch: seconds, answers, loss; in the first also what was counted of the data
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rectools.dataset import Dataset
from rectools.models import SASRecModel

from bench.peers.sasrec import Module, interactions


class Turns(pl.Callback):
    """Waits for its turn before each epoch, and tells what it did."""

    def __init__(self) -> None:
        self.began, self.seconds, self.loss, self.answers = 0.0, 0.0, 0.0, 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait."""
        if not sys.stdin.readline():
            sys.exit(0)
        self.loss, self.answers, self.began = 0.0, 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count."""
        answers = int((batch["y"] != 0).sum())
        self.loss, self.answers = self.loss + float(outputs["loss"]) * answers, self.answers + answers
        self.seconds = time.monotonic() - self.began

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell."""
        items = pl_module.torch_model.item_model.n_items - 1  # without padding
        facts = {"seconds": self.seconds, "answers": self.answers, "loss": self.loss / self.answers, "items": items}
        print(json.dumps(facts), flush=True)


def main(arguments: list[str]) -> int:
    """Train as the folder's job says."""
    warnings.filterwarnings("ignore", module="pytorch_lightning|torch|rectools")
    folder = Path(arguments[0])
    job = json.loads((folder / "job.json").read_text())
    torch.set_num_threads(job["threads"])
    pl.seed_everything(job["seed"])

    def trainer() -> pl.Trainer:
        return pl.Trainer(
            max_epochs=job["epochs"],
            callbacks=[Turns()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )

    model = SASRecModel(**job["settings"], lightning_module_type=Module, get_trainer_func=trainer)
    model.fit(Dataset.construct(interactions(folder, "train")))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
