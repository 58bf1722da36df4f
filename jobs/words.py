"""What each step did, in a line for people: the same words in ``hmamba run`` and in the demo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hmamba.report.text import counted

Facts = dict[str, Any]


def in_a_line(facts: Facts) -> str:
    """What a step did, from its facts; ``facts["step"]`` names it."""
    return _LINES[facts["step"]](facts)


def near(path: Path) -> str:
    """A path as somebody would type it: from the working folder if it lies there, absolute otherwise."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _new_users(facts: Facts) -> str:
    if not facts["users"]:
        return "no user has new events; nothing was published"
    return (
        f"{counted(facts['users'], 'user')} with new events, {facts['new_users']:,} of them new; "
        f"{facts['advanced']:,} read from their stored state, {facts['anew']:,} from their whole history"
    )


def _trained(facts: Facts) -> str:
    if facts["version"] is None:
        return f"nothing trained: {facts['skipped_reason']}"
    if facts["reused"]:
        return f"{facts['version']} was trained already"
    return f"{facts['version']}, from {facts['parent'] or 'nothing'}, {len(facts['epochs'])} epochs"


_LINES: dict[str, Callable[[Facts], str]] = {
    "ingest": lambda f: (
        f"{f['rows_loaded']:,} rows loaded, {f['rows_duplicate']:,} duplicate, "
        f"{f['rows_quarantined']:,} refused, {f['items_new']:,} new items"
    ),
    "snapshot": lambda f: (
        f"{f['users']:,} users, {f['items']:,} items, {f['events']:,} events, "
        f"{f['shards']} shard{'' if f['shards'] == 1 else 's'}"
    ),
    "train": _trained,
    "gate": lambda f: f"{'promoted' if f['promoted'] else 'not promoted'}: {f['reason']}",
    "index": lambda f: f"{f['items']:,} items, {'no index: a baseline serves' if f['kind'] == 'none' else f['kind']}",
    "score": lambda f: f"{f['users']:,} users, {f['rows']:,} rows",
    "publish": lambda f: f"{f['rows']:,} rows for {f['users']:,} users",
    "refresh": _new_users,
    "report": lambda f: str(f["path"]),
}
