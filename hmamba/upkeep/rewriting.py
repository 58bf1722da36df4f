"""Write Parquet files again without the rows of some users."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hmamba.columns import USER_ID
from hmamba.errors import InputError
from hmamba.storage.local import link_or_copy

_ROWS = 131_072


def holds(path: Path, users: pa.Array) -> bool:
    """Whether a Parquet file has one of the users among its user ids, also in a dictionary that no row refers to.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        if USER_ID not in pq.read_schema(path).names:
            return False
        with pq.ParquetFile(path, read_dictionary=[USER_ID]) as file:
            for batch in file.iter_batches(_ROWS, columns=[USER_ID]):
                column = batch.column(0)
                values = column.dictionary if pa.types.is_dictionary(column.type) else column
                if pc.any(pc.is_in(values.cast(pa.string()), value_set=users)).as_py():
                    return True
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path} cannot be searched ({error}). Delete it, or run the step again that writes it; then run hmamba "
            "forget with the same users again."
        ) from None
    return False


def without(path: Path, target: Path, users: pa.Array) -> pa.Table:
    """Write a Parquet file again without the rows of some users.

    Args:
        path: a file with the column user_id.
        target: the file to write.
        users: ids of the users.

    Returns:
        The rows that were left out.
    """
    removed: list[pa.Table] = []
    with pq.ParquetFile(path) as file:
        groups = file.metadata
        first = groups.row_group(0) if groups.num_row_groups else None
        codec = first.column(0).compression.lower() if first is not None else "zstd"
        rows = first.num_rows if first is not None else _ROWS
        # The metadata of tables of vectors names the model and its space.
        plain = pa.schema([_plain(field) for field in file.schema_arrow], file.schema_arrow.metadata)
        with pq.ParquetWriter(target, plain, compression="none" if codec == "uncompressed" else codec) as writer:
            for batch in file.iter_batches(max(rows, 1)):
                table = pa.Table.from_batches([batch]).cast(plain)
                gone = pc.is_in(table[USER_ID], value_set=users)
                removed.append(table.filter(gone))
                writer.write_table(table.filter(pc.invert(gone)))
        return pa.concat_tables([plain.empty_table(), *removed])


def _plain(field: pa.Field) -> pa.Field:
    """The field without a dictionary, which could name users of whom there is no row."""
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def linked(source: Path, target: Path, besides: Iterable[str] = ()) -> None:
    """Fill a folder with the files of another one as hard links, or copies where the file system has none.

    Args:
        source: the folder.
        target: an existing folder.
        besides: relative names of files and folders to leave out.
    """
    left_out = {*besides}
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if left_out & {name.as_posix(), *(parent.as_posix() for parent in name.parents)}:
            continue
        place = target / name
        if path.is_dir() and not path.is_symlink():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, place)
