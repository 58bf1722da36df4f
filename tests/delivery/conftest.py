"""Real servers, one of each for all tests of deliveries; each test has a database of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import postgres, redis_server

PASSWORD = "s3cret/@:word"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with redis_server() as url:
        yield url
