"""Deliveries to a real Redis: versions that readers look up, changes upon a base, expiry, and kills at any time."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
import redis

from hmamba.config import Config
from hmamba.delivery import redis as target
from hmamba.errors import BusyError, ConfigError, InputError
from hmamba.storage.layout import Layout
from tests.delivery.conftest import PASSWORD
from tests.delivery.tables import NEXT, ODD, delivered, lists, process, publish, settings_of
from tests.landing import DAY
from tests.servers import redis_server, until

VARIABLE = "HMAMBA_DELIVER_SHOP"
TEXT = '[deliver.shop]\nkind = "redis"\ntimeout_seconds = 1\n'
Client = redis.Redis


@pytest.fixture
def client(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    """A client of an empty database, whose URL is in the environment."""
    monkeypatch.setenv(VARIABLE, redis_url)
    with Client.from_url(redis_url, decode_responses=True) as found:
        found.flushall()
        found.config_set("maxmemory", 0)
        yield found


@pytest.fixture
def config(layout: Layout) -> Config:
    return settings_of(layout, kind="redis", timeout_seconds=1)


def current(client: Client, prefix: str = "hmamba") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(client.get(f"{prefix}:current")))
    return found


def look_up(client: Client, versions: list[str], user: str, prefix: str = "hmamba") -> Any:
    """What docs/delivery.md tells readers to do: the first value of the versions, in their order."""
    values = client.mget([f"{prefix}:{version}:{user}" for version in versions])
    return json.loads(next((value for value in values if value is not None), "[]"))


def held(client: Client, users: list[str], prefix: str = "hmamba") -> dict[str, Any]:
    """The lists of users who have one."""
    versions = current(client, prefix)["versions"]
    found = {user: look_up(client, versions, user, prefix) for user in users}
    return {user: items for user, items in found.items() if items}


def keys_of(client: Client, version: str) -> list[str]:
    return sorted(client.scan_iter(f"hmamba:{version}:*"))


EVERYBODY = sorted({*lists(200), *ODD, "user-0300"})


def test_a_whole_table(layout: Layout, client: Client, config: Config) -> None:
    new = publish(layout, lists(50))
    assert delivered(layout, config) == ("whole", 50)
    assert held(client, EVERYBODY) == lists(50)
    told = current(client)
    assert (told["day"], told["digest"], told["users"], told["schema_version"]) == (DAY.isoformat(), new.digest, 50, 1)
    (version,) = told["versions"]
    assert len(keys_of(client, version)) == 50
    assert client.ttl(f"hmamba:{version}:user-0001") == -1
    assert client.get("hmamba:lock") is None


def test_ids_of_any_characters(layout: Layout, client: Client, config: Config) -> None:
    publish(layout, ODD)
    delivered(layout, config)
    assert held(client, EVERYBODY) == ODD


def test_all_columns_of_the_rows(layout: Layout, client: Client) -> None:
    publish(layout, lists(2))
    delivered(layout, settings_of(layout, kind="redis", content="rows", top=2))
    assert held(client, ["user-0001"])["user-0001"] == [
        {"rank": 1, "item_id": "a-1-1", "score": 1.0, "model_version": "v1"},
        {"rank": 2, "item_id": "a-1-2", "score": 0.5, "model_version": "v1"},
    ]


def test_changes_are_laid_upon_the_base(layout: Layout, client: Client, config: Config) -> None:
    publish(layout, lists(50))
    delivered(layout, config)
    (base,) = current(client)["versions"]
    after = lists(50) | {"user-0003": ["x"], "user-0300": ["y", "z"]}
    del after["user-0007"]
    publish(layout, after, NEXT)
    assert delivered(layout, config) == ("changes", 3)
    assert held(client, EVERYBODY) == after
    first, second = current(client)["versions"]
    assert second == base
    assert keys_of(client, first) == [f"hmamba:{first}:user-{user}" for user in ("0003", "0007", "0300")]
    assert client.ttl(f"hmamba:{base}:user-0003") == -1


def test_readers_of_the_version_before_are_not_disturbed(layout: Layout, client: Client, config: Config) -> None:
    """Whoever has read the list of versions sees that table until its keys expire, whatever is delivered."""
    publish(layout, lists(50))
    delivered(layout, config)
    before = current(client)["versions"]
    for number in range(1, 4):
        publish(layout, lists(50) | {"user-0003": [f"x{number}"]}, DAY + timedelta(days=number))
        assert delivered(layout, config)[0] == "changes"
        assert look_up(client, before, "user-0003") == lists(50)["user-0003"]
        assert held(client, ["user-0003"]) == {"user-0003": [f"x{number}"]}
    publish(layout, lists(50, "b"), DAY + timedelta(days=9))
    assert delivered(layout, config)[0] == "whole"
    assert {user: look_up(client, before, user) for user in lists(50)} == lists(50)


def test_after_so_many_changes_all_users_are_delivered(layout: Layout, client: Client) -> None:
    config = settings_of(layout, kind="redis", most_changes=2, expire_seconds=1)
    ways = []
    for number in range(5):
        after = lists(50) | {"user-0003": [f"x{number}"]}
        publish(layout, after, DAY + timedelta(days=number))
        ways.append((delivered(layout, config)[0], len(current(client)["versions"])))
        assert held(client, EVERYBODY) == after
    assert ways == [("whole", 1), ("changes", 2), ("changes", 3), ("whole", 1), ("changes", 2)]


def test_what_readers_have_left_expires(layout: Layout, client: Client) -> None:
    config = settings_of(layout, kind="redis", expire_seconds=2)
    publish(layout, lists(1200))
    delivered(layout, config)
    publish(layout, lists(1200) | {"user-0003": ["x"]}, NEXT)
    delivered(layout, config)
    before = current(client)["versions"]
    publish(layout, lists(1200, "b"), NEXT + timedelta(days=1))
    delivered(layout, config)
    assert 0 < client.ttl(f"hmamba:{before[1]}:user-1199") <= 2
    (version,) = current(client)["versions"]
    expected = {"hmamba:current", "hmamba:versions", f"hmamba:journal:{version}"}
    expected |= {f"hmamba:{version}:{user}" for user in lists(1200)}
    until("the expiry", lambda: set(client.scan_iter("*")) == expected, 20, pause=0.2)
    assert held(client, ["user-1199"]) == {"user-1199": lists(1200, "b")["user-1199"]}


def test_the_same_table_again_is_not_written(layout: Layout, client: Client, config: Config) -> None:
    publish(layout, lists(5))
    delivered(layout, config)
    versions = current(client)["versions"]
    publish(layout, lists(5), NEXT)
    assert delivered(layout, config) == ("nothing", 0)
    assert (current(client)["versions"], current(client)["day"]) == (versions, NEXT.isoformat())


def test_an_older_day_does_not_replace_a_newer_one(layout: Layout, client: Client, config: Config) -> None:
    publish(layout, lists(5))
    publish(layout, lists(5, "b"), NEXT)
    delivered(layout, config)
    with pytest.raises(InputError, match=f"holds the table of {NEXT}, which is later than {DAY}"):
        delivered(layout, config, DAY)
    assert held(client, EVERYBODY) == lists(5, "b")
    assert delivered(layout, config, DAY, older=True) == ("whole", 5)
    assert held(client, EVERYBODY) == lists(5)


@pytest.mark.parametrize("lost", ["everything", "versions"])
def test_a_server_that_lost_its_data(layout: Layout, client: Client, config: Config, lost: str) -> None:
    publish(layout, lists(5))
    delivered(layout, config)
    client.flushall() if lost == "everything" else client.delete("hmamba:versions")
    publish(layout, lists(5) | {"user-0001": ["x"]}, NEXT)
    assert delivered(layout, config) == ("whole", 5)
    assert held(client, EVERYBODY) == lists(5) | {"user-0001": ["x"]}


def test_two_prefixes_do_not_meet(layout: Layout, client: Client) -> None:
    publish(layout, lists(5))
    one, other = (settings_of(layout, kind="redis", into=prefix) for prefix in ("shop", "shop:test"))
    assert delivered(layout, one) == delivered(layout, other) == ("whole", 5)
    publish(layout, lists(5, "b"), NEXT)
    assert delivered(layout, one) == ("whole", 5)
    assert held(client, EVERYBODY, "shop") == lists(5, "b")
    assert held(client, EVERYBODY, "shop:test") == lists(5)


@contextmanager
def polling(client: Client, users: list[str]) -> Iterator[list[str]]:
    """Read the versions, then users one after the other; yields the first letters that each look found."""
    seen: list[str] = []
    ended = threading.Event()

    def poll() -> None:
        while not ended.is_set():
            versions = current(client)["versions"]
            letters = [look_up(client, versions, user)[0][0] for user in users]
            seen.append("".join(letters))

    readers = [threading.Thread(target=poll) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        yield seen
    finally:
        ended.set()
        for reader in readers:
            reader.join()


@pytest.mark.parametrize("way", ["whole", "changes"])
def test_readers_see_one_table_or_the_other(layout: Layout, client: Client, config: Config, way: str) -> None:
    publish(layout, lists(3000))
    delivered(layout, config)
    with polling(client, ["user-0001", "user-0017", "user-1007", "user-2997"]) as seen:
        for number, letter in enumerate("bcd", 1):
            some = {user: items for user, items in lists(3000, letter).items() if way == "whole" or user[-1] == "7"}
            publish(layout, lists(3000) | some, DAY + timedelta(days=number))
            assert delivered(layout, config)[0] == way
        last = "dddd" if way == "whole" else "addd"
        until("readers of the last table", lambda: seen[-1] == last, 10, pause=0.01)
    assert set(seen) <= {f"{letter if way == 'whole' else 'a'}{letter * 3}" for letter in "abcd"}


@pytest.mark.parametrize("way", ["whole", "changes"])
def test_a_killed_delivery_shows_nothing_and_is_taken_up_again(
    layout: Layout, client: Client, config: Config, way: str
) -> None:
    users = 40_000
    publish(layout, lists(users))
    delivered(layout, config)
    some = {user: items for user, items in lists(users, "b").items() if way == "whole" or user[-1] in "379"}
    publish(layout, lists(users) | some, NEXT)
    looked_at = ["user-0003", "user-0017", "user-39999"]
    written: list[int] = []
    with polling(client, looked_at) as seen:
        for batches in (0, 2, 6):
            with process(layout, TEXT) as running:

                def far_enough(batches: int = batches) -> bool:
                    return sum(client.hlen(key) for key in _journals(client)) > batches or running.poll() is not None

                until("some batches", far_enough, 60, pause=0.001)
                running.kill()
                running.wait()
            written.append(sum(client.hlen(key) for key in _journals(client)))
        assert delivered(layout, config) == (way, len(some))
        until("readers of the new table", lambda: seen[-1] == "bbb", 10, pause=0.01)
    assert written == sorted(written)  # each try goes on where the one before ended
    assert 0 < written[0] < len(some) / 500
    assert set(seen) <= {"aaa", "bbb"}
    assert held(client, [*some][::97]) == {user: some[user] for user in [*some][::97]}
    assert len(client.hgetall("hmamba:versions")) == len(current(client)["versions"])


def _journals(client: Client) -> list[str]:
    """Journals of versions that are being written."""
    versions = client.hgetall("hmamba:versions")
    return [f"hmamba:journal:{name}" for name, text in versions.items() if json.loads(text)["state"] == "writing"]


def test_what_an_abandoned_delivery_wrote_is_deleted(
    layout: Layout, client: Client, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another table was published meanwhile, so that its version is of no use."""
    publish(layout, lists(1200))
    monkeypatch.setattr(target.RedisTarget, "_point", _stopped)
    with pytest.raises(KeyboardInterrupt):
        delivered(layout, config)
    (abandoned,) = client.hkeys("hmamba:versions")
    assert len(keys_of(client, abandoned)) == 1200
    monkeypatch.undo()
    monkeypatch.setenv(VARIABLE, f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0")
    publish(layout, lists(1200, "b"), NEXT)
    delivered(layout, config)
    assert keys_of(client, abandoned) == []
    assert current(client)["versions"] != [abandoned]


def _stopped(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_delivery_that_lost_its_lock_writes_nothing_more(
    layout: Layout, client: Client, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(layout, lists(5))
    delivered(layout, config)
    publish(layout, lists(5, "b"), NEXT)
    begin = target.RedisTarget._begin

    def robbed(self: Any, *given: Any) -> str:
        version = begin(self, *given)
        client.set("hmamba:lock", "another delivery")
        return version

    monkeypatch.setattr(target.RedisTarget, "_begin", robbed)
    with pytest.raises(BusyError, match="another delivery has begun, because this one did not reach Redis for 2 s"):
        delivered(layout, config)
    assert held(client, EVERYBODY) == lists(5)
    assert client.get("hmamba:lock") == "another delivery"


def test_a_failover_that_loses_a_batch_is_noticed(
    layout: Layout, client: Client, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is there, but some of what was written is not; the next delivery writes what is missing."""
    publish(layout, lists(2000))
    batches = target._batches

    def lossy(users: Any) -> Iterator[list[tuple[str, str]]]:
        for number, batch in enumerate(batches(users)):
            yield batch
            if number == 1:
                (version,) = client.hkeys("hmamba:versions")
                client.hdel(f"hmamba:journal:{version}", "1")
                client.delete(*(f"hmamba:{version}:{user}" for user, _ in batch))

    monkeypatch.setattr(target, "_batches", lossy)
    with pytest.raises(BusyError, match="Redis has 3 of 4 batches that were written"):
        delivered(layout, config)
    assert client.get("hmamba:current") is None
    monkeypatch.setattr(target, "_batches", batches)
    assert delivered(layout, config) == ("whole", 2000)
    assert held(client, [*lists(2000)]) == lists(2000)


def test_two_deliveries_take_turns(layout: Layout, client: Client, config: Config) -> None:
    publish(layout, lists(2000))
    ways: list[str] = []
    both = [threading.Thread(target=lambda: ways.append(delivered(layout, config)[0])) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(ways) == ["nothing", "whole"]


def test_the_lock_of_a_slow_delivery_is_renewed(
    layout: Layout, client: Client, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(layout, lists(5))
    write = target.RedisTarget._write

    def slow(self: Any, *given: Any) -> int:
        time.sleep(3)  # the lock is of two seconds
        return write(self, *given)

    monkeypatch.setattr(target.RedisTarget, "_write", slow)
    assert delivered(layout, config) == ("whole", 5)


def test_a_server_without_memory_and_the_advice(layout: Layout, client: Client, config: Config) -> None:
    publish(layout, lists(2000))
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 100_000)
    with pytest.raises(BusyError, match=r"used memory > .*Raise maxmemory, or lower deliver.shop.top") as caught:
        delivered(layout, config)
    assert "user-" not in str(caught.value)
    client.config_set("maxmemory", 0)
    assert delivered(layout, config) == ("whole", 2000)
    assert held(client, EVERYBODY) == {user: lists(2000)[user] for user in EVERYBODY if user in lists(2000)}


def test_a_password_is_not_shown(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(layout, lists(5))
    config = settings_of(layout, kind="redis", timeout_seconds=1)
    with redis_server(PASSWORD) as url:
        secret = url.replace(PASSWORD, quote(PASSWORD, safe=""))
        monkeypatch.setenv(VARIABLE, secret)
        assert delivered(layout, config) == ("whole", 5)
        monkeypatch.setenv(VARIABLE, secret.replace("s3cret", "wr0ng"))
        with pytest.raises(InputError, match=f"Correct the user and the password in {VARIABLE}") as wrong:
            delivered(layout, config)
        assert "wr0ng" not in str(wrong.value)
    monkeypatch.setenv(VARIABLE, secret)
    with pytest.raises(BusyError, match=r"refused.*Deliver again; if it recurs, check the server and") as gone:
        delivered(layout, config)
    assert "s3cret" not in str(gone.value)


@pytest.mark.parametrize(
    "address",
    ["http://:s3cret@h", "s3cret", "redis://:s3cret@h:port/0", "redis://[s3cret", "redis://:s3cret@h?ssl=true"],
)
def test_a_wrong_address_is_not_shown(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, config: Config, address: str
) -> None:
    publish(layout, lists(2))
    monkeypatch.setenv(VARIABLE, address)
    with pytest.raises(ConfigError, match=f"{VARIABLE} holds no address of redis") as caught:
        delivered(layout, config)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("into", ["", "a b", "ü", "x" * 65])
def test_prefixes_are_checked(layout: Layout, client: Client, into: str) -> None:
    publish(layout, lists(2))
    with pytest.raises(ConfigError, match="give a prefix of letters, digits and"):
        delivered(layout, settings_of(layout, kind="redis", into=into))
