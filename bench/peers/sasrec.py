"""RecTools' SASRec on a folder of Parquet files. Runs in the peers' environment and imports nothing of this project.

Reads   job.json                 settings, seed, whether validation is masked, and the depth of each ranking
        train.parquet            user, item, place: what is learnt from, places ascending in time
        stop.parquet             user, item: the next event of each user, for early stopping
        past-NAME.parquet        user, item, place: what is read when NAME is asked
Writes  epochs.json              what is known of each epoch
        ranked-NAME.parquet      user, item, rank: items that a user has had are not left out
        last.ckpt, best.ckpt     for going on after a kill, from the last whole epoch
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.lightning import TransformerLightningModule
from torch import Tensor

_START = pd.Timestamp("2000-01-01")
_ANSWERS = pd.Timestamp("2200-01-01")  # later than any place, so that the answers can be told from the rest
_SAY_EVERY = 10.0


def say(text: str) -> None:
    print(f"sasrec: {text}", file=sys.stderr, flush=True)


def interactions(folder: Path, name: str) -> pd.DataFrame:
    """Events in RecTools' columns. Places become seconds: only their order is used."""
    table = pd.read_parquet(folder / f"{name}.parquet")
    when = _START + pd.to_timedelta(table["place"], unit="s") if "place" in table else _ANSWERS
    return pd.DataFrame(
        {Columns.User: table["user"], Columns.Item: table["item"], Columns.Weight: 1.0, Columns.Datetime: when}
    )


def answers(events: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows are the validation's answers."""
    return np.asarray(events[Columns.Datetime] == _ANSWERS)


class Module(TransformerLightningModule):
    """RecTools' module with its full softmax, computed only where it counts.

    The library scores padding against all items too and drops the result: on short histories that is most of its time.
    Here the positions with an answer are picked first. The loss and its gradients are the same.
    """

    def on_train_start(self) -> None:
        """Draw the weights of a new model; the library would draw them after a checkpoint was loaded, too."""
        if self.trainer.current_epoch == 0:
            super().on_train_start()

    def _logits(self, batch: dict[str, Tensor], where: Tensor) -> Tensor:
        """Scores of all items at these positions (B, T) of the sessions."""
        items = self.torch_model.item_model.get_all_embeddings()
        sessions = self.torch_model.encode_sessions(batch, items)
        logits: Tensor = self.torch_model.similarity_module(sessions[where], items)
        return logits

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Mean of -log softmax over the answers."""
        answers = batch["y"]
        loss = torch.nn.functional.cross_entropy(self._logits(batch, answers != 0), answers[answers != 0])
        self.log(self.train_loss_name, loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Scores after each user's last event."""
        last = torch.zeros_like(batch["x"], dtype=torch.bool)
        last[:, -1] = True
        return {"logits": self._logits(batch, last)}


class Watch(pl.Callback):
    """NDCG@10 on validation and the time of each epoch.

    Args:
        folder: of the run.
        users: users who are asked; those whom RecTools cannot answer count as misses.
        masked: whether seen items are excluded, unless they are relevant.
    """

    def __init__(self, folder: Path, users: int, *, masked: bool) -> None:
        self.path, self.users, self.masked = folder / "epochs.json", users, masked
        self.epochs: list[dict[str, Any]] = json.loads(self.path.read_text()) if self.path.exists() else []
        self.gain, self.began, self.trained, self.said = 0.0, 0.0, 0.0, 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.gain, self.began = 0.0, time.monotonic()
        self.epochs = self.epochs[: trainer.current_epoch]

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say how far the epoch is."""
        self.trained = time.monotonic()
        if self.trained - self.said > _SAY_EVERY:
            self.said = self.trained
            say(f"epoch {trainer.current_epoch + 1}: {batch_idx + 1} of {trainer.num_training_batches} batches")

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the gains of a batch of users."""
        seen, target = batch["x"], batch["y"][:, :1]
        logits = outputs["logits"]
        wanted = logits.gather(1, target)
        if self.masked:
            logits = logits.scatter(1, seen, -torch.inf)
        logits[:, 0] = -torch.inf  # padding
        above = (logits > wanted).sum(1)
        self.gain += float((1 / torch.log2(above[above < 10] + 2.0)).sum())

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the metric that checkpoints and the early stop look at."""
        pl_module.log("ndcg@10", self.gain / self.users)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep what is known of the epoch."""
        now = time.monotonic()
        facts = {
            "epoch": trainer.current_epoch + 1,
            "ndcg@10": round(self.gain / self.users, 6),
            "seconds": round(self.trained - self.began, 3),
            "validation_seconds": round(now - self.trained, 3),
        }
        self.epochs.append(facts)
        self.path.write_text(json.dumps(self.epochs, indent=2) + "\n")
        say(f"epoch {facts['epoch']}: ndcg@10 {facts['ndcg@10']:.4f}, {now - self.began:.0f} s")


class Trainer(pl.Trainer):
    """A trainer whose ``fit``, which RecTools calls, resumes from the last whole epoch if there is one."""

    last: Path | None = None

    def fit(self, *inputs: Any, **options: Any) -> None:
        """Fit, from the checkpoint if there is one."""
        if self.last is not None and self.last.exists():
            say(f"resuming from {self.last}")
            options["ckpt_path"] = str(self.last)
        super().fit(*inputs, **options)


def train(folder: Path, job: dict[str, Any]) -> SASRecModel:
    """Train to the early stop; the model ends with the weights of its best epoch."""
    settings = dict(job["settings"])
    epochs, patience = settings.pop("epochs"), settings.pop("patience")
    stop = interactions(folder, "stop")
    events = pd.concat([interactions(folder, "train"), stop], ignore_index=True)
    best = pl.callbacks.ModelCheckpoint(
        folder, "best", monitor="ndcg@10", mode="max", save_last=True, enable_version_counter=False
    )
    callbacks = [
        Watch(folder, len(stop), masked=job["masked"]),
        best,
        pl.callbacks.EarlyStopping("ndcg@10", mode="max", patience=patience),
    ]

    def trainer() -> Trainer:
        made = Trainer(
            max_epochs=epochs,
            callbacks=callbacks,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            deterministic=True,
            default_root_dir=folder,
        )
        made.last = folder / "last.ckpt"
        return made

    pl.seed_everything(job["seed"])
    model = SASRecModel(
        **settings,
        lightning_module_type=Module,
        get_val_mask_func=answers,
        get_trainer_func=trainer,
    )
    model.fit(Dataset.construct(events))
    state = torch.load(folder / "best.ckpt", weights_only=False)["state_dict"]
    model.lightning_model.load_state_dict(state)
    return model


def rank(model: SASRecModel, folder: Path, name: str, depth: int) -> None:
    """Write each user's first ``depth`` items."""
    events = interactions(folder, f"past-{name}")
    say(f"ranking for {name}")
    found = model.recommend(
        events[Columns.User].unique(),
        Dataset.construct(events),
        k=depth,
        filter_viewed=False,
        on_unsupported_targets="ignore",
    )
    names = {Columns.User: "user", Columns.Item: "item", Columns.Rank: "rank"}
    found[list(names)].rename(columns=names).to_parquet(folder / f"ranked-{name}.parquet", index=False)


def main(arguments: list[str]) -> int:
    """Train and rank as the folder's job says."""
    warnings.filterwarnings("ignore", module="pytorch_lightning|torch|rectools")
    folder = Path(arguments[0])
    job = json.loads((folder / "job.json").read_text())
    model = train(folder, job)
    parameters = sum(p.numel() for p in model.lightning_model.torch_model.parameters())
    (folder / "facts.json").write_text(json.dumps({"parameters": parameters, "torch": torch.__version__}))
    for name, depth in job["depth"].items():
        rank(model, folder, name, depth)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
