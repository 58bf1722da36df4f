"""SQL lives in ``sql/``, one statement a file, and values are bound.

No statement names a column of the user's: what is read from files has fixed names before DuckDB sees it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_FOLDERS = (_PACKAGE / "sql", _PACKAGE.parent / "sql")
"""In an installed wheel, and beside the package in a checkout."""


@cache
def statement(name: str) -> str:
    """The text of ``sql/<name>.sql``.

    Raises:
        FileNotFoundError: there is none.
    """
    for folder in _FOLDERS:
        path = folder / f"{name}.sql"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise FileNotFoundError(f"{name}.sql is in none of {', '.join(map(str, _FOLDERS))}")
