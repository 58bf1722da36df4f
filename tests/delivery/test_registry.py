"""A target is a module and a line in the registry."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from hmamba.delivery import registry
from hmamba.delivery.base import Outcome, Settings, way_to
from hmamba.delivery.registry import KINDS, Kind
from hmamba.delivery.table import Table
from hmamba.errors import ConfigError
from hmamba.storage.layout import Layout
from tests.delivery.tables import NEXT, delivered, lists, publish, settings_of


class Shelf:
    """A target in memory: what it holds, and the lists of users by their ids."""

    held = None
    values: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def deliver(self, table: Table, *, older: bool) -> Outcome:
        new = table.described()
        way = way_to(Shelf.held, new, table, "the shelf", older=older)
        if way != "nothing":
            values = [(row["user_id"], row["value"]) for batch in table.values() for row in batch.to_pylist()]
            Shelf.values = dict(values)
        Shelf.held = new
        return Outcome(way, len(Shelf.values))


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> type[Shelf]:
    module = ModuleType("shelves")
    module.Shelf = Shelf  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shelves", module)
    monkeypatch.setitem(KINDS, "shelf", Kind("shelves", "Shelf", frozenset({"top"})))
    Shelf.held, Shelf.values = None, {}
    return Shelf


def test_a_registered_target_is_served(layout: Layout, shelf: type[Shelf]) -> None:
    publish(layout, lists(3))
    config = settings_of(layout, kind="shelf", top=2)
    assert delivered(layout, config) == ("whole", 3)
    assert shelf.values["user-0001"] == '["a-1-1","a-1-2"]'
    assert delivered(layout, config)[0] == "nothing"
    publish(layout, lists(3) | {"user-0001": ["x"]}, NEXT)
    assert delivered(layout, config)[0] == "changes"


def test_an_unknown_kind_lists_the_known_ones(layout: Layout) -> None:
    publish(layout, lists(3))
    with pytest.raises(ConfigError, match=r"deliver.shop.kind = 'kafka' is not known. Give one of 'postgres', 'redis'"):
        delivered(layout, settings_of(layout, kind="kafka"))


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_a_missing_library_is_named_with_its_extra(layout: Layout, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    publish(layout, lists(3))
    library = {"postgres": "psycopg", "redis": "redis"}[kind]
    monkeypatch.delitem(sys.modules, KINDS[kind].module, raising=False)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=rf"pip install 'hmamba-nightly\[{kind}\]'"):
        delivered(layout, settings_of(layout, kind=kind))


def test_every_kind_has_a_module() -> None:
    for kind in registry.KINDS.values():
        assert hasattr(__import__(kind.module, fromlist=[kind.target]), kind.target)
