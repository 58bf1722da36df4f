"""What the templates of all pages may rely on."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from hmamba.pages import templates


def rendered(text: str, **values: object) -> str:
    return templates("hmamba.report").from_string(text).render(**values)


def test_text_of_data_is_only_text() -> None:
    assert rendered("{{ x }}", x="<b>\x1b[31m\u202e") == "&lt;b&gt;\ufffd[31m\ufffd"
    assert rendered("{{ x }}", x=Markup("<b>\u200e</b>")) == "<b>\u200e</b>"
    assert rendered("{{ x }}", x=12) == "12"


def test_a_name_without_a_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'missing' is undefined"):
        rendered("{{ missing }}")


def test_pages_of_other_packages_extend_the_same_page() -> None:
    pages = set()
    for package, name in (("hmamba.report", "night.html"), ("hmamba.backtest", "template.html")):
        environment = templates(package)
        assert environment.loader is not None
        pages.add(environment.loader.get_source(environment, name)[0])
        assert "<html" in environment.loader.get_source(environment, "base.html")[0]
    assert len(pages) == 2
