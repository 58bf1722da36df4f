from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from hmamba.config import Config, EventType, TargetConfig, named_text, parse
from hmamba.configdocs import MOST_CHANGED, Setting, groups, markdown, starter
from hmamba.errors import ConfigError

DOCS = Path(__file__).parents[1] / "docs"


def test_the_reference_is_up_to_date() -> None:
    committed = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert committed == markdown(), "run: python -m hmamba.configdocs > docs/configuration.md"


def keys(values: object, prefix: str = "") -> set[str]:
    """Dotted names of all leaves of a nested dict."""
    if not isinstance(values, dict):
        return {prefix}
    return {name for key, value in values.items() for name in keys(value, f"{prefix}.{key}".lstrip("."))}


def described() -> dict[str, Setting]:
    """Every setting by its dotted name."""
    return {f"{group.name}.{found.name}": found for group in groups() for found in group.settings}


def test_every_key_is_described() -> None:
    named = {f"events.TYPE.{name}" for name in EventType.model_fields}
    named |= {f"deliver.TARGET.{name}" for name in TargetConfig.model_fields}
    assert set(described()) == keys(Config().model_dump()) | named
    assert [name for name, setting in described().items() if not setting.meaning] == []


def test_ten_settings_are_shown_first_and_marked_below() -> None:
    assert len(set(MOST_CHANGED)) == len(MOST_CHANGED) == 10
    first, *others = re.split(r"(?m)^## `", markdown())
    assert re.findall(r"(?m)^\| `([\w.]+)` \|", first) == list(MOST_CHANGED)
    assert [f"{part.partition(']')[0][1:]}.{key}" for part in others for key in re.findall(r"`(\w+)` ★", part)] == [
        name for name in described() if name in MOST_CHANGED
    ]


def test_the_starter_is_the_defaults() -> None:
    assert parse(tomllib.loads(starter()), "starter") == Config()


def test_every_line_of_the_starter_can_be_uncommented() -> None:
    """Settings that are absent by default have no value to show; all others parse to their defaults."""
    text = re.sub(r"(?m)^#(\w+ = )", r"\1", starter())
    shown = re.sub(r"(?m)^\w+ =  #.*$", "", text)
    values = tomllib.loads(shown)
    assert parse(values, "starter") == Config()
    absent = {
        name
        for name, setting in described().items()
        if setting.default is None and not name.startswith("deliver.TARGET")
    }
    assert absent == keys(Config().model_dump()) - keys(values)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="complete_journey, films"):
        named_text("../secrets")
