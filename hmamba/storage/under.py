"""Paths under a folder, as attributes of a class that has the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class HasFolder(Protocol):
    """A layout of a folder."""

    @property
    def folder(self) -> Path:
        """The folder."""


class Under:
    """A path under the folder of a layout, as an attribute of the layout's class."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, layout: HasFolder, owner: object = None) -> Path:
        return layout.folder.joinpath(*self._parts)
