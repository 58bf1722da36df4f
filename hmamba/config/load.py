"""Finding a configuration, checking it, and naming the key that is wrong. Unknown keys are errors."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hmamba.config.whole import Config
from hmamba.errors import ConfigError
from hmamba.storage.layout import Layout

_RENAMED = {
    "candidates.float32_overlap": "candidates.float32_recall",
    "model.cooccurrence": 'model.score_term = "cooccurrence" instead of true, "none" instead of false',
    "model.repeat": 'model.score_term = "repeats" instead of true, "none" instead of false',
    "model.transitions": 'model.score_term = "cooccurrence" instead of true, "none" instead of false',
}
"""Old names of settings, and what to use instead."""


def named_configs() -> list[str]:
    """Names of the configurations that come with the package."""
    folder = resources.files("hmamba") / "configs"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def _explain(error: ValidationError, where: str) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"]) or "(whole file)"
        if key in _RENAMED:
            lines.append(f"{where}: {key!r} has a new name: use {_RENAMED[key]}.")
        elif problem["type"] == "extra_forbidden":
            lines.append(
                f"{where}: unknown key {key!r}. Remove it or check its spelling against docs/configuration.md."
            )
        else:
            value = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
            lines.append(f"{where}: {key}{value}: {problem['msg'].removeprefix('Value error, ')}.")
    return "\n".join(lines)


def parse(values: dict[str, Any], where: str) -> Config:
    """Check settings that were read from ``where``.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type or is out of range.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, where)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Values of a TOML file.

    Raises:
        ConfigError: there is no such file, it cannot be read, or it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. Give the path of a .toml file.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Give the path of a .toml file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from None


def load(choice: str | None, layout: Layout) -> Config:
    """Load a configuration.

    Args:
        choice: a path, the name of a configuration of the package, or None: the root's hmamba.toml if there is one,
            the defaults otherwise.
        layout: the root.

    Raises:
        ConfigError: it does not exist, is not TOML, or a setting is wrong.
    """
    if choice is None:
        if not layout.config.exists():
            return Config()
        path = layout.config
    elif choice.endswith(".toml") or "/" in choice:
        path = Path(choice)
    elif choice in named_configs():
        source = resources.files("hmamba") / "configs" / f"{choice}.toml"
        return parse(tomllib.loads(source.read_text(encoding="utf-8")), f"configuration {choice!r}")
    else:
        raise ConfigError(
            f"--config {choice}: no such configuration. Give the path of a .toml file or one of "
            f"{', '.join(named_configs())}."
        )
    return parse(read_toml(path), str(path))
