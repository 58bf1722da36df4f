"""Registry of source classes by the value of ``source.kind``."""

from __future__ import annotations

from collections.abc import Callable

from hmamba.config import Config
from hmamba.errors import ConfigError
from hmamba.sources.base import Source
from hmamba.sources.files import FileSource
from hmamba.storage.layout import Layout

SOURCES: dict[str, Callable[[Layout, Config], Source]] = {
    "files": FileSource,
}


def open_source(layout: Layout, config: Config) -> Source:
    """Open the configured source and list its parts without reading them.

    Raises:
        ConfigError: the kind is not registered.
        InputError: the source does not exist.
    """
    kind = config.source.kind
    if kind not in SOURCES:
        raise ConfigError(f"source.kind = {kind!r} is not known. Give one of {', '.join(map(repr, SOURCES))}.")
    return SOURCES[kind](layout, config)
