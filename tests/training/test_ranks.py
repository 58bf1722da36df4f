"""Training in several processes gives the losses and weights of one process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from hmamba.model.repeats import Repeats
from hmamba.storage.local import read_json
from hmamba.training.batches import Batches
from hmamba.training.fit import Fit
from tests.histories import random_histories
from tests.training.one_rank import training
from tests.training.test_batches import catalogue_of

FULL, SAMPLED = 1000, 5


def torchrun(folder, full_softmax_items=FULL, fails_at=0):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tests.training.one_rank"]
    command = [sys.executable, *command, str(folder), str(full_softmax_items), str(fails_at)]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


def alone(folder, full_softmax_items=FULL):
    """Records and weights of a training in one process."""
    ready = training(folder / "alone", full_softmax_items)
    assert 1 in {len(windows) for seed in range(3) for windows in ready.plan.batches.epoch(seed)}
    return Fit(ready.model, ready.plan).run(), ready.model.state_dict()


def check(folder, facts, weights):
    for mine, expected in zip(json.loads((folder / "facts.json").read_text()), facts, strict=True):
        assert mine["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert mine["ndcg@10"] == pytest.approx(expected["ndcg@10"], abs=0.01)  # a near tie may fall the other way
    shared = load_file(folder / "model.safetensors")
    for name, value in weights.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-3, atol=2e-4, msg=name)


@pytest.mark.parametrize("full_softmax_items", [FULL, SAMPLED])
def test_two_processes_give_the_result_of_one(tmp_path, full_softmax_items):
    result = torchrun(tmp_path, full_softmax_items)
    assert result.returncode == 0, result.stderr
    check(tmp_path, *alone(tmp_path, full_softmax_items))


def test_an_error_in_one_process_ends_all_and_they_resume_from_the_checkpoint(tmp_path):
    result = torchrun(tmp_path, fails_at=8)
    assert result.returncode != 0
    assert "rank 1 fails" in result.stderr
    assert 0 < read_json(tmp_path / "checkpoint" / "state.json")["step"] < 8
    result = torchrun(tmp_path)
    assert result.returncode == 0, result.stderr
    check(tmp_path, *alone(tmp_path))


@pytest.mark.parametrize("ranks", [2, 3, 50])
def test_the_parts_of_a_batch_add_up_to_the_batch(ranks):
    histories = random_histories()
    options = {"max_length": 8, "tokens": 100, "learned_term": Repeats(8, 20), "share": 0.5, "half_life_days": 10}
    batches = Batches(histories, catalogue_of(histories), **options)
    for seed, windows in enumerate(batches.epoch(0)):
        whole = batches.load(windows, seed)
        parts = [batches.load(windows, seed, rank, ranks) for rank in range(ranks)]
        assert {part.weight for part in parts} == {whole.weight}
        assert whole.weight == pytest.approx(whole.weights.sum())
        assert sum(len(part.items) for part in parts) == len(whole.items) == batches.events(windows)
        asked = [questions(part) for part in parts]
        assert sorted(evaluation_set for part in asked for evaluation_set in part) == sorted(questions(whole))
        longest = max(batches.window_end[windows] - batches.window_start[windows])
        sizes = [len(part.items) for part in parts]
        assert max(sizes) - min(sizes) <= longest


def questions(batch):
    """For each row its window up to the row, its targets and its entries, without positions and order."""
    found = []
    for row, position in enumerate(batch.positions):
        read = batch.items[: position + 1][batch.segments[: position + 1] == batch.segments[position]]
        of_row, of_target = batch.entries.rows == row, batch.targets[0] == row
        repeats = sorted(zip(batch.entries.columns[of_row], batch.entries.shares[of_row].sum(1).round(4), strict=True))
        found.append(str((read.tolist(), batch.targets[1][of_target], batch.weights[of_target], repeats)))
    return found
