"""A delivery as a whole: which table, which targets, what happens if one fails or the root changes meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from hmamba.config import parse
from hmamba.contracts.published import DeliverMetrics
from hmamba.delivery import deliver as delivering
from hmamba.delivery.table import copied
from hmamba.errors import BusyError, ConfigError, InputError
from hmamba.storage.layout import Layout
from jobs import deliver as step
from tests.delivery.tables import NEXT, delivered, lists, publish, settings_of
from tests.jobs.commands.call import call
from tests.landing import DAY

TWO = '[deliver.one]\nkind = "csv"\n[deliver.two]\nkind = "jsonl"\n'


@pytest.fixture
def shop(layout: Layout) -> Layout:
    """A root with two targets and a published table."""
    publish(layout, lists(10))
    layout.config.write_text(TWO)
    return layout


def folders(layout: Layout) -> set[str]:
    return {path.name for path in (layout.root / "delivered").glob("*/")}


def test_the_command_serves_all_targets(shop: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("deliver", "--root", str(shop.root)) == 0
    assert folders(shop) == {"one", "two"}
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"one: 10 users, all of the table; day {DAY} (")
    assert second.startswith("two: 10 users")
    assert call("deliver", "--root", str(shop.root)) == 0
    assert "one: nothing to do, it holds this table" in capsys.readouterr().out


def test_the_command_serves_chosen_targets(shop: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("deliver", "--root", str(shop.root), "--to", "two", "--json") == 0
    assert folders(shop) == {"two"}
    (done,) = json.loads(capsys.readouterr().out)
    assert {key: done[key] for key in ("target", "day", "way", "users")} == {
        "target": "two",
        "day": DAY.isoformat(),
        "way": "whole",
        "users": 10,
    }


def test_a_day_and_an_older_one(shop: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    publish(shop, lists(10, "b"), NEXT)
    assert call("deliver", "--root", str(shop.root)) == 0
    assert call("deliver", "--root", str(shop.root), "--day", DAY.isoformat()) == 2
    assert call("deliver", "--root", str(shop.root), "--day", DAY.isoformat(), "--older") == 0
    assert (
        "a-1-1"
        in (shop.root / "delivered/one/part-0000.csv").read_text()
        + (shop.root / "delivered/one/part-0001.csv").read_text()
    )


def test_the_step_delivers_the_newest_table(shop: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    """Its --day names the run: a refresh of today delivers the table of yesterday's night."""
    arguments = ["--root", str(shop.root), "--day", NEXT.isoformat(), "--run-id", "noon"]
    assert step.main([*arguments, "--to", "one"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["night"] == DAY.isoformat()
    assert printed["summary"] == "one: whole, 10 users"
    recorded = DeliverMetrics.read(shop.run(NEXT, "noon").step_metrics("deliver"))
    assert [(one.target, one.way) for one in recorded.deliveries] == [("one", "whole")]


def test_the_step_does_not_wait_for_the_run(shop: Layout) -> None:
    """A report is written while a long delivery is under way."""
    run = shop.run(DAY, "manual")
    with shop.storage.lock(run.folder, wait_seconds=0):
        assert step.main(["--root", str(shop.root), "--day", DAY.isoformat()]) == 0


@pytest.mark.parametrize(
    ("name", "told"),
    [(None, "No target is configured. Add a table such as"), ("three", "--to three: no such target. hmamba.toml has")],
)
def test_what_is_not_configured(layout: Layout, name: str | None, told: str) -> None:
    publish(layout, lists(3))
    config = parse({} if name is None else {"deliver": {"one": {"kind": "csv"}}}, "a test")
    with pytest.raises(ConfigError, match=told):
        delivering.deliver(layout, config, [] if name is None else [name])


def test_without_a_table(layout: Layout) -> None:
    layout.root.mkdir()
    with pytest.raises(InputError, match=r"latest.json does not exist: nothing is published"):
        delivered(layout, settings_of(layout, kind="csv"))


def test_a_damaged_table_is_not_delivered(shop: Layout) -> None:
    part = shop.published_parts(DAY)[0]
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(InputError, match=rf"{part} is damaged.*hmamba run --root {shop.root} --day {DAY}"):
        delivered(shop, settings_of(shop, kind="csv"))


def test_one_target_that_fails_does_not_stop_the_others(shop: Layout) -> None:
    (shop.root / "delivered").mkdir()
    (shop.root / "delivered" / "one").mkdir()
    (shop.root / "delivered" / "one" / "mine").touch()
    config = parse({"deliver": {"one": {"kind": "csv"}, "two": {"kind": "csv"}}}, "a test")
    with pytest.raises(InputError, match=r"deliver.one: .* holds files that no delivery has made"):
        delivering.deliver(shop, config)
    assert (shop.root / "delivered/two/delivery.json").is_file()


def test_a_missing_address_does_not_stop_the_others(shop: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HMAMBA_DELIVER_CACHE", raising=False)
    config = parse({"deliver": {"cache": {"kind": "redis"}, "two": {"kind": "csv"}}}, "a test")
    with pytest.raises(ConfigError, match=r"deliver.cache: the environment variable HMAMBA_DELIVER_CACHE is not set"):
        delivering.deliver(shop, config)
    assert (shop.root / "delivered/two/delivery.json").is_file()


def test_errors_of_several_targets_are_told_together(shop: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry is worth it if it can help one of them."""
    errors: Iterator[Exception] = iter([InputError("one is wrong"), BusyError("two is busy")])

    def fail(*_: Any, **__: Any) -> None:
        raise next(errors)

    monkeypatch.setattr("hmamba.delivery.files.FilesTarget.deliver", fail)
    config = parse({"deliver": {"one": {"kind": "csv"}, "two": {"kind": "csv"}}}, "a test")
    with pytest.raises(BusyError, match="one is wrong\ntwo is busy"):
        delivering.deliver(shop, config)


def test_what_is_published_meanwhile_does_not_matter(shop: Layout) -> None:
    """A delivery reads copies; publication need not wait for it."""
    config = settings_of(shop, kind="csv")
    with copied(shop, config, None) as (manifest, folder):
        publish(shop, lists(10, "b"))
        for path in shop.published(DAY).glob("part-*"):
            path.unlink()
        assert len(list(folder.iterdir())) == len(manifest.files)
        with delivering.opened(manifest, folder, config, config.deliver.targets["shop"]) as table:
            text = str([batch.to_pylist() for batch in table.rows()])
    assert "a-1-1" in text
    assert "b-1-1" not in text
    assert not list(shop.root.glob(".deliver*"))


def test_addresses_do_not_belong_into_the_configuration() -> None:
    address = "postgresql://shop:s3cret@host/db"
    with pytest.raises(ConfigError, match="address: give the name of an environment variable") as caught:
        parse({"deliver": {"shop": {"kind": "postgres", "address": address}}}, "hmamba.toml")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.b", "a-b", "1st", "x" * 33])
def test_names_of_targets_are_checked(name: str) -> None:
    with pytest.raises(ConfigError, match="name a target with a letter, then letters"):
        parse({"deliver": {name: {"kind": "csv"}}}, "hmamba.toml")


def test_names_of_targets_differ_in_more_than_case() -> None:
    with pytest.raises(ConfigError, match="two targets differ in the case of letters only"):
        parse({"deliver": {"shop": {"kind": "csv"}, "Shop": {"kind": "csv"}}}, "hmamba.toml")


def test_the_variable_of_a_target(tmp_path: Path) -> None:
    config = parse({"deliver": {"web_shop": {"kind": "redis"}, "b": {"kind": "redis", "address": "CACHE"}}}, "a test")
    variables = {
        name: delivering.Settings(name, target, tmp_path, 0).variable for name, target in config.deliver.targets.items()
    }
    assert variables == {"web_shop": "HMAMBA_DELIVER_WEB_SHOP", "b": "CACHE"}


def test_a_day_that_is_not_published(shop: Layout) -> None:
    with pytest.raises(InputError, match="nothing is published for 2023-01-01"):
        delivered(shop, settings_of(shop, kind="csv"), date(2023, 1, 1))
