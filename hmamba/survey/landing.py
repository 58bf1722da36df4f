"""Predict what the next pull refuses: the pull's own staging and row rules, on a sample of the files."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb

from hmamba.config import Config
from hmamba.errors import InputError
from hmamba.quality.row_rules import ROW_RULES, Broken
from hmamba.sources.base import require_columns
from hmamba.sources.discover import SourceFile, find_files
from hmamba.sources.files import FilePart, find_catalogue, no_rows
from hmamba.sources.read import open_file
from hmamba.statements import rows
from hmamba.storage.layout import Layout
from hmamba.survey.measure import Figures, Measured, measure, repeats
from hmamba.survey.roles import ROLES, candidates, profiles
from hmamba.survey.sample import PEEK, Sample, read, samples_of, spread
from hmamba.text import counted
from hmamba.warehouse.connection import in_memory
from hmamba.warehouse.refused import first_refused, record_on, refuse_rows

_HEAD_ROWS = 5_000


@dataclass(frozen=True)
class Refusal:
    """Rows of the sample that break one rule: their number, the place and value of the first, and what to change."""

    rule: str
    rows: int
    example: str
    cure: str


@dataclass(frozen=True)
class Examined:
    """Findings in a sample of a root's source files.

    ``repeated`` is the share of events that repeat an item of their user, among types that count as seen. ``refusals``
    are grouped by rule; a row can break several rules. ``stops`` are messages about everything that would stop the
    pull: unreadable files, files in which every row is refused, and more refused rows than
    ``quality.max_quarantined_share``.
    """

    figures: Figures
    repeated: float
    refusals: tuple[Refusal, ...]
    stops: tuple[str, ...]


def examine(layout: Layout, config: Config) -> Examined | None:
    """Examine the files of ``source.path``; None if there are none.

    Raises:
        InputError: the folder does not exist, a file in it is not source data, or a first pull would find no rows.
    """
    source = config.source
    files = find_files(source.path, layout.root, "source.path", follow_links=source.follow_links, limits=source.limits)
    if not files:
        return None
    with samples_of(spread(files)) as samples, in_memory(config.warehouse) as connection:
        judged = [(sample, _missing(connection, sample, config)) for sample in samples]
        good = [sample for sample, problem in judged if problem is None]
        measured = measure(connection, files, good, config.source)
        refused = refuse_rows(connection, config, first_refused(config), measured.figures.looked)
        refusals = tuple(_refusals(connection, measured.samples, config))
        stops = [problem for _, problem in judged if problem is not None]
        stops += [*measured.problems, *_too_many(connection, measured, refused, config)]
        seen = [name for name, kind in config.events.types.items() if kind.seen]
        repeated = repeats(connection, seen if config.events.types else None)
    if not measured.figures.total and not stops and not layout.warehouse.exists():
        raise no_rows([file.name for file in files])
    return Examined(measured.figures, repeated, refusals, tuple(stops))


def _too_many(connection: duckdb.DuckDBPyConnection, measured: Measured, refused: int, config: Config) -> Iterator[str]:
    """Messages of the pull's rules for whole files and batches, applied to the sample."""
    for row in rows(connection, "ingest/refused_by_file"):
        sample, count = measured.samples[row["file"]], measured.counts[row["file"]]
        if row["refused"] == count:
            every = counted(count, "row") + ("" if sample.whole else " in the sample")
            yield (
                f"{sample.original.name}: every one of its {every} would be refused. Correct the file or the setting "
                "that does not fit it, or move the file out of the source."
            )
    looked, most = measured.figures.looked, config.quality.max_quarantined_share
    if refused > most * looked:
        yield (
            f"{refused:,} of {looked:,} rows would be refused ({refused / looked:.1%}); more than {most:.0%} stop "
            "the pull. Correct the files or the settings, or raise quality.max_quarantined_share."
        )


def examine_catalogue(layout: Layout, config: Config) -> list[SourceFile]:
    """The files of the catalogue, after a check that each has the configured columns.

    Raises:
        InputError: the folder or file does not exist, or a file cannot be read or lacks a column.
    """
    names, files = config.catalogue, find_catalogue(layout, config)
    of_records = [file for file in spread(files) if open_file(file, names.wanted).columns is None]
    with samples_of(of_records, PEEK) as samples:
        for sample in samples:
            head = read(sample.file, None, _HEAD_ROWS)
            if head.num_rows:
                require_columns(sample.original.name, names.wanted, head.column_names)
    return files


def _missing(connection: duckdb.DuckDBPyConnection, sample: Sample, config: Config) -> str | None:
    """Why a file cannot be read, with the closest column name for a missing one; None if it can."""
    try:
        head = read(sample.file, None, _HEAD_ROWS)
    except InputError as error:
        return str(error)
    configured = config.source.columns.by_role
    missing = [role for role in ROLES if role in configured and configured[role] not in head.column_names]
    if not missing or not head.num_rows:
        return None
    likely = candidates(profiles(connection, head, config.source.null_words))
    sentences = []
    for role in missing:
        name = configured[role]
        free = [column for column in head.column_names if column not in configured.values()]
        folded = {column.lower(): column for column in free}
        close = [folded[column] for column in difflib.get_close_matches(name.lower(), folded, n=1)]
        meant = next(iter(close + [column for column in likely[role] if column in free]), None)
        cure = f"did you mean source.columns.{role} = {json.dumps(meant)}?" if meant else f"set source.columns.{role}."
        sentences.append(f"no column {name!r} for {role}: {cure}")
    return f"{sample.original.name}: {' '.join(sentences)} It has {', '.join(map(repr, head.column_names))}."


def _refusals(connection: duckdb.DuckDBPyConnection, samples: Sequence[Sample], config: Config) -> Iterator[Refusal]:
    for row in rows(connection, "survey/refused_by_rule"):
        sample, rule, line = samples[row["file"]], ROW_RULES[row["rule"]], row["line"]
        # Line numbers of a partial file differ from those of the original.
        place = f"{sample.original.name}, line {line}" if sample.whole else sample.original.name
        part, columns = FilePart.of(sample.file, ""), rule.columns(config)
        record = record_on(part, config.source.columns.wanted, line) if columns else None
        value = record.get(columns[0]) if isinstance(record, dict) else None
        if value is None:
            yield Refusal(rule.name, row["rows"], place, f"{rule.advice}.")
        else:
            explanation = rule.cure(Broken(value, part, config)) or ""
            cure = f"{rule.advice}. {explanation}".rstrip()
            yield Refusal(rule.name, row["rows"], f"{place}: {str(value)!r}", cure)
