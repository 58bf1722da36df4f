"""SQL lives in ``sql/``, one statement a file. Values are bound; identifiers are quoted here and nowhere else.

A file may hold ``{name}`` where an identifier goes that only the configuration knows, such as a source's column.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_PACKAGE = Path(__file__).resolve().parent
_FOLDERS = (_PACKAGE / "sql", _PACKAGE.parent / "sql")
"""In an installed wheel, and beside the package in a checkout."""


@cache
def _text(name: str) -> str:
    for folder in _FOLDERS:
        path = folder / f"{name}.sql"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    raise FileNotFoundError(f"{name}.sql is in none of {', '.join(map(str, _FOLDERS))}")


def identifier(name: str) -> str:
    """Quote a name for SQL, whatever it contains."""
    return '"' + name.replace('"', '""') + '"'


def statement(name: str, **identifiers: str) -> str:
    """The text of ``sql/<name>.sql`` with its ``{placeholders}`` replaced by quoted identifiers.

    Raises:
        KeyError: a placeholder has no identifier.
    """
    return _PLACEHOLDER.sub(lambda match: identifier(identifiers[match[1]]), _text(name))
