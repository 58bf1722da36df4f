"""Settings of the measurements: TOML files, in the product's own form, and overrides of single settings."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hmamba.config import Config, Section, parse, read_toml
from hmamba.errors import ConfigError
from hmamba.survey.measure import REPEATS_FROM

FOLDER = Path(__file__).parent


def standard(data: str, repeats: float, given: Path | None = None) -> dict[str, Any]:
    """The settings of a data set: what its protocol needs, and the choice that ``hmamba init`` would propose.

    Args:
        data: name of the data set.
        repeats: share of its events that repeat an item of their user.
        given: a file that is used instead of the one of the data set.

    Raises:
        ConfigError: the file does not exist or is not TOML.
    """
    own = FOLDER / f"{data}.toml"
    values = read_toml(given or own) if given or own.exists() else {}
    return {**values, "candidates": {"exclude_seen": repeats < REPEATS_FROM, **values.get("candidates", {})}}


def pairs(texts: Iterable[str]) -> dict[str, Any]:
    """Overrides such as ``model.layers=2``; a value that is no TOML is text.

    Raises:
        ConfigError: there is no equals sign.
    """
    result: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{text!r}: write name=value, such as model.layers=2.")
        try:
            result[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            result[name.strip()] = value.strip()
    return result


def configure(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> Config:
    """Settings with overrides, named ``section.key``.

    Raises:
        ConfigError: a setting is unknown or wrong, or an override names no section.
    """
    merged = dict(values)
    for name, value in overrides.items():
        section, dot, key = name.partition(".")
        if not dot:
            raise ConfigError(f"{name!r}: name the section too, such as model.layers.")
        merged[section] = {**merged.get(section, {}), key: value}
    return parse(merged, "settings of the measurement")


def differences(config: Config) -> dict[str, Any]:
    """What a training depends on and is not at its default, as ``section.key``; the seed is listed by itself."""
    standard, result = Config(), {}
    for section in ("model", "train", "candidates"):
        mine, usual = getattr(config, section), getattr(standard, section)
        assert isinstance(mine, Section)
        for key, value in mine.model_dump().items():
            if value != getattr(usual, key) and (section, key) != ("train", "seed"):
                result[f"{section}.{key}"] = value
    return result
