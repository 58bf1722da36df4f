"""What docs/delivery.md shows runs, on real servers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from hmamba.config import parse
from hmamba.delivery.registry import KINDS
from hmamba.storage.layout import Layout
from tests.delivery.tables import NEXT, delivered, lists, publish, settings_of

PAGE = (Path(__file__).parents[2] / "docs" / "delivery.md").read_text(encoding="utf-8")


def block(language: str, heading: str = "# Delivery") -> str:
    """The first block of code of a language after a heading."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE[PAGE.index(f"{heading}\n") :], re.DOTALL)
    assert found is not None
    return found[1]


def test_the_configuration_is_one() -> None:
    targets = parse(tomllib.loads(block("toml")), "docs/delivery.md").deliver.targets
    assert {target.kind for target in targets.values()} < set(KINDS)
    assert targets["cache"].top == 20


def test_the_sql_of_a_service(layout: Layout, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(layout, {**lists(10), "4711": ["best", "second"]})
    monkeypatch.setenv("HMAMBA_DELIVER_SHOP", postgres_url)
    delivered(layout, settings_of(layout, kind="postgres"))
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute(block("sql")).fetchall()  # type: ignore[arg-type]
    assert [item for item, _ in rows] == ["best", "second"]


@pytest.fixture
def cache(layout: Layout, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> redis.Redis:
    """A Redis with a base and changes upon it: 4711 has changed, user-0001 has not, user-0002 is gone."""
    client = redis.Redis.from_url(redis_url)
    client.flushall()
    monkeypatch.setenv("HMAMBA_DELIVER_SHOP", redis_url)
    config = settings_of(layout, kind="redis")
    publish(layout, {**lists(10), "4711": ["old"]})
    assert delivered(layout, config)[0] == "whole"
    after = {**lists(10), "4711": ["best", "second"]}
    del after["user-0002"]
    publish(layout, after, NEXT)
    assert delivered(layout, config)[0] == "changes"
    return client


EXPECTED = {"4711": ["best", "second"], "user-0001": lists(10)["user-0001"], "user-0002": [], "nobody": []}


def test_the_python_of_a_service(cache: redis.Redis) -> None:
    names: dict[str, Any] = {}
    exec(compile(block("python"), "docs/delivery.md", "exec"), names)
    assert {user: names["recommended"](cache, user) for user in EXPECTED} == EXPECTED


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_the_command_of_an_operator(cache: redis.Redis) -> None:
    port = cache.connection_pool.connection_kwargs["port"]
    text = block("", "In one round trip, from any client that can run a script:\n")
    for user, expected in EXPECTED.items():
        command = text.replace("redis-cli", f"redis-cli -p {port}").replace("4711", user)
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == expected
