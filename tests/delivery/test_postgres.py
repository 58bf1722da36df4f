"""Deliveries to a real PostgreSQL: whole tables and changes, and readers who never see a part of one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from hmamba.config import Config
from hmamba.delivery.base import Settings
from hmamba.delivery.postgres_view import View
from hmamba.errors import BusyError, ConfigError, InputError
from hmamba.storage.layout import Layout
from tests.delivery.conftest import PASSWORD
from tests.delivery.tables import NEXT, ODD, delivered, lists, process, publish, settings_of
from tests.landing import DAY
from tests.servers import postgres, until

VARIABLE = "HMAMBA_DELIVER_SHOP"
TEXT = '[deliver.shop]\nkind = "postgres"\n'


@pytest.fixture
def database(postgres_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database; its URL is in the environment."""
    name = f"t{abs(hash(request.node.nodeid)) % 10**12}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    url = postgres_url.removesuffix("/postgres") + f"/{name}"
    monkeypatch.setenv(VARIABLE, url)
    return url


@pytest.fixture
def config(layout: Layout) -> Config:
    return settings_of(layout, kind="postgres")


def query(url: str, text: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(text).fetchall()  # type: ignore[arg-type]


def held(url: str, view: str = "hmamba_candidates") -> dict[str, list[str]]:
    """The items of each user, as the view shows them."""
    found: dict[str, list[str]] = {}
    for user, rank, item in query(url, f"SELECT user_id, rank, item_id FROM {view} ORDER BY user_id, rank"):
        found.setdefault(user, []).append(item)
        assert rank == len(found[user])
    return found


def tables(url: str) -> list[str]:
    """Names of the tables of candidates."""
    return [
        row[0] for row in query(url, "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname ~ '_candidates_'")
    ]


def state(url: str) -> dict[str, Any]:
    with psycopg.connect(url, row_factory=psycopg.rows.dict_row) as connection:
        row = connection.execute("SELECT * FROM hmamba_delivery").fetchone()
    assert row is not None
    return row


def test_a_whole_table(layout: Layout, database: str, config: Config) -> None:
    new = publish(layout, lists(50))
    assert delivered(layout, config) == ("whole", 50)
    assert held(database) == lists(50)
    row = state(database)
    assert (row["day"], row["digest"], row["users"], row["rows"], row["retired"]) == (DAY, new.digest, 50, 150, [])
    assert tables(database) == [row["relation"]]
    columns = query(
        database,
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'hmamba_candidates' "
        "ORDER BY ordinal_position",
    )
    assert columns == [
        ("user_id", "text"),
        ("rank", "integer"),
        ("item_id", "text"),
        ("score", "real"),
        ("model_version", "text"),
    ]
    assert query(database, "SELECT score FROM hmamba_candidates WHERE rank = 3 LIMIT 1") == [(pytest.approx(1 / 3),)]


def test_a_user_is_read_by_the_index(layout: Layout, database: str, config: Config) -> None:
    publish(layout, lists(5000))
    delivered(layout, config)
    plan = query(database, "EXPLAIN SELECT item_id FROM hmamba_candidates WHERE user_id = 'user-0042' ORDER BY rank")
    assert "Index" in str(plan)
    assert "Seq Scan" not in str(plan)


def test_ids_of_any_characters(layout: Layout, database: str, config: Config) -> None:
    publish(layout, ODD)
    delivered(layout, config)
    assert held(database) == ODD
    publish(layout, {**ODD, "": ["other"], "été 😀": ["z"]}, NEXT)
    assert delivered(layout, config)[0] == "changes"
    assert held(database) == {**ODD, "": ["other"], "été 😀": ["z"]}


def test_an_id_that_postgresql_cannot_hold(layout: Layout, database: str, config: Config) -> None:
    publish(layout, {"user": ["a\0b"]})
    with pytest.raises(InputError, match="holds no id with a NUL character") as caught:
        delivered(layout, config)
    assert "a\0b" not in str(caught.value)
    assert query(database, "SELECT to_regclass('hmamba_candidates')") == [(None,)]


def test_changes_cost_what_has_changed(layout: Layout, database: str, config: Config) -> None:
    publish(layout, lists(50))
    delivered(layout, config)
    relation = state(database)["relation"]
    after = lists(50) | {"user-0003": ["x"], "user-0100": ["y", "z"]}
    del after["user-0007"]
    new = publish(layout, after, NEXT)
    assert delivered(layout, config) == ("changes", 3)
    assert held(database) == after
    row = state(database)
    assert (row["relation"], row["digest"], row["day"], row["users"], row["rows"]) == (
        relation,
        new.digest,
        NEXT,
        50,
        150 - 3 - 3 + 1 + 2,
    )
    # The rows of all others are still those of the first delivery.
    others = f"SELECT DISTINCT xmin::text FROM {relation} WHERE user_id NOT IN ('user-0003', 'user-0100')"
    assert len(query(database, others)) == 1


def test_the_same_table_again_is_not_written(layout: Layout, database: str, config: Config) -> None:
    publish(layout, lists(5))
    delivered(layout, config)
    before = state(database)
    assert delivered(layout, config) == ("nothing", 0)
    publish(layout, lists(5), NEXT)
    assert delivered(layout, config) == ("nothing", 0)
    after = state(database)
    assert (after["relation"], after["day"]) == (before["relation"], NEXT)


def test_changes_of_another_table_are_not_used(layout: Layout, database: str, config: Config) -> None:
    """A delivery was missed: the changes are relative to a table that the target never held."""
    publish(layout, lists(10))
    delivered(layout, config)
    publish(layout, lists(10) | {"user-0001": ["x"]}, NEXT)
    last = lists(10) | {"user-0001": ["x"], "user-0002": ["y"]}
    publish(layout, last, NEXT + timedelta(days=1))
    assert delivered(layout, config) == ("whole", 10)
    assert held(database) == last
    assert len(tables(database)) == 1


def test_a_table_changed_by_hand_is_made_again(layout: Layout, database: str, config: Config) -> None:
    publish(layout, lists(10))
    delivered(layout, config)
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM hmamba_candidates WHERE user_id IN ('user-0001', 'user-0005')")
    after = lists(10) | {"user-0001": ["x"]}
    publish(layout, after, NEXT)
    assert delivered(layout, config) == ("whole", 10)
    assert held(database) == after


@pytest.mark.parametrize("drop", ["VIEW hmamba_candidates", "TABLE {relation} CASCADE"])
def test_what_was_dropped_by_hand_is_made_again(layout: Layout, database: str, config: Config, drop: str) -> None:
    publish(layout, lists(10))
    delivered(layout, config)
    with psycopg.connect(database) as connection:
        connection.execute(f"DROP {drop.format(relation=state(database)['relation'])}")  # type: ignore[arg-type]
    assert delivered(layout, config) == ("whole", 10)
    assert held(database) == lists(10)
    assert len(tables(database)) == 1


def test_only_the_best_ranks(layout: Layout, database: str) -> None:
    publish(layout, lists(10, k=5))
    two, three = (settings_of(layout, kind="postgres", top=top) for top in (2, 3))
    assert delivered(layout, two) == ("whole", 10)
    assert held(database) == lists(10, k=2)
    publish(layout, lists(10, k=5) | {"user-0001": ["x", "y", "z"]}, NEXT)
    assert delivered(layout, two) == ("changes", 1)
    assert held(database) == lists(10, k=2) | {"user-0001": ["x", "y"]}
    assert delivered(layout, three) == ("whole", 10)
    assert held(database) == lists(10, k=3) | {"user-0001": ["x", "y", "z"]}


def test_privileges_and_dependent_views_stay(layout: Layout, database: str, config: Config) -> None:
    publish(layout, lists(10))
    delivered(layout, config)
    with psycopg.connect(database) as connection:
        connection.execute("DROP ROLE IF EXISTS service")
        connection.execute("CREATE ROLE service")
        connection.execute("GRANT SELECT ON hmamba_candidates TO service")
        connection.execute("CREATE VIEW best AS SELECT user_id, item_id FROM hmamba_candidates WHERE rank = 1")
    publish(layout, lists(10, "b"), NEXT)
    assert delivered(layout, config) == ("whole", 10)
    with psycopg.connect(database) as connection:
        connection.execute("SET ROLE service")
        assert connection.execute("SELECT count(*) FROM hmamba_candidates").fetchone() == (30,)
    assert query(database, "SELECT item_id FROM best WHERE user_id = 'user-0004'") == [("b-4-1",)]
    with psycopg.connect(database) as connection:
        connection.execute("DROP OWNED BY service")
        connection.execute("DROP ROLE service")


def test_a_column_more(layout: Layout, database: str, config: Config) -> None:
    publish(layout, lists(4))
    delivered(layout, config)
    publish(layout, lists(4), NEXT, because="taste")
    assert delivered(layout, config) == ("whole", 4)
    assert query(database, "SELECT DISTINCT because FROM hmamba_candidates") == [("taste",)]


def test_a_column_less_and_the_advice(layout: Layout, database: str, config: Config) -> None:
    publish(layout, lists(4), because="taste")
    delivered(layout, config)
    publish(layout, lists(4), NEXT)
    with pytest.raises(InputError, match=r"DROP VIEW public.hmamba_candidates, then deliver again") as caught:
        delivered(layout, config)
    with psycopg.connect(database) as connection:
        connection.execute(str(caught.value).rpartition("before: ")[2].partition(",")[0])  # type: ignore[arg-type]
    assert delivered(layout, config) == ("whole", 4)


def test_an_older_day_does_not_replace_a_newer_one(layout: Layout, database: str, config: Config) -> None:
    publish(layout, lists(5))
    publish(layout, lists(5, "b"), NEXT)
    delivered(layout, config)
    with pytest.raises(InputError, match=f"holds the table of {NEXT}, which is later than {DAY}.*--older"):
        delivered(layout, config, DAY)
    assert held(database) == lists(5, "b")
    assert delivered(layout, config, DAY, older=True) == ("whole", 5)
    assert held(database) == lists(5)


def test_a_schema_and_a_view_of_ones_own(layout: Layout, database: str) -> None:
    publish(layout, lists(5))
    config = settings_of(layout, kind="postgres", into="shop.picks")
    with pytest.raises(InputError, match=r'schema "shop" does not exist. Create the schema'):
        delivered(layout, config)
    with psycopg.connect(database) as connection:
        connection.execute("CREATE SCHEMA shop")
    assert delivered(layout, config) == ("whole", 5)
    assert held(database, "shop.picks") == lists(5)


@pytest.mark.parametrize("kind", ["TABLE hmamba_candidates (a int)", "VIEW hmamba_candidates AS SELECT 1 AS a"])
def test_what_no_delivery_has_made_is_left_alone(layout: Layout, database: str, config: Config, kind: str) -> None:
    publish(layout, lists(5))
    with psycopg.connect(database) as connection:
        connection.execute(f"CREATE {kind}")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"exists in the database, and no delivery has made it. Name another view"):
        delivered(layout, config)
    assert query(database, "SELECT a FROM hmamba_candidates") in ([], [(1,)])
    assert delivered(layout, settings_of(layout, kind="postgres", into="other")) == ("whole", 5)


def test_a_user_without_privileges_and_the_advice(
    layout: Layout, database: str, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(layout, lists(5))
    with psycopg.connect(database) as connection:
        connection.execute("DROP ROLE IF EXISTS courier")
        connection.execute("CREATE ROLE courier LOGIN")
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    monkeypatch.setenv(VARIABLE, database.replace("hmamba@", "courier@"))
    with pytest.raises(InputError, match=r"permission denied for schema public. .* GRANT CREATE, USAGE ON SCHEMA"):
        delivered(layout, config)
    with psycopg.connect(database) as connection:
        connection.execute("GRANT CREATE, USAGE ON SCHEMA public TO courier")
    assert delivered(layout, config) == ("whole", 5)


def test_defaults_of_the_database_for_services(layout: Layout, database: str, config: Config) -> None:
    """Limits on statements, and an isolation level that would hide what the delivery before has left."""
    publish(layout, lists(3000))
    with psycopg.connect(database, autocommit=True) as connection:
        for setting in ("statement_timeout = '15ms'", "default_transaction_isolation = 'serializable'"):
            connection.execute(f"ALTER DATABASE {database.rpartition('/')[2]} SET {setting}")  # type: ignore[arg-type]
    ways: list[str] = []
    both = [threading.Thread(target=lambda: ways.append(delivered(layout, config)[0])) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(ways) == ["nothing", "whole"]


def test_two_deliveries_take_turns(layout: Layout, database: str, config: Config) -> None:
    publish(layout, lists(500))
    ways = []
    both = [threading.Thread(target=lambda: ways.append(delivered(layout, config)[0])) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(ways) == ["nothing", "whole"]
    assert held(database) == lists(500)


def test_a_delivery_that_never_ends_is_reported(layout: Layout, database: str) -> None:
    publish(layout, lists(5))
    config = settings_of(layout, kind="postgres")
    delivered(layout, config)
    impatient = config.model_copy(update={"warehouse": config.warehouse.model_copy(update={"wait_seconds": 0.2})})
    settings = Settings("shop", config.deliver.targets["shop"], layout.root, 1)
    with psycopg.connect(database) as other:
        view = View(other, "public", "hmamba_candidates", settings)
        other.execute("SELECT pg_advisory_xact_lock(%s)", (view.lock_key,))
        with pytest.raises(BusyError, match=r"another delivery to public.hmamba_candidates is under way"):
            delivered(layout, impatient)
    assert delivered(layout, impatient) == ("nothing", 0)


def test_a_reader_that_holds_the_view(layout: Layout, database: str) -> None:
    """The swap waits, in steps that let others read, and gives up without having changed anything."""
    publish(layout, lists(5))
    config = settings_of(layout, kind="postgres", timeout_seconds=2)
    delivered(layout, config)
    publish(layout, lists(5, "b"), NEXT)
    with psycopg.connect(database) as reader:
        reader.execute("SELECT count(*) FROM hmamba_candidates")
        with pytest.raises(BusyError, match="have been open for 2 seconds"):
            delivered(layout, config)
        assert held(database) == lists(5)
    assert delivered(layout, config) == ("whole", 5)
    assert held(database) == lists(5, "b")


def test_a_transaction_that_began_before_does_not_find_an_empty_table(
    layout: Layout, database: str, config: Config
) -> None:
    publish(layout, lists(5))
    delivered(layout, config)
    publish(layout, lists(5, "b"), NEXT)
    with psycopg.connect(database) as reader:
        reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reader.execute("SELECT count(*) FROM hmamba_delivery")  # takes the snapshot, without reading the view
        assert delivered(layout, config) == ("whole", 5)
        found = reader.execute("SELECT count(*), min(left(item_id, 1)) FROM hmamba_candidates").fetchone()
    assert found == (15, "b")


def test_a_table_with_readers_is_dropped_later(layout: Layout, database: str, config: Config) -> None:
    publish(layout, lists(5))
    delivered(layout, config)
    first = state(database)["relation"]
    publish(layout, lists(5, "b"), NEXT)
    with psycopg.connect(database) as reader:
        reader.execute(f"SELECT count(*) FROM {first}")  # type: ignore[arg-type]
        assert delivered(layout, config) == ("whole", 5)
        assert state(database)["retired"] == [first]
    assert delivered(layout, config) == ("nothing", 0)
    assert (state(database)["retired"], tables(database)) == ([], [state(database)["relation"]])


@contextmanager
def polling(url: str) -> Iterator[list[str]]:
    """Look at all users again and again; yields what was seen, as the first letters of all items."""
    seen: list[str] = []
    ended = threading.Event()

    def poll() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not ended.is_set():
                query = "SELECT string_agg(DISTINCT left(item_id, 1), ''), count(*) FROM hmamba_candidates"
                letters, rows = connection.execute(query).fetchall()[0]
                seen.append(f"{letters}{rows}")

    readers = [threading.Thread(target=poll) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        yield seen
    finally:
        ended.set()
        for reader in readers:
            reader.join()


def test_readers_see_one_table_or_the_other(layout: Layout, database: str, config: Config) -> None:
    publish(layout, lists(3000))
    delivered(layout, config)
    with polling(database) as seen:
        for number, letter in enumerate("bcd", 1):
            publish(layout, lists(3000, letter), DAY + timedelta(days=number))
            assert delivered(layout, config) == ("whole", 3000)
        until("readers of the last table", lambda: seen[-1] == "d9000", 10, pause=0.01)
    assert set(seen) <= {"a9000", "b9000", "c9000", "d9000"}


def test_readers_see_all_changes_at_once(layout: Layout, database: str, config: Config) -> None:
    """Every user's items are of one letter; changes move a tenth of them to another."""
    publish(layout, lists(3000))
    delivered(layout, config)
    with polling(database) as seen:
        for number, letter in enumerate("bcd", 1):
            some = {user: items for user, items in lists(3000, letter).items() if user.endswith("7")}
            publish(layout, lists(3000) | some, DAY + timedelta(days=number))
            assert delivered(layout, config) == ("changes", 300)
        until("readers of the last table", lambda: seen[-1] == "ad9000", 10, pause=0.01)
    assert set(seen) <= {"a9000", "ab9000", "ac9000", "ad9000"}


@pytest.mark.parametrize("way", ["whole", "changes"])
def test_a_killed_delivery_shows_nothing_and_is_taken_up_again(
    layout: Layout, database: str, config: Config, way: str
) -> None:
    publish(layout, lists(20_000))
    delivered(layout, config)
    after = {user: items for user, items in lists(20_000, "b").items() if way == "whole" or user.endswith("7")}
    publish(layout, lists(20_000) | after, NEXT)
    killed = 0
    with polling(database) as seen:
        for wait in (0.0, 0.05, 0.1, 0.2, 0.3):
            with process(layout, TEXT) as running:
                until(
                    "its transaction",
                    lambda: _transactions(database) > 0 or running.poll() is not None,
                    60,
                    pause=0.002,
                )
                time.sleep(wait)
                killed += running.poll() is None
                running.kill()
            until("the end of its transaction", lambda: _transactions(database) == 0, 30, pause=0.01)
        assert delivered(layout, config)[0] in (way, "nothing")
    assert killed
    assert held(database) == lists(20_000) | after
    assert set(seen) <= {"a60000", "b60000", "ab60000"}
    delivered(layout, config)
    assert tables(database) == [state(database)["relation"]]


def _transactions(url: str) -> int:
    ((number,),) = query(
        url,
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'hmamba deliver' AND backend_xid IS NOT NULL",
    )
    return int(number)


def test_a_server_that_stops_and_comes_back(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a password that needs encoding, and which no message shows."""
    publish(layout, lists(5))
    config = settings_of(layout, kind="postgres", timeout_seconds=2)
    with postgres(PASSWORD) as url:
        secret = url.replace(PASSWORD, quote(PASSWORD, safe=""))
        monkeypatch.setenv(VARIABLE, secret)
        assert delivered(layout, config) == ("whole", 5)
        assert held(secret) == lists(5)
        monkeypatch.setenv(VARIABLE, secret.replace("s3cret", "wr0ng"))
        with pytest.raises(BusyError, match="password authentication failed") as caught:
            delivered(layout, config)
        assert "wr0ng" not in str(caught.value)
    monkeypatch.setenv(VARIABLE, secret)
    with pytest.raises(
        BusyError, match=r"Connection refused.*Deliver again; if it recurs, check the server and"
    ) as caught:
        delivered(layout, config)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["postgres//u:s3cret@host", "s3cret", "host=h password='s3cret", "redis://:s3cret@h"]
)
def test_a_wrong_address_is_not_shown(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, address: str, config: Config
) -> None:
    publish(layout, lists(2))
    monkeypatch.setenv(VARIABLE, address)
    with pytest.raises(ConfigError, match=f"{VARIABLE} holds no address of postgres") as caught:
        delivered(layout, config)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_without_an_address(layout: Layout, monkeypatch: pytest.MonkeyPatch, config: Config) -> None:
    publish(layout, lists(2))
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=f"the environment variable {VARIABLE} is not set"):
        delivered(layout, config)


@pytest.mark.parametrize("into", ["a.b.c", "Picks", "x" * 41, "a-b", "", "a; DROP TABLE b"])
def test_names_that_need_quotes_are_refused(layout: Layout, monkeypatch: pytest.MonkeyPatch, into: str) -> None:
    publish(layout, lists(2))
    monkeypatch.setenv(VARIABLE, "postgresql://host/db")
    with pytest.raises(ConfigError, match=r"deliver.shop.into = .*: give the name of a view, or SCHEMA.VIEW"):
        delivered(layout, settings_of(layout, kind="postgres", into=into))
