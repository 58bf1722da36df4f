"""The locks of a root, and their order.

A process that holds several takes them in this order, so that no two wait for each other:

1. nights: one night of ``hmamba run`` at a time
2. refreshes: one refresh at a time
3. working folders of runs, which steps lock (``jobs.step``); a refresh locks its own, then that of its night
4. tables: one table is published, or moved, at a time
5. the champion: one change of ``models/champion.json`` at a time
6. the records and pages of checks (:mod:`hmamba.quality.checks`)

DuckDB's lock on the warehouse comes after the third. The exception is ``prune``, which locks working folders while it
holds the fourth, but does not wait for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from hmamba.storage.layout import Layout
from hmamba.storage.locks import WAIT_SECONDS


def nights(layout: Layout, wait_seconds: float = WAIT_SECONDS) -> AbstractContextManager[None]:
    """Keep other nights of ``hmamba run`` from starting. Airflow's runs take turns by themselves."""
    return layout.storage.lock(layout.runs, ".night.lock", wait_seconds)


def refreshes(layout: Layout, wait_seconds: float = WAIT_SECONDS) -> AbstractContextManager[None]:
    """Keep other refreshes from starting: two would start from the same table."""
    return layout.storage.lock(layout.candidates, ".refresh.lock", wait_seconds)


@contextmanager
def quiet(layout: Layout, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Keep nights of ``hmamba run`` and refreshes from starting, for a change of the whole root."""
    with nights(layout, wait_seconds), refreshes(layout, wait_seconds):
        yield


def tables(layout: Layout, wait_seconds: float = WAIT_SECONDS, *, shared: bool = False) -> AbstractContextManager[None]:
    """Keep tables from being published, moved or deleted by another process. Shared: others may read them too."""
    return layout.storage.lock(layout.candidates, wait_seconds=wait_seconds, shared=shared)


def champion(layout: Layout) -> AbstractContextManager[None]:
    """Keep the promotions from being changed by another process, which takes an instant."""
    return layout.storage.lock(layout.models)
