"""The train step in several processes: the model and the metrics of one, and the exit status that schedulers act on."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from hmamba.config import whole
from hmamba.contracts.steps import TrainMetrics
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from jobs import train
from tests.landing import DAY

SETTINGS = """
[snapshot]
shards = 2
[model]
dim = 16
d_state = 8
head_dim = 16
dropout = 0.0
[train]
epochs = 2
tokens = 256
min_item_events = 1
processes = {processes}
device = "cpu"
[candidates]
exclude_seen = {exclude_seen}
"""


@pytest.mark.parametrize(("cores", "told", "threads"), [(1, None, 1), (2, None, 1), (8, None, 7), (8, "3", 5)])
def test_a_core_is_left_to_the_batches(cores, told, threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    monkeypatch.setattr(train, "_cores", lambda: cores)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(5)
        train._leave_a_core()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def train_apart(root):
    """Run the step as a scheduler does, in a process of its own."""
    command = [sys.executable, "-P", "-m", "jobs.train", "--root", str(root), "--day", DAY.isoformat()]
    return subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)


@pytest.mark.parametrize("exclude_seen", ["false", "true"])
def test_two_processes_train_the_model_of_one(loaded, tmp_path, capsys, exclude_seen):
    loaded.configure(SETTINGS.format(processes=1, exclude_seen=exclude_seen))
    loaded.ok("snapshot")
    shared = Layout.at(tmp_path / "shared")
    shutil.copytree(loaded.layout.root, shared.root)
    assert train.main(["--root", str(loaded.layout.root), "--day", DAY.isoformat()]) == 0
    alone = json.loads(capsys.readouterr().out)

    shared.config.write_text(SETTINGS.format(processes=2, exclude_seen=exclude_seen))
    result = train_apart(shared.root)
    assert result.returncode == 0, result.stderr
    (line,) = result.stdout.strip().splitlines()
    metrics = json.loads(line)
    run = shared.run(DAY, "manual")
    assert TrainMetrics.read(run.step_metrics("train")) == TrainMetrics.parse(metrics, "the line")
    assert (metrics["processes"], alone["processes"]) == (2, 1)
    assert metrics["version"] == alone["version"]
    assert [round(epoch["loss"], 3) for epoch in metrics["epochs"]] == [round(e["loss"], 3) for e in alone["epochs"]]
    expected = load_file(loaded.layout.model(alone["version"]) / "model.safetensors")
    for name, value in load_file(shared.model(metrics["version"]) / "model.safetensors").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=2e-4, msg=name)
    assert not run.training.exists()
    stored = shared.model(metrics["version"])
    assert read_json(stored / "metrics.json")["training"]["score_terms"] == metrics["score_terms"]
    told = metrics["score_terms"]["cooccurrence"]
    assert told["users"] == 40
    assert told["weights"] == pytest.approx(alone["score_terms"]["cooccurrence"]["weights"], rel=1e-3)
    if told["weights"] is None:  # users who repeat items take few that followed
        assert exclude_seen == "false"
        assert read_json(stored / "config.json")["counted_terms"] == {}
        return
    assert told["ndcg@10"] > told["ndcg@10 without"]
    assert set(told["weights"]) == {"new", "seen"}
    assert read_json(stored / "config.json")["counted_terms"] == {"cooccurrence": told["weights"]}
    counted = pq.read_table(stored / "cooccurrence.parquet")
    assert len(counted) > 100
    assert counted == pq.read_table(loaded.layout.model(alone["version"]) / "cooccurrence.parquet")


def test_what_a_person_must_mend_keeps_its_exit_status(loaded):
    loaded.configure(SETTINGS.format(processes=2, exclude_seen="true"))
    result = train_apart(loaded.layout.root)
    assert result.returncode == 2
    assert "Run the snapshot step again" in result.stderr
    loaded.configure(SETTINGS.format(processes=0, exclude_seen="true"))
    assert train_apart(loaded.layout.root).returncode == 2


@pytest.mark.parametrize("installed", [True, False])
def test_a_night_with_a_ranker_records_what_it_brings(loaded, capsys, caplog, monkeypatch, installed):
    settings = (
        SETTINGS.format(processes=1, exclude_seen="false") + '[gate]\nmin_users = 5\n[rank]\nmodel = "lightgbm"\n'
    )
    loaded.configure(settings)
    loaded.ok("snapshot")
    if not installed:
        monkeypatch.setitem(sys.modules, "lightgbm", None)
        assert train.main(["--root", str(loaded.layout.root), "--day", DAY.isoformat()]) == 2
        assert 'pip install "hmamba-nightly[rank]"' in caplog.text
        assert "epoch 1" not in caplog.text
        return
    assert train.main(["--root", str(loaded.layout.root), "--day", DAY.isoformat()]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ranker"]["users"] >= 5
    assert found["ranker"]["ndcg@10"] > 0
    stored = read_json(loaded.layout.model(found["version"]) / "config.json")["ranker"]
    assert stored == ({"depth": 100} if found["ranker"]["kept"] else None)


def test_a_ranker_that_is_not_asked_for_does_not_stop_a_night(loaded, capsys, caplog, monkeypatch):
    loaded.configure(SETTINGS.format(processes=1, exclude_seen="false") + "[gate]\nmin_users = 5\n")
    loaded.ok("snapshot")
    monkeypatch.setattr(whole, "find_spec", lambda name: object())  # installed, but it cannot be loaded
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    assert train.main(["--root", str(loaded.layout.root), "--day", DAY.isoformat()]) == 0
    assert json.loads(capsys.readouterr().out)["ranker"] is None
    assert "train: no ranker: A ranker needs the package lightgbm" in caplog.text
