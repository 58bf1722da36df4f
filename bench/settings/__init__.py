"""Settings of the measurements: TOML files, in the product's own form, and overrides of single settings."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hmamba.config import Config, Section, parse, read_toml
from hmamba.errors import ConfigError

FOLDER = Path(__file__).parent


def path_of(data: str, given: Path | None) -> Path:
    """The file given, the one of the data set, or the one of all others."""
    own = FOLDER / f"{data}.toml"
    return given or (own if own.exists() else FOLDER / "other.toml")


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


def configure(path: Path, overrides: Mapping[str, Any]) -> Config:
    """The settings of a file with overrides, named ``section.key``.

    Raises:
        ConfigError: the file does not exist or is not TOML, a setting is unknown or wrong, or an override names no
            section.
    """
    values = read_toml(path)
    for name, value in overrides.items():
        section, dot, key = name.partition(".")
        if not dot:
            raise ConfigError(f"{name!r}: name the section too, such as model.layers.")
        values[section] = {**values.get(section, {}), key: value}
    return parse(values, str(path))


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
