"""Registry of storage classes by URI scheme."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hmamba.errors import ConfigError
from hmamba.storage.base import Storage
from hmamba.storage.local import LocalStorage

STORAGES: dict[str, Callable[[str], Storage]] = {
    "": LocalStorage.at,
    "file": LocalStorage.at,
}


def open_storage(root: str | Path) -> Storage:
    """Open the storage of a root, given as a path or URI.

    Raises:
        ConfigError: no storage is registered for the scheme of the URI.
    """
    scheme, is_uri, _ = str(root).partition("://")
    kind = STORAGES.get(scheme if is_uri else "")
    if kind is None:
        raise ConfigError(
            f"--root {root}: only a local folder is supported in this version. Give a path such as ./demo."
        )
    return kind(str(root))
