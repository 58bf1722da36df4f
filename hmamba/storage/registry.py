"""The kinds of storage, by the scheme of a root's address."""

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
    """What keeps a root, by the form of its address: a path, or a URI.

    Raises:
        ConfigError: there is no storage for such a URI.
    """
    scheme, is_uri, _ = str(root).partition("://")
    kind = STORAGES.get(scheme if is_uri else "")
    if kind is None:
        raise ConfigError(
            f"--root {root}: only a local folder is supported in this version. Give a path such as ./demo."
        )
    return kind(str(root))
