"""The templates of pages: escaped by default, nothing undefined, no character that could change how text reads."""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hmamba.report.text import printable


def templates(package: str) -> Environment:
    """The templates in a package, which may extend ``base.html`` of this one."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("hmamba.report", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )


def _printable(value: Any) -> Any:
    """Clean text of characters that escaping leaves in. Markup is this project's own."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
