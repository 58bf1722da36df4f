"""The pages about checks: one for each check, and an index. They load nothing, run no script and need no network."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup, escape

from hmamba.contracts.checks import CheckedRule, CheckRecord, Unit
from hmamba.pages import templates
from hmamba.storage.checks_layout import ChecksLayout
from hmamba.text import counted, printable

KINDS = {
    "staged_batch": "New events",
    "candidates": "Candidates",
    "changes": "Changed users",
    "similar_items": "Similar items",
    "popular": "Popular items",
    "segments": "Users for items",
    "user_vectors": "User vectors",
    "item_vectors": "Item vectors",
}
"""Kinds of checks, in words."""

_TONES = ("broken", "warned", "passed")
"""Classes of the pages, the worst first."""

_NOT_LOADED = "Nothing was loaded: the rows stay in their files."
_NOT_PUBLISHED = "Nothing was published: what was published before stays."


def render_check(record: CheckRecord, path: Path, place: ChecksLayout) -> str:
    """The page of one check.

    Args:
        record: the check.
        path: where the record is.
        place: paths of all checks.
    """
    bounded = [rule for rule in record.rules if rule.bounded]
    return _render(
        "check.html",
        record=record,
        kind=KINDS[record.kind],
        stopped=_NOT_LOADED if record.kind == "staged_batch" else _NOT_PUBLISHED,
        bounded=sorted(bounded, key=lambda rule: (rule.passed, not rule.warned)),
        unbounded=[rule for rule in record.rules if not rule.bounded],
        index=os.path.relpath(place.index, path.parent),
        file=path.name,
    )


def render_index(records: Mapping[Path, CheckRecord], place: ChecksLayout) -> str:
    """The page that lists all checks, newest first.

    Args:
        records: the checks, by the paths of their pages.
        place: paths of all checks.
    """
    newest = sorted(records.items(), key=lambda entry: (entry[1].checked_at, entry[0]), reverse=True)
    entries = [(os.path.relpath(page, place.folder), record) for page, record in newest]
    latest = {record.kind: (page, record) for page, record in reversed(entries)}
    return _render(
        "checks.html",
        tone=min(map(tone, (record for _, record in latest.values())), key=_TONES.index, default="passed"),
        entries=entries,
        latest=[(title, *latest[kind]) for kind, title in KINDS.items() if kind in latest],
        kinds=KINDS,
    )


@cache
def _environment() -> Environment:
    """The templates; compiling them for each page would take longer than everything else."""
    environment = templates("hmamba.quality")
    environment.filters |= {
        "counted": counted,
        "figure": figure,
        "allowed": allowed,
        "coded": coded,
        "breakable": breakable,
        "tone": tone,
        "result": result,
    }
    return environment


def _render(template: str, **values: object) -> str:
    return _environment().get_template(template).render(**values)


def tone(record: CheckRecord) -> str:
    """The class of a check on the pages."""
    return "broken" if record.broken else "warned" if record.warned else "passed"


def result(record: CheckRecord) -> str:
    """The result of a check in a few words."""
    if record.broken:
        return f"{counted(len(record.broken), 'rule')} broken"
    return f"passed, {counted(len(record.warned), 'warning')}" if record.warned else "passed"


def figure(value: float, unit: Unit) -> str:
    """A figure with its unit."""
    match unit:
        case "count":
            return f"{value:,.10g}"
        case "share":
            return f"{100 * value:.4g}\N{NO-BREAK SPACE}%"
        case "ratio":
            return f"{value:.4g}"
        case "days":
            return f"{value:.4g}\N{NO-BREAK SPACE}day{'' if value == 1 else 's'}"


def allowed(rule: CheckedRule) -> str:
    """The bounds of a rule in words."""
    if rule.least == rule.most and rule.least is not None:
        return f"exactly {figure(rule.least, rule.unit)}"
    bounds = (
        ("at least", rule.least),
        ("at most", rule.most),
        ("warns below", rule.warn_least),
        ("warns above", rule.warn_most),
    )
    return ", ".join(f"{word} {figure(bound, rule.unit)}" for word, bound in bounds if bound is not None)


def breakable(name: str) -> Markup:
    """A name that may be broken into lines after underscores and dots."""
    return Markup(re.sub(r"([_.])", r"\1<wbr>", str(escape(printable(name)))))


def coded(text: str) -> Markup:
    """Text whose parts in backquotes are code."""
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(printable(text)))))
