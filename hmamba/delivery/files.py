"""CSV and JSON lines: a folder with one file for each part of the table, exchanged as a whole."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow.csv as csv

from hmamba.contracts.contents import HashedFile
from hmamba.contracts.delivery import DeliveredFiles
from hmamba.delivery.base import Outcome, Settings, way_to
from hmamba.delivery.table import Table
from hmamba.errors import InputError
from hmamba.storage.local import LOCAL

DESCRIPTION = "delivery.json"
_LEVEL = 6


class FilesTarget:
    """A folder of files. A delivery writes all users; a folder that holds the table already is left as it is."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._config = settings, settings.config
        self._folder = settings.root / (settings.config.into or f"delivered/{settings.name}")

    def deliver(self, table: Table, *, older: bool) -> Outcome:
        """See :class:`hmamba.delivery.base.Target`."""
        folder, where = self._folder, f"deliver.{self._settings.name}: {self._folder}"
        with LOCAL.lock(folder.parent, f".{folder.name}.lock", self._settings.wait_seconds):
            held = self._held()
            new = table.described()
            way = way_to(held, new, table, where, older=older)
            if way == "nothing" and held is not None and held.day == new.day and self._is_whole(held):
                return Outcome("nothing")
            with LOCAL.write_folder(folder) as target:
                files = [self._write(table, part, target, number) for number, part in enumerate(table.parts)]
                DeliveredFiles(**new.model_dump(), files=tuple(files)).write(target / DESCRIPTION)
        return Outcome("whole", new.users)

    def _held(self) -> DeliveredFiles | None:
        """What the folder holds; None if it does not exist or is empty.

        Raises:
            InputError: it holds something that no delivery has made.
        """
        folder = self._folder
        if folder.is_dir() and any(folder.iterdir()) and not (folder / DESCRIPTION).is_file():
            raise InputError(
                f"deliver.{self._settings.name}: {folder} holds files that no delivery has made, and a delivery "
                f"replaces the whole folder. Name another with deliver.{self._settings.name}.into, or empty it."
            )
        return DeliveredFiles.read_if_exists(folder / DESCRIPTION)

    def _is_whole(self, held: DeliveredFiles) -> bool:
        """Whether the files are those that were written."""
        names = {path.name for path in self._folder.iterdir()} - {DESCRIPTION}
        return names == {file.name for file in held.files} and self._files(held.files) == held.files

    def _files(self, named: tuple[HashedFile, ...]) -> tuple[HashedFile, ...]:
        return tuple(HashedFile.of(self._folder / file.name) for file in named)

    def _write(self, table: Table, part: Path, folder: Path, number: int) -> HashedFile:
        name = f"part-{number:04d}.{self._config.kind}{'.gz' if self._config.compress else ''}"
        path = folder / name
        with _opened(path, compress=self._config.compress) as stream:
            if self._config.kind == "jsonl":
                for batch in table.lines(part):
                    stream.writelines(f"{line}\n".encode() for line in batch["line"].to_pylist())
            else:
                header = ",".join(f'"{name}"' for name in table.schema.names)
                stream.write(f"{header}\n".encode())
                for batch in table.rows_of(part):
                    csv.write_csv(batch, stream, csv.WriteOptions(include_header=False))
        return HashedFile.of(path)


@contextmanager
def _opened(path: Path, *, compress: bool) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with path.open("wb") as file:
        if not compress:
            yield file
            return
        # Without a time, so that the same table gives the same bytes.
        with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as stream:
            yield stream
