"""The command from end to end with tiny models: stored trainings, resuming, and what a page shows."""

from __future__ import annotations

import re

import pytest

from bench.geometry import __main__ as geometry
from hmamba.training import fit
from tests.bench.files import order_only

TINY = {"model.d_state": 8, "train.epochs": 2, "train.tokens": 128}


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command on a small file; returns what it printed."""
    monkeypatch.delenv("HMAMBA_DATA", raising=False)
    data = order_only(tmp_path / "order.parquet")

    def call(*options, status=0, work="work"):
        places = ["--work", str(tmp_path / work), "--out", str(tmp_path / "results")]
        shared = [part for name, value in TINY.items() for part in ("--set", f"{name}={value}")]
        assert geometry.main([str(data), *places, *shared, *options]) == status
        return capsys.readouterr().out

    return call


def without_times(text):
    """The page without its command and what was timed."""
    kept = [each for each in text.partition("## Runs")[0].splitlines() if "CPU seconds" not in each]
    return [each for each in kept if not each.startswith("| command")]


def test_a_subset_is_trained_and_the_page_shows_all_that_is_stored(command, tmp_path, monkeypatch):
    trained = []
    train = geometry.train

    def counted(experiment, config, *arguments):
        trained.append((config.model.variant, config.model.dim, config.model.head_dim, config.train.seed))
        return train(experiment, config, *arguments)

    monkeypatch.setattr(geometry, "train", counted)
    command("--dims", "4", "--seeds", "1,2", "--variants", "full")
    assert trained == [("full", 4, 4, 1), ("full", 4, 4, 2)]
    text = command("--dims", "4,8", "--seeds", "1,2", "--variants", "euclidean")
    assert trained[2:] == [
        ("euclidean", 4, 4, 1),
        ("euclidean", 8, 8, 1),
        ("euclidean", 4, 4, 2),
        ("euclidean", 8, 8, 2),
    ]
    assert re.search(r"(?m)^\| whole model: NDCG@10 \| [+*-].* ± .* / .* \| - \|$", text)
    assert "Of " in text
    again = command("--dims", "4", "--seeds", "1")
    assert without_times(again) == without_times(text)
    assert without_times(command("--stored")) == without_times(text)
    assert len(trained) == 6
    (file,) = (tmp_path / "results").glob("geometry-order-*.md")
    assert str(tmp_path) not in file.read_text(encoding="utf-8")
    assert "python -m bench.geometry order.parquet" in file.read_text(encoding="utf-8")


def test_a_killed_training_goes_on_and_ends_the_same(command, monkeypatch, caplog):
    caplog.set_level("INFO", logger="hmamba")
    options = ("--dims", "4", "--seeds", "1", "--print-only")
    whole = command(*options, work="whole")
    validate, calls = fit.validate, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return validate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "validate", killed)
        with pytest.raises(KeyboardInterrupt):
            command(*options)
    caplog.clear()
    resumed = command(*options)
    assert "resuming at epoch 2" in caplog.text
    assert caplog.text.count("geometry: seed 1") == 1
    assert without_times(resumed) == without_times(whole)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dims", "few"], "--dims few: give whole numbers"),
        (["--variants", "half"], "choose among full, euclidean"),
        (["--stored"], "no training on order with these settings is stored"),
        (["--dims", "1"], "greater than or equal to 2"),
    ],
)
def test_wrong_options_are_explained(command, caplog, options, message):
    command(*options, status=2)
    assert message in caplog.text
