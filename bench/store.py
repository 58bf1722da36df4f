"""Finished runs as JSON files named by what they depend on, so that nothing is measured twice."""

from __future__ import annotations

import ast
import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hmamba.errors import HMambaError
from hmamba.storage.local import digest, read_json, sha256, write_json

ROOT = Path(__file__).resolve().parents[1]


def _meaning(path: Path) -> str:
    """What a file does: of Python the syntax tree without docstrings, so that words and layout change nothing."""
    if path.suffix != ".py":
        return sha256(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def sources(*patterns: str) -> str:
    """Digest of the repository's files that match: their names and what they do."""
    files = sorted({path for pattern in patterns for path in ROOT.glob(pattern)})
    return digest({str(path.relative_to(ROOT)): _meaning(path) for path in files})


class Store:
    """Runs under one folder: ``finished/KEY.json``, and ``under-way/KEY/`` for what a run keeps until it is finished.

    Args:
        folder: of the runs.
        again: whether a finished run is to be made again, once by this store.
    """

    def __init__(self, folder: Path, *, again: bool = False) -> None:
        self.folder, self._again = folder, again
        self._made: set[str] = set()

    def _path(self, key: str) -> Path:
        return self.folder / "finished" / f"{key}.json"

    def _folder(self, key: str) -> Path:
        return self.folder / "under-way" / key

    def find(self, identity: dict[str, Any], *, to_run: bool) -> dict[str, Any] | None:
        """The finished run of this identity.

        Args:
            identity: what the run depends on.
            to_run: whether the caller runs it if it is not found.

        Returns:
            None if there is none, or if it is to be run and has to be made again.
        """
        key = digest(identity)[:16]
        if not self._path(key).exists() or (to_run and self._again and key not in self._made):
            return None
        found: dict[str, Any] = read_json(self._path(key))
        return found

    def keep(self, identity: dict[str, Any], result: dict[str, Any]) -> None:
        """Write a finished run, with its identity for people to read; its checkpoints are no longer needed."""
        key = digest(identity)[:16]
        write_json(self._path(key), {**result, "identity": identity})
        self._made.add(key)
        shutil.rmtree(self._folder(key), ignore_errors=True)

    def under_way(self, identity: dict[str, Any]) -> Path:
        """Where a run of this identity keeps its checkpoints."""
        folder = self._folder(digest(identity)[:16])
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder: two trainings on the same cores would spoil each other's times.

        Raises:
            HMambaError: another process holds it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HMambaError(
                    f"{self.folder} is in use by another measurement. Wait for it, or give another --work."
                ) from None
            yield
