"""Find and validate a configuration. Errors name the invalid key; unknown keys are errors."""

from __future__ import annotations

import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hmamba.config.whole import Config
from hmamba.errors import ConfigError
from hmamba.storage.layout import Layout
from hmamba.text import short

RENAMED = {
    "candidates.float32_overlap": "candidates.float32_recall",
    "candidates.keep_runs": "keep.runs",
    "model.repeat": 'model.score_terms with or without "repeats" in the list',
    "model.score_term": 'model.score_terms = ["repeats"] or ["cooccurrence"] for one, [] for "none"; absent for "auto"',
    "model.transitions": 'model.score_terms with or without "cooccurrence" in the list',
    "name": None,
    "runs": "keep.runs",
}
"""Old names of settings and their replacements; None if the setting was removed."""


def named_configs() -> list[str]:
    """Names of the configurations that come with the package."""
    folder = resources.files("hmamba") / "configs"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def named_text(name: str) -> str:
    """The text of a configuration that comes with the package.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in named_configs():
        raise ConfigError(
            f"--config {name}: no such configuration to start from. Choose one of {', '.join(named_configs())}."
        )
    return (resources.files("hmamba") / "configs" / f"{name}.toml").read_text(encoding="utf-8")


def _shown(value: Any) -> str:
    """A value as a message shows it."""
    return short(repr(value))


def _explain(error: ValidationError, where: str) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if key in RENAMED:
            new = RENAMED[key]
            lines.append(
                f"{where}: {key!r} {f'has a new name: use {new}' if new else 'is no longer a setting: remove it'}."
            )
        elif problem["type"] == "extra_forbidden":
            lines.append(
                f"{where}: unknown key {key!r}. Remove it or check its spelling against docs/configuration.md."
            )
        elif problem["type"] == "tuple_type":
            example = json.dumps([problem["input"]], default=str)
            lines.append(f"{where}: {key} = {_shown(problem['input'])}: give a list, such as {example}.")
        else:
            value = "" if isinstance(problem["input"], dict) else f" = {_shown(problem['input'])}"
            named = f"{key}{value}: " if key else ""  # a rule between sections names its settings itself
            lines.append(f"{where}: {named}{problem['msg'].removeprefix('Value error, ')}.")
    return "\n".join(lines)


def parse(values: dict[str, Any], where: str) -> Config:
    """Validate settings that were read from ``where``.

    Raises:
        ConfigError: a key is unknown, or a value has the wrong type or is out of range.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, where)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: the file does not exist, cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. Give the path of a .toml file.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Give the path of a .toml file.") from None
    except RecursionError:
        raise ConfigError(f"{path} is not a configuration: its values are nested too deeply.") from None
    except ValueError as error:  # TOML, UTF-8, or a number with too many digits
        raise ConfigError(f"{path} is not TOML: {error}.") from None


def load(choice: str | None, layout: Layout) -> Config:
    """Load a configuration.

    Args:
        choice: a path, the name of a configuration of the package, or None for the root's hmamba.toml if it exists,
            else the defaults.
        layout: the root.

    Raises:
        ConfigError: the configuration does not exist, is not TOML, or has an invalid setting.
    """
    if choice is None:
        if not layout.config.exists():
            return Config()
        path = layout.config
    elif choice.endswith(".toml") or "/" in choice:
        path = Path(choice)
    elif choice in named_configs():
        return parse(tomllib.loads(named_text(choice)), f"configuration {choice!r}")
    else:
        raise ConfigError(
            f"--config {choice}: no such configuration. Give the path of a .toml file or one of "
            f"{', '.join(named_configs())}."
        )
    return parse(read_toml(path), str(path))
