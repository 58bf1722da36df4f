"""Targets of deliveries that ``HMAMBA_DELIVER`` names, and the addresses of the connections that belong to them.

The variable is a list separated by commas: names of targets in ``hmamba.toml``, each with the id of an Airflow
connection after a colon, or without one if the target needs none or the environment of the workers has its address::

    HMAMBA_DELIVER=shop:shop_postgres,cache:shop_redis,export
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from airflow.sdk import Connection

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")


def targets() -> dict[str, str]:
    """The connection of each target, "" without one; empty if nothing is delivered.

    Raises:
        ValueError: the variable is wrong.
    """
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in os.environ.get("HMAMBA_DELIVER", "").split(","))):
        name, _, connection = (part.strip() for part in entry.partition(":"))
        if not _NAME.fullmatch(name) or name in found:
            raise ValueError(
                f"HMAMBA_DELIVER: {name!r} is not the name of a target, or comes twice. Give names of hmamba.toml, "
                "each with a connection, such as shop:shop_postgres,export."
            )
        found[name] = connection
    return found


def addresses(connections: Mapping[str, str]) -> dict[str, str]:
    """Environment variables with the addresses of targets that have a connection. Airflow masks passwords in logs.

    Raises:
        AirflowNotFoundException: there is no such connection.
    """
    return {
        f"HMAMBA_DELIVER_{name.upper()}": _url(Connection.get(connection))
        for name, connection in connections.items()
        if connection
    }


def _url(connection: Any) -> str:
    """The URL of a connection, as libpq and redis-py read it: Airflow's own puts numbers and booleans into JSON."""
    extra = {key: value for key, value in connection.extra_dejson.items() if value is not None}
    scheme, _, rest = connection.get_uri().partition("?")[0].partition("://")
    if scheme == "redis" and extra.pop("ssl", False):
        scheme = "rediss"
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in extra.items()}
    return f"{scheme}://{rest}" + (f"?{urlencode(texts)}" if texts else "")
