"""Settings of the measurements."""

from __future__ import annotations

import pytest

from bench import settings
from bench.datasets import NAMES
from bench.tables import METRICS
from hmamba.config import Config, read_toml
from hmamba.errors import ConfigError


@pytest.mark.parametrize("name", [*NAMES, "other"])
@pytest.mark.parametrize(("repeats", "exclude_seen"), [(0.0, True), (0.04, True), (0.06, False)])
def test_every_data_set_has_valid_settings_and_its_repeats_decide_about_seen_items(name, repeats, exclude_seen):
    config = settings.configure(settings.standard(name, repeats), {})
    assert config.candidates.exclude_seen == exclude_seen
    protocol = {"train.min_item_events": 5, "train.validation_days": 7} if name == "complete-journey" else {}
    given = {key: value for key, value in settings.differences(config).items() if key.startswith("train.")}
    assert given == {key: value for key, value in protocol.items() if value != getattr(Config().train, key[6:])}


def test_a_file_replaces_the_settings_of_the_data_set(tmp_path):
    (tmp_path / "mine.toml").write_text("[candidates]\nexclude_seen = true\n[model]\nlayers = 2\n")
    config = settings.configure(settings.standard("complete-journey", 0.4, tmp_path / "mine.toml"), {})
    assert (config.candidates.exclude_seen, config.model.layers, config.train.validation_days) == (True, 2, 1)


def test_overrides_are_read_as_toml():
    found = settings.pairs(["model.layers=2", "model.variant=half", "train.learning_rate = 1e-3", "a.b=true"])
    assert found == {"model.layers": 2, "model.variant": "half", "train.learning_rate": 1e-3, "a.b": True}
    with pytest.raises(ConfigError, match="name=value"):
        settings.pairs(["model.layers"])


def test_overrides_go_over_the_values():
    values = {"model": {"layers": 3, "dropout": 0.4}}
    config = settings.configure(values, {"model.layers": 2, "candidates.exclude_seen": False})
    assert (config.model.layers, config.model.dropout, config.model.score_terms[0]) == (2, 0.4, "repeats")
    assert settings.differences(config) == {
        "model.layers": 2,
        "model.dropout": 0.4,
        "model.score_terms": ("repeats", "cooccurrence", "attributes"),
        "candidates.exclude_seen": False,
    }
    assert settings.differences(Config()) == {}
    with pytest.raises(ConfigError, match=r"unknown key 'model\.depth'"):
        settings.configure(values, {"model.depth": 2})
    with pytest.raises(ConfigError, match="name the section"):
        settings.configure(values, {"layers": 2})


def test_missing_and_broken_files_are_explained(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        settings.standard("x", 0.0, tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("[model")
    with pytest.raises(ConfigError, match="is not TOML"):
        settings.standard("x", 0.0, tmp_path / "broken.toml")


def test_every_row_of_the_ablation_is_a_valid_override():
    rows = read_toml(settings.FOLDER / "ablation.toml")["row"]
    assert len({row["name"] for row in rows}) == len(rows) > 5
    for name in ("beauty", "complete-journey"):
        for row in rows:
            settings.configure(settings.standard(name, 0.5), row["set"])


def test_published_figures_are_of_metrics_that_are_measured():
    figures = read_toml(settings.FOLDER / "published.toml")["figure"]
    assert {figure["data"] for figure in figures} == {"beauty", "sports", "toys"}
    assert {name for figure in figures for name in figure["metrics"]} <= set(METRICS)
