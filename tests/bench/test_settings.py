"""Settings of the measurements."""

from __future__ import annotations

import pytest

from bench import settings
from bench.datasets import NAMES
from bench.tables import METRICS
from hmamba.config import Config, read_toml
from hmamba.errors import ConfigError


@pytest.mark.parametrize("name", [*NAMES, "other"])
def test_every_data_set_has_valid_settings(name):
    path = settings.path_of(name, None)
    assert path.name == f"{name}.toml"
    settings.configure(path, {})


def test_files_have_the_settings_of_others_unless_said(tmp_path):
    assert settings.path_of("unheard-of", None).name == "other.toml"
    assert settings.path_of("beauty", tmp_path / "mine.toml") == tmp_path / "mine.toml"


def test_overrides_are_read_as_toml():
    found = settings.pairs(["model.layers=2", "model.variant=half", "train.learning_rate = 1e-3", "a.b=true"])
    assert found == {"model.layers": 2, "model.variant": "half", "train.learning_rate": 1e-3, "a.b": True}
    with pytest.raises(ConfigError, match="name=value"):
        settings.pairs(["model.layers"])


def test_overrides_go_over_the_file(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text("[model]\nlayers = 3\ndropout = 0.4\n")
    config = settings.configure(path, {"model.layers": 2, "candidates.exclude_seen": False})
    assert (config.model.layers, config.model.dropout, config.model.score_terms[0]) == (2, 0.4, "repeats")
    assert settings.differences(config) == {
        "model.layers": 2,
        "model.dropout": 0.4,
        "model.score_terms": ("repeats", "cooccurrence", "attributes"),
        "candidates.exclude_seen": False,
    }
    assert settings.differences(Config()) == {}
    with pytest.raises(ConfigError, match=r"unknown key 'model\.depth'"):
        settings.configure(path, {"model.depth": 2})
    with pytest.raises(ConfigError, match="name the section"):
        settings.configure(path, {"layers": 2})


def test_missing_and_broken_files_are_explained(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        settings.configure(tmp_path / "none.toml", {})
    (tmp_path / "broken.toml").write_text("[model")
    with pytest.raises(ConfigError, match="is not TOML"):
        settings.configure(tmp_path / "broken.toml", {})


def test_every_row_of_the_ablation_is_a_valid_override():
    rows = read_toml(settings.FOLDER / "ablation.toml")["row"]
    assert len({row["name"] for row in rows}) == len(rows) > 5
    for name in ("beauty", "complete-journey"):
        for row in rows:
            settings.configure(settings.path_of(name, None), row["set"])


def test_published_figures_are_of_metrics_that_are_measured():
    figures = read_toml(settings.FOLDER / "published.toml")["figure"]
    assert {figure["data"] for figure in figures} == {"beauty", "sports", "toys"}
    assert {name for figure in figures for name in figure["metrics"]} <= set(METRICS)
