"""Copy what cannot be derived from a root to a folder or an archive, and bring it back.

A backup holds the warehouse with its tombstones, the models and promotions, the published tables, the configuration,
the documents of the nights and the working folder from which refreshes resume. Reports, checks, other working folders
and the landing folder are not in it.
"""

from __future__ import annotations

import logging
import lzma
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePath, PurePosixPath

from hmamba import __version__
from hmamba.config import Config, WarehouseConfig
from hmamba.contracts.backup import Backup
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.manifest import Manifest
from hmamba.errors import InputError
from hmamba.storage.layout import Layout
from hmamba.storage.local import atomic_file, atomic_folder
from hmamba.storage.root_locks import quiet, tables
from hmamba.storage.run_layout import RunLayout
from hmamba.upkeep.prune import large_parts
from hmamba.warehouse.connection import connect
from hmamba.warehouse.rewrite import copy_to

log = logging.getLogger("hmamba")

ARCHIVES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.xz": "w:xz"}
"""Endings of archives, with the mode of :mod:`tarfile` that writes them."""

_OTHER_ARCHIVES = (".zip", ".7z", ".gz", ".bz2", ".xz", ".zst", ".tbz2", ".txz")

DESCRIPTION = "backup.json"

_GIVE = "Give the folder or the archive that hmamba backup has made."


def back_up(layout: Layout, config: Config, target: Path) -> Backup:
    """Copy a root, while no night, refresh or step of it runs.

    Args:
        layout: the root.
        config: the settings of the warehouse.
        target: an archive, by its name (``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.xz``), or a folder. It must not exist
            yet, and appears when it is complete.

    Returns:
        The description of the backup.

    Raises:
        BusyError: something still runs after ``warehouse.wait_seconds``.
        InputError: the folder is not a root or holds a link out of it, or the target exists, is inside it, or is
            another kind of archive.
    """
    target = target.expanduser().absolute()
    if not layout.warehouse.is_file():
        raise InputError(f"{layout.warehouse} does not exist: there is nothing to back up. Correct --root.")
    if target.exists():
        raise InputError(f"{target} exists. Give a new name: backups are not overwritten.")
    if target.resolve().is_relative_to(layout.root.resolve()):
        raise InputError(f"{target} is inside of the root. Give a place outside of it, best on another disk.")
    mode = _mode(target)
    with ExitStack() as stack:
        wait = config.warehouse.wait_seconds
        stack.enter_context(quiet(layout, wait))
        for _, day in layout.run_days:
            for run in layout.storage.find(day, "*/"):
                if large_parts(RunLayout(run, layout.storage)):  # pulls and pruned nights only leave documents
                    stack.enter_context(layout.storage.lock(run, wait_seconds=wait))
        stack.enter_context(tables(layout, wait))
        if mode is None:
            with atomic_folder(target) as folder:
                return _fill(layout, config, folder)
        with atomic_file(target) as path, tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup.tmp-") as work:
            made = _fill(layout, config, Path(work))
            with tarfile.open(path, mode, dereference=False) as archive:  # type: ignore[call-overload]
                archive.add(work, arcname=".")
            return made


def _mode(target: Path) -> str | None:
    mode = next((mode for ending, mode in ARCHIVES.items() if target.name.endswith(ending)), None)
    if mode is None and target.suffix in _OTHER_ARCHIVES:
        raise InputError(
            f"{target}: archives end with {', '.join(ARCHIVES)}. Give one of these, or the name of a folder."
        )
    return mode


def _fill(layout: Layout, config: Config, folder: Path) -> Backup:
    """Copy the root into an empty folder, and describe it."""
    with connect(layout.warehouse, config.warehouse) as connection:
        copy_to(connection, folder / layout.warehouse.name)
    links = {}
    for path in _kept(layout):
        place = folder / path.relative_to(layout.root)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            name, leads_to = path.relative_to(layout.root), path.readlink()
            if _leads_out(_target(name, leads_to)):
                raise InputError(f"{path} is a link out of the root. Replace it by what it leads to.")
            links[name.as_posix()] = str(leads_to)
        else:
            shutil.copy2(path, place)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    made = Backup(
        made_at=datetime.now(UTC).replace(microsecond=0),
        version=__version__,
        files=tuple(HashedFile.of(path, path.relative_to(folder).as_posix()) for path in files),
        links=links,
    )
    made.write(folder / DESCRIPTION)
    return made


def _kept(layout: Layout) -> Iterator[Path]:
    """All files of a backup but the warehouse; hidden ones are locks and leftovers."""
    yield from (path for path in (layout.config, layout.rules) if path.is_file())
    for place in (layout.models, layout.candidates, layout.receipts):
        yield from _files(place)
    newest = Manifest.read_if_exists(layout.latest, layout.storage)
    for day, folder in layout.run_days:
        for path in layout.storage.find(folder, "*/"):
            run = RunLayout(path, layout.storage)
            if newest is not None and (day, path.name) == (newest.day, newest.run_id):
                yield from _files(path)
                continue
            yield from (place for place in (run.verdict,) if place.is_file())
            yield from (*_files(run.metrics), *_files(run.failures))


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and (path.is_symlink() or path.is_file()):
            yield path


def restore(source: Path, root: Path) -> Backup:
    """Bring a backup back as a root, which must not exist yet. It appears when every file has been verified.

    Returns:
        The description of the backup.

    Raises:
        InputError: there is no such backup, a file of it is missing or damaged, or the root exists.
    """
    source, root = source.expanduser().absolute(), root.expanduser().absolute()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"--root {root} exists and is not empty. Restore to a new folder, then exchange the two.")
    with _opened(source) as backup:
        if not (backup / DESCRIPTION).is_file():
            raise InputError(f"{source} is no backup, as it holds no {DESCRIPTION}. {_GIVE}")
        made = Backup.read(backup / DESCRIPTION)
        cure = Backup.CURE
        for file in made.files:
            file.verified(_inside(backup, file.name), cure)
        known = {*(file.name for file in made.files), DESCRIPTION}
        extra = [name for name in _names(backup) if name not in known]
        if extra:
            raise InputError(f"{source} holds {extra[0]}, which {DESCRIPTION} does not name. {cure}")
        with atomic_folder(root) as folder:
            for file in made.files:
                place = folder / file.name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(backup / file.name, place)
                file.verified(place, "Check the disk, then restore again.")
            for name, leads_to in made.links.items():
                place = _inside(folder, name)
                _inside(folder, _target(PurePosixPath(name), leads_to))
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(leads_to)
                if not place.resolve().is_relative_to(folder.resolve()):  # by way of another link
                    raise _outside(name)
            with connect(folder / Layout.at(root).warehouse.name, WarehouseConfig(), read_only=True):
                pass  # it can be opened
    return made


@contextmanager
def _opened(source: Path) -> Iterator[Path]:
    """The folder of a backup; that of an archive is temporary."""
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise InputError(f"{source} does not exist. {_GIVE}")
    with tempfile.TemporaryDirectory(dir=source.parent, prefix=".restore.tmp-") as work:
        try:
            with tarfile.open(source) as archive:
                archive.extractall(work, filter="data")
        except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            why = " ".join(str(error).split())  # tarfile names every format that it has tried on a line of its own
            raise InputError(f"{source} is not a whole archive ({why}). {Backup.CURE}") from None
        yield Path(work)


def _names(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())


def _target(name: PurePath, leads_to: str | PurePath) -> str:
    """Where a link leads to, relative to the root."""
    return os.path.normpath(name.parent / leads_to)


def _leads_out(name: str) -> bool:
    return PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts


def _inside(folder: Path, name: str) -> Path:
    """A path in a folder.

    Raises:
        InputError: the name leads out of it.
    """
    if _leads_out(name):
        raise _outside(name)
    return folder / name


def _outside(name: str | PurePosixPath) -> InputError:
    return InputError(f"{DESCRIPTION} names {name}, which is outside of the root. {Backup.CURE}")
