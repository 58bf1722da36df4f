"""Redis and Valkey: one key for each user and version, and one key that names the versions that readers look up.

``PREFIX:current`` holds a list of versions, newest first. The last one is a base, with a key for every user; the
others hold users who have changed since. A reader takes the first value that it finds, which is that of the newest
version with the user. The keys of a version never change once ``PREFIX:current`` names it. A reader who has read that
key therefore sees exactly one table, for any number of users, until the versions expire. A delivery of changes writes
the changed users as one more version, so that it costs what has changed. Once there are ``most_changes`` such versions,
a new base replaces all.

Users are written in batches with fixed bounds. A batch enters its users into the journal of its version in the same
script, so that a delivery that was killed resumes after its last batch, and so that the keys of versions that were
abandoned or replaced are known without a search of the key space.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, Literal

import redis
from redis import exceptions
from redis.lock import Lock

from hmamba.columns import IS_GONE, USER_ID
from hmamba.contracts.delivery import Delivered, DeliveredVersions
from hmamba.contracts.document import Document
from hmamba.delivery.base import Outcome, Settings, masked, password_of, way_to
from hmamba.delivery.table import Table
from hmamba.errors import BusyError, ConfigError, HMambaError, InputError

EXAMPLE = "redis://:PASSWORD@HOST:6379/0"
_PREFIX = "hmamba"
_PREFIXES = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_BATCH = 500
_NOBODY = "[]"
"""Value of a user who has no rows any more."""

_TO_FIX = {
    exceptions.AuthenticationError: "Correct the user and the password in {variable}.",
    exceptions.NoPermissionError: "Let the user of {variable} write the keys {prefix}:*.",
    exceptions.ReadOnlyError: "{variable} names a replica: name the primary.",
}
_TO_RETRY: dict[type[exceptions.RedisError], str] = {
    exceptions.OutOfMemoryError: "Raise maxmemory, or lower deliver.{name}.top; delivering all users needs the space "
    "of two tables.",
    exceptions.RedisError: "Deliver again; if it recurs, check the server and {variable}.",
}
"""What to do about errors, by the first kind that fits."""

_IF_LOCKED = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for _, command in ipairs(cjson.decode(ARGV[2])) do redis.call(unpack(command)) end
return 1
"""
"""Runs the commands of a JSON list if the lock has the given owner."""

State = Literal["writing", "whole", "left"]


class _Version(Document):
    """A version: what it is made from, and whether readers may be sent to it.

    Attributes:
        digest, settings: see :class:`~hmamba.contracts.delivery.Delivered`.
        batch: number of users of a batch.
        upon: the versions that readers look up after it; empty for a base.
        state: left: readers have been sent to others, and the keys must expire.
    """

    digest: str
    settings: str
    upon: tuple[str, ...]
    state: State
    batch: int = _BATCH


class RedisTarget:
    """Keys with a prefix in a Redis database."""

    def __init__(self, settings: Settings) -> None:
        self._settings, timeout = settings, settings.config.timeout_seconds
        address = settings.address(EXAMPLE)
        self._prefix = _PREFIX if settings.config.into is None else settings.config.into
        if not _PREFIXES.fullmatch(self._prefix):
            raise ConfigError(
                f"deliver.{settings.name}.into = {settings.config.into!r}: give a prefix of letters, digits and _ . : -"
            )
        try:
            self._secrets = [address, password_of(address)]
            self._client = redis.Redis.from_url(
                address, decode_responses=True, socket_timeout=timeout, socket_connect_timeout=timeout
            )
            self._client.connection_pool.make_connection()  # does not connect, but knows all options
        except (TypeError, ValueError):
            raise settings.wrong_address(EXAMPLE) from None
        self._lock_seconds = 2 * timeout

    def deliver(self, table: Table, *, older: bool) -> Outcome:
        """See :class:`hmamba.delivery.base.Target`."""
        with self._explained(), self._client, self._locked() as lock:
            held, new = self._current(), table.described()
            way = way_to(held, new, table, self._where, older=older)
            if held is not None and way == "nothing":
                self._point(lock, new, held.versions)
                outcome = Outcome("nothing")
            else:
                upon = held.versions if held is not None and way == "changes" else ()
                if len(upon) > self._settings.config.most_changes:
                    upon = ()
                version = self._begin(lock, new, upon)
                users = self._write(lock, version, _changed(table) if upon else _everybody(table))
                self._point(lock, new, (version, *upon))
                outcome = Outcome("changes" if upon else "whole", users)
            self._expire(lock)
        return outcome

    @property
    def _where(self) -> str:
        return f"deliver.{self._settings.name}"

    def _key(self, *parts: str) -> str:
        return ":".join((self._prefix, *parts))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of Redis into ours, without the password."""
        try:
            yield
        except HMambaError:
            raise
        except exceptions.RedisError as error:
            told = f"{self._where}: Redis says: {masked(str(error), self._secrets).rstrip('.')}."
            names = {"variable": self._settings.variable, "prefix": self._prefix, "name": self._settings.name}
            for kind, cure in _TO_FIX.items():
                if isinstance(error, kind):
                    raise InputError(f"{told} {cure.format_map(names)}") from None
            cure = next(cure for kind, cure in _TO_RETRY.items() if isinstance(error, kind))
            raise BusyError(f"{told} {cure.format_map(names)}") from None

    @contextmanager
    def _locked(self) -> Iterator[Lock]:
        """Hold the lock of the prefix; a thread renews it, so that it ends soon after this process.

        Raises:
            BusyError: another delivery still holds it after the wait.
        """
        wait = self._settings.wait_seconds + self._lock_seconds
        lock = self._client.lock(
            self._key("lock"), timeout=self._lock_seconds, blocking_timeout=wait, thread_local=False
        )
        if not lock.acquire():
            raise BusyError(
                f"{self._where}: another delivery to {self._prefix}:* is under way, also after {wait:.0f} seconds. "
                "Deliver again when it has ended."
            )
        ended = threading.Event()
        renewal = threading.Thread(target=self._renew, args=(lock, ended), name="deliver lock", daemon=True)
        renewal.start()
        try:
            yield lock
        finally:
            ended.set()
            renewal.join()
            with suppress(exceptions.RedisError):
                lock.release()

    def _renew(self, lock: Lock, ended: threading.Event) -> None:
        while not ended.wait(self._lock_seconds / 4):
            with suppress(exceptions.RedisError):  # if the lock is lost, the next batch finds out
                lock.extend(self._lock_seconds, replace_ttl=True)

    def _commit(self, lock: Lock, *commands: Sequence[str | int]) -> None:
        """Run commands at once, if this delivery still holds the lock.

        Raises:
            BusyError: it does not, because it did not renew the lock in time.
        """
        token = lock.local.token
        given = [token.decode() if isinstance(token, bytes) else token, json.dumps(commands, ensure_ascii=False)]
        if not self._client.eval(_IF_LOCKED, 1, self._key("lock"), *given):
            raise BusyError(
                f"{self._where}: another delivery has begun, because this one did not reach Redis for "
                f"{self._lock_seconds:.0f} seconds. Deliver again."
            )

    def _current(self) -> DeliveredVersions | None:
        """What readers find; None if nothing, or if the keys of one of its versions are not all there."""
        text = self._client.get(self._key("current"))
        if text is None:
            return None
        where = f"{self._where}: the key {self._key('current')}"
        current = DeliveredVersions.parse(_parsed(text, where), where)
        known = self._versions()
        return current if all(name in known for name in current.versions) else None

    def _versions(self) -> dict[str, _Version]:
        """All versions of which there may be keys."""
        found = self._client.hgetall(self._key("versions"))
        where = f"{self._where}: the key {self._key('versions')}"
        return {str(name): _Version.parse(_parsed(text, where), where) for name, text in found.items()}

    def _begin(self, lock: Lock, new: Delivered, upon: tuple[str, ...]) -> str:
        """The name of a version to write: that of a delivery of the same that was killed, or a new one.

        What other killed deliveries have written is deleted first, because space may be short.
        """
        mine = _Version(digest=new.digest, settings=new.settings, upon=upon, state="writing")
        resumed = None
        for name, version in self._versions().items():
            if version == mine:
                resumed = name
            elif version.state == "writing":
                self._forget(lock, name, 0)
        if resumed is not None:
            return resumed
        # Not a number that Redis counts: it may have lost that, and not the keys of the versions before.
        name = f"{new.day:%Y%m%d}-{uuid.uuid4().hex[:8]}"
        self._commit(lock, ("HSET", self._key("versions"), name, mine.model_dump_json()))
        return name

    def _write(self, lock: Lock, version: str, users: Iterable[tuple[str, str]]) -> int:
        """Write the values of users; returns their number. Batches that are in the journal are there already.

        Raises:
            BusyError: a batch is missing at the end.
        """
        journal = self._key("journal", version)
        written, total, number = set(self._client.hkeys(journal)), 0, -1
        for number, batch in enumerate(_batches(users)):
            total += len(batch)
            if str(number) not in written:
                pairs = [text for user, value in batch for text in (self._key(version, user), value)]
                names = json.dumps([user for user, _ in batch], ensure_ascii=False)
                self._commit(lock, ("MSET", *pairs), ("HSET", journal, number, names))
        if (found := self._client.hlen(journal)) != number + 1:
            raise BusyError(
                f"{self._where}: Redis has {found} of {number + 1} batches that were written, for instance because a "
                "replica without the last of them has taken over. Readers have the table before. Deliver again."
            )
        return total

    def _point(self, lock: Lock, new: Delivered, versions: tuple[str, ...]) -> None:
        """Send readers to versions, and mark those that they leave."""
        current = DeliveredVersions(**new.model_dump(), versions=versions)
        changes = []
        for name, version in self._versions().items():
            if name in versions or version.state == "whole":
                after = version.model_copy(update={"state": "whole" if name in versions else "left"})
                changes.append(("HSET", self._key("versions"), name, after.model_dump_json()))
        self._commit(lock, ("SET", self._key("current"), current.model_dump_json()), *changes)

    def _expire(self, lock: Lock) -> None:
        """Let the keys of the versions that readers have left expire."""
        for name, version in self._versions().items():
            if version.state == "left":
                self._forget(lock, name, self._settings.config.expire_seconds)

    def _forget(self, lock: Lock, version: str, seconds: int) -> None:
        """Let the keys of a version expire after some seconds, or delete them."""
        journal = self._key("journal", version)
        for _, names in self._client.hscan_iter(journal, count=10):
            keys = [self._key(version, user) for user in json.loads(names)]
            self._commit(lock, *([("EXPIRE", key, seconds) for key in keys] if seconds else [("UNLINK", *keys)]))
        self._commit(lock, ("DEL", journal), ("HDEL", self._key("versions"), version))


def _parsed(text: Any, where: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise InputError(f"{where} is not JSON. Delete it, and deliver again.") from None


def _everybody(table: Table) -> Iterator[tuple[str, str]]:
    for batch in table.values():
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _changed(table: Table) -> Iterator[tuple[str, str]]:
    for batch in table.values(changed=True):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
    changed = table.changed_users()
    for user in changed.filter(changed[IS_GONE])[USER_ID].to_pylist():
        yield user, _NOBODY


def _batches(users: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """Batches of ``_BATCH`` users; their bounds depend on nothing but the users."""
    rest = iter(users)
    while batch := list(islice(rest, _BATCH)):
        yield batch
