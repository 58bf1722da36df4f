"""Store finished runs, keyed by everything they depend on, so that no run is repeated.

A result is a JSON file; arrays, such as rankings, are a compressed file beside it.
"""

from __future__ import annotations

import ast
import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hmamba.errors import HMambaError
from hmamba.storage.local import atomic_file, digest, read_json, sha256, write_json

ROOT = Path(__file__).resolve().parents[1]


def _meaning(path: Path) -> str:
    """The content of a file; for Python, its syntax tree without docstrings, so that words and layout do not count."""
    if path.suffix != ".py":
        return sha256(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return ast.dump(tree)


def sources(*patterns: str) -> str:
    """Digest of the names and contents of the repository's files that match."""
    files = sorted({path for pattern in patterns for path in ROOT.glob(pattern)})
    return digest({str(path.relative_to(ROOT)): _meaning(path) for path in files})


def key_of(identity: dict[str, Any]) -> str:
    """The name of a run."""
    return digest(identity)[:16]


class Store:
    """Runs under one folder: results in ``finished/KEY.json``, checkpoints of unfinished runs in ``under-way/KEY/``.

    A run may also have arrays, in ``finished/KEY.npz``.

    Args:
        folder: folder of the runs.
        again: whether to repeat finished runs, once for each store object.
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
            identity: everything that the run depends on.
            to_run: whether the caller runs it if it is not found.

        Returns:
            The result; None if there is none, or if it is to be repeated.
        """
        key = key_of(identity)
        if not self._path(key).exists() or (to_run and self._again and key not in self._made):
            return None
        found: dict[str, Any] = read_json(self._path(key))
        return found

    def finished(self) -> list[dict[str, Any]]:
        """All finished runs, each with its identity, in the order of their names."""
        return [read_json(path) for path in sorted(self._path("*").parent.glob("*.json"))]

    def keep(self, identity: dict[str, Any], result: dict[str, Any]) -> None:
        """Write a finished run with its identity, and remove its checkpoints."""
        key = key_of(identity)
        write_json(self._path(key), {**result, "identity": identity})
        self._made.add(key)
        shutil.rmtree(self._folder(key), ignore_errors=True)

    def keep_arrays(self, identity: dict[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write the arrays of a run, compressed. Call it before :meth:`keep`: a run that is kept has its arrays."""
        path = self._path(key_of(identity)).with_suffix(".npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # names of arrays, not an option

    def arrays(self, identity: dict[str, Any]) -> dict[str, npt.NDArray[Any]] | None:
        """The arrays of a run by name; None if it has none."""
        path = self._path(key_of(identity)).with_suffix(".npz")
        if not path.exists():
            return None
        with np.load(path) as found:
            return dict(found)

    def left(self, identity: dict[str, Any]) -> Path:
        """Folder of what a run may have left behind; it need not exist."""
        return self._folder(key_of(identity))

    def under_way(self, identity: dict[str, Any]) -> Path:
        """Folder for the checkpoints of a run of this identity."""
        folder = self._folder(key_of(identity))
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Lock the folder: concurrent trainings on the same cores would distort each other's times.

        Raises:
            HMambaError: another process holds the lock.
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
