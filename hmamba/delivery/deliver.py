"""Deliver a published table to the configured targets, one after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from hmamba.config import Config
from hmamba.contracts.delivery import Way
from hmamba.delivery.base import Settings
from hmamba.delivery.registry import open_target
from hmamba.delivery.table import copied, opened
from hmamba.errors import BusyError, ConfigError, HMambaError, InputError, explained
from hmamba.storage.layout import Layout
from hmamba.text import counted

log = logging.getLogger("hmamba")


@dataclass(frozen=True)
class Done:
    """A finished delivery.

    Attributes:
        target: name of the target.
        day: day of the table.
        way: how it was delivered.
        users: number of users who were written or removed.
        seconds: wall time.
    """

    target: str
    day: date
    way: Way
    users: int
    seconds: float

    @property
    def in_a_line(self) -> str:
        """What was done."""
        done = {
            "whole": f"{counted(self.users, 'user')}, all of the table",
            "changes": counted(self.users, "changed user"),
            "nothing": "nothing to do, it holds this table",
        }
        return f"{self.target}: {done[self.way]}"


def deliver(
    layout: Layout, config: Config, names: Sequence[str] = (), day: date | None = None, *, older: bool = False
) -> list[Done]:
    """Deliver a table. A target that fails does not keep the others from being served.

    Args:
        layout: the root.
        config: the targets.
        names: the targets to serve; all if empty.
        day: night of the table; None for the newest.
        older: whether it may replace the table of a later day in a target.

    Raises:
        BusyError: a target failed, and a retry may succeed.
        ConfigError: no target is configured, or a name or a setting of one is wrong.
        InputError: nothing is published, or a target failed and a retry fails again.
    """
    targets = config.deliver.targets
    if not targets:
        raise ConfigError(
            "No target is configured. Add a table such as [deliver.shop] with a kind to hmamba.toml, see "
            "docs/delivery.md."
        )
    unknown = [name for name in names if name not in targets]
    if unknown:
        raise ConfigError(f"--to {unknown[0]}: no such target. hmamba.toml has {', '.join(targets)}.")
    wait = config.warehouse.wait_seconds
    served = [Settings(name, targets[name], layout.root, wait) for name in dict.fromkeys(names or targets)]
    done, failed = [], []
    with copied(layout, config, day) as (manifest, folder):
        for settings in served:
            started = time.monotonic()
            try:
                target = open_target(settings)
                with opened(manifest, folder, config, settings.config) as table:
                    outcome = target.deliver(table, older=older)
            except Exception as error:
                known = explained(error, f"deliver.{settings.name}")
                if known is None:
                    raise
                if len(served) > 1:
                    log.error("deliver: %s", known)
                failed.append(known)
                continue
            seconds = round(time.monotonic() - started, 3)
            done.append(Done(settings.name, manifest.day, outcome.way, outcome.users, seconds))
            log.info("deliver: %s (%.1f s)", done[-1].in_a_line, seconds)
    if failed:
        raise _summary(failed)
    return done


def _summary(failed: Sequence[HMambaError]) -> HMambaError:
    """One error for all targets that failed. A retry is worth it if it can help one of them."""
    kind = BusyError if any(isinstance(error, BusyError) for error in failed) else InputError
    return failed[0] if len(failed) == 1 else kind("\n".join(map(str, failed)))
