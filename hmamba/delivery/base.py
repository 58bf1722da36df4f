"""The interface of targets, and what a delivery has to do.

To add a target, write a module with such a class and register it in :mod:`hmamba.delivery.registry`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, unquote, urlsplit

from hmamba.config import TargetConfig
from hmamba.contracts.delivery import Delivered, Way
from hmamba.delivery.table import Table
from hmamba.errors import ConfigError, InputError

_MOST_CHANGED = 0.5
"""Share of changed users above which all are delivered: it costs less than to replace most of what a target holds."""


@dataclass(frozen=True)
class Outcome:
    """What a delivery did: how, and the number of users who were written, or removed because they are gone."""

    way: Way
    users: int = 0


@dataclass(frozen=True)
class Settings:
    """Settings of one target.

    Attributes:
        name: its name, as in ``[deliver.NAME]``.
        config: the settings.
        root: the root's folder.
        wait_seconds: how long to wait for another delivery to the same target.
    """

    name: str
    config: TargetConfig
    root: Path
    wait_seconds: float

    @property
    def variable(self) -> str:
        """Name of the environment variable that holds the address."""
        return self.config.address or f"HMAMBA_DELIVER_{self.name.upper()}"

    def address(self, example: str) -> str:
        """The address from the environment.

        Args:
            example: an address, for the message.

        Raises:
            ConfigError: the variable is not set.
        """
        address = os.environ.get(self.variable, "").strip()
        if not address:
            raise ConfigError(
                f"deliver.{self.name}: the environment variable {self.variable} is not set. Put the address there, "
                f"such as {example}; in Airflow, name a connection in HMAMBA_DELIVER."
            )
        return address

    def wrong_address(self, example: str) -> ConfigError:
        """The error for an address that cannot be parsed. It shows nothing of it, which may hold a password."""
        return ConfigError(
            f"deliver.{self.name}: the environment variable {self.variable} holds no address of {self.config.kind}. It "
            f"has the form {example}, with characters such as @ and / of a password percent-encoded."
        )


class Target(Protocol):
    """A system that holds a copy of the published table.

    Readers of it find a whole table at any time: the one before or the new one, also if the delivery is killed.
    """

    def deliver(self, table: Table, *, older: bool) -> Outcome:
        """Bring the copy up to date.

        Args:
            table: the published table.
            older: whether it may replace the table of a later day.

        Raises:
            BusyError: another delivery is under way, the system does not answer, or it lacks space.
            ConfigError: the address is wrong.
            InputError: the target holds the table of a later day, or something that no delivery has made.
        """


def way_to(held: Delivered | None, new: Delivered, table: Table, where: str, *, older: bool) -> Way:
    """How to turn what a target holds into a table.

    Args:
        held: what the target holds; None if nothing.
        new: what it holds afterwards.
        table: the table.
        where: the target, for the message.
        older: whether the table may replace one of a later day.

    Raises:
        InputError: the target holds the table of a later day.
    """
    if held is None:
        return "whole"
    if held.day > new.day and not older:
        raise InputError(
            f"{where} holds the table of {held.day}, which is later than {new.day}. If the older one is meant, such as "
            "after a rollback, deliver with --older."
        )
    if held.same_table(new):
        return "nothing"
    fits = held.settings == new.settings and held.digest == table.manifest.changes_from
    return "changes" if fits and len(table.changed_users()) <= _MOST_CHANGED * new.users else "whole"


def masked(text: str, secrets: Iterable[str]) -> str:
    """A message without passwords, in any of their spellings."""
    spellings = {one for secret in secrets if secret for one in (secret, quote(secret, safe=""), unquote(secret))}
    for one in sorted(spellings, key=len, reverse=True):
        text = text.replace(one, "***")
    return text


def password_of(address: str) -> str:
    """The password in a URL; empty without one.

    Raises:
        ValueError: the address is no URL.
    """
    return urlsplit(address).password or ""
