"""Registry of targets by the value of ``deliver.TARGET.kind``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from hmamba.delivery.base import Settings, Target
from hmamba.errors import ConfigError


@dataclass(frozen=True)
class Kind:
    """A kind of target.

    Attributes:
        module: name of the module, which is imported when a target of this kind is opened.
        target: name of its class.
        settings: the settings that it uses, besides ``kind``.
        extra: the extra of the package that it needs; None if nothing more.
    """

    module: str
    target: str
    settings: frozenset[str]
    extra: str | None = None

    def open(self, settings: Settings) -> Target:
        """Open a target.

        Raises:
            ConfigError: a setting is wrong or of another kind, or a library is missing.
        """
        name, kind = settings.name, settings.config.kind
        unused = sorted(settings.config.model_fields_set - self.settings - {"kind"})
        if unused:
            raise ConfigError(
                f"deliver.{name}.{unused[0]}: a target of kind {kind!r} has no such setting. Remove it; it has "
                f"{', '.join(sorted(self.settings))}."
            )
        try:
            module = import_module(self.module)
        except ImportError as error:
            if self.extra is None or (error.name or "").startswith("hmamba"):
                raise
            raise ConfigError(
                f"deliver.{name}: kind = {kind!r} needs a library that is not installed ({error}). Install it: "
                f"pip install 'hmamba-nightly[{self.extra}]'."
            ) from None
        make: Callable[[Settings], Target] = getattr(module, self.target)
        return make(settings)


_SERVER = frozenset({"address", "into", "timeout_seconds", "top"})
_FILES = Kind("hmamba.delivery.files", "FilesTarget", frozenset({"compress", "into", "top"}))

KINDS: dict[str, Kind] = {
    "postgres": Kind("hmamba.delivery.postgres", "PostgresTarget", _SERVER, "postgres"),
    "redis": Kind(
        "hmamba.delivery.redis", "RedisTarget", _SERVER | {"content", "expire_seconds", "most_changes"}, "redis"
    ),
    "csv": _FILES,
    "jsonl": _FILES,
}


def open_target(settings: Settings) -> Target:
    """Open a configured target, without connecting to it.

    Raises:
        ConfigError: the kind is not registered, a setting is wrong, or a library is missing.
    """
    kind = KINDS.get(settings.config.kind)
    if kind is None:
        raise ConfigError(
            f"deliver.{settings.name}.kind = {settings.config.kind!r} is not known. Give one of "
            f"{', '.join(map(repr, KINDS))}."
        )
    return kind.open(settings)
