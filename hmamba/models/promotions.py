"""Which model version serves, from which night on: ``models/champion.json``."""

from __future__ import annotations

from datetime import UTC, date, datetime

from hmamba.contracts.models import Promotion, Promotions, Rollback
from hmamba.errors import InputError
from hmamba.storage.layout import Layout
from hmamba.storage.root_locks import champion


def promotions(layout: Layout) -> tuple[Promotion, ...]:
    """All promotions, oldest first; none before the first gate.

    Raises:
        InputError: champion.json is damaged.
    """
    return _read(layout).history


def rollbacks(layout: Layout) -> tuple[Rollback, ...]:
    """All rollbacks, oldest first.

    Raises:
        InputError: champion.json is damaged.
    """
    return _read(layout).rollbacks


def _read(layout: Layout) -> Promotions:
    return Promotions.read_if_exists(layout.champion, layout.storage) or Promotions(version=None, history=())


def require(layout: Layout) -> None:
    """Check that champion.json has not been lost, which would look like a first night.

    Raises:
        InputError: it does not exist, although a night has been published: each gate writes it.
    """
    if layout.published_days and not layout.storage.exists(layout.champion):
        raise InputError(
            f"{layout.champion} does not exist, although nights of this root have been published. Restore it from a "
            f"backup, or name the champion: {layout.command('rollback', '--to', 'VERSION')}. "
            f"{layout.command('models')} lists the versions; if only baselines have served, give the newest day."
        )


def champion_before(layout: Layout, day: date) -> str | None:
    """The version that served before the night of ``day``; running a night again meets the same one.

    Raises:
        InputError: champion.json is damaged, or gone.
    """
    require(layout)
    earlier = [one for one in promotions(layout) if one.day < day]
    return earlier[-1].version if earlier else None


def record_decision(layout: Layout, day: date, promoted: str | None) -> bool:
    """Enter the gate's decision on the night of ``day`` into the promotions.

    The last decision on a day counts: it replaces, or takes back, what an earlier run of that day promoted. The
    promotions of other days stay as they are, so that nights that are run again in the order of their days end with
    the same promotions, in whichever order they were run before.

    Args:
        layout: the root.
        day: the night.
        promoted: the version that serves from that night on, or None if the gate promoted none.

    Returns:
        Whether the decision changes the champion: no later night has promoted one.
    """
    with champion(layout):
        before = _read(layout)
        earlier = tuple(one for one in before.history if one.day < day)
        later = tuple(one for one in before.history if one.day > day)
        known = [one.version for one in before.history if one.day == day]
        is_new = not layout.storage.exists(layout.champion)
        if is_new or known != ([] if promoted is None else [promoted]):
            own = () if promoted is None else (Promotion(version=promoted, day=day, promoted_at=datetime.now(UTC)),)
            _write(layout, (*earlier, *own, *later), before.rollbacks)
        return not later


def roll_back(
    layout: Layout,
    day: date,
    version: str | None,
    *,
    table: date | None,
    from_table: date | None,
    changes_table: bool,
    newest: datetime | None,
) -> tuple[Promotion, ...]:
    """Make a version the champion again, and record the rollback.

    Promotions of later days are taken back. If the version is not the last of those that stay, it is promoted on
    ``day``. Nothing is recorded if the last rollback has done the same and nothing was promoted or published since, so
    that a rollback that was killed can be run again.

    Args:
        layout: the root.
        day: the last day whose promotions are kept.
        version: the champion from then on; None for none.
        table: day of the table that readers get; None for none.
        from_table: day of the table that they have; None for none.
        changes_table: whether these differ.
        newest: when the table that readers have was published; None for none.

    Returns:
        The promotions that were taken back, oldest first.
    """
    with champion(layout):
        before, now = _read(layout), datetime.now(UTC)
        kept = tuple(one for one in before.history if one.day <= day)
        gone = before.history[len(kept) :]
        if version is None:
            kept = ()
        elif not kept or kept[-1].version != version:
            kept += (Promotion(version=version, day=day, promoted_at=now),)
        is_lost = not layout.storage.exists(layout.champion)
        unchanged = kept == before.history and (not changes_table or _continues(before, day, version, table, newest))
        if unchanged and not is_lost:
            return ()
        done = Rollback(
            version=version,
            day=day,
            from_version=before.version,
            taken_back=gone,
            table=table,
            from_table=from_table,
            rolled_back_at=now,
        )
        _write(layout, kept, (*before.rollbacks, done))
        return gone


def _continues(before: Promotions, day: date, version: str | None, table: date | None, newest: datetime | None) -> bool:
    """Whether the last rollback was the same one, and readers still have the table from before it."""
    if not before.rollbacks:
        return False
    last = before.rollbacks[-1]
    same = (last.day, last.version, last.table) == (day, version, table)
    return same and (newest is None or newest <= last.rolled_back_at)


def _write(layout: Layout, history: tuple[Promotion, ...], rollbacks: tuple[Rollback, ...]) -> None:
    version = history[-1].version if history else None
    Promotions(version=version, history=history, rollbacks=rollbacks).write(layout.champion, layout.storage)
