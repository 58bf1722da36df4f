"""Pull new files from the landing folder into the warehouse: checked, deduplicated, in one transaction."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from hmamba.config import WarehouseConfig
from hmamba.contracts.steps import IngestMetrics
from hmamba.errors import InputError
from hmamba.sources.files import find_catalogue
from hmamba.sources.registry import open_source
from hmamba.warehouse.connection import connect, wal_of
from hmamba.warehouse.metadata import catalogue_warning
from hmamba.warehouse.pull import Pull, batch_metrics, batch_of_run, pull
from hmamba.warehouse.tables import is_empty
from jobs.step import StepContext, run_step
from jobs.sweep import sweep_root

log = logging.getLogger("hmamba")


@contextmanager
def _transaction(path: Path, config: WarehouseConfig) -> Iterator[duckdb.DuckDBPyConnection]:
    """Commit if the block succeeds; otherwise roll back, and delete the file if the block created it."""
    was_missing = not path.exists()
    with connect(path, config) as connection:
        is_own = was_missing and is_empty(connection)  # another run may have created and filled it in the meantime
        connection.begin()
        try:
            yield connection
            connection.commit()
        except BaseException:
            with suppress(duckdb.Error):  # a failed commit has ended the transaction
                connection.rollback()
            if is_own:  # while this process holds its lock, so that no other process has begun to fill it
                wal_of(path).unlink(missing_ok=True)  # first: afterwards it may be that of another process
                path.unlink()
            raise


def body(context: StepContext) -> IngestMetrics:
    """Pull new files into the warehouse.

    A repeated run reports the batch that its first try loaded.

    Raises:
        InputError: a file is invalid, there is no data yet, the warehouse is gone, or the day is implausible.
        QualityError: the batch, or its absence, broke a rule.
    """
    layout, config = context.layout, context.config
    sweep_root(layout)
    source, catalogue = open_source(layout, config), find_catalogue(layout, config)
    if not layout.warehouse.exists():
        if source.is_empty:
            raise source.nothing(())
        _require_new(context)
    request = Pull(layout, config, context.day, context.run_id, source, catalogue, context.options.any_day)
    with _transaction(layout.warehouse, config.warehouse) as connection:
        outcome = pull(connection, request)
        batch_id = outcome.batch_id
        if batch_id is None:
            batch_id = batch_of_run(connection, context.day, context.run_id)
            log.info("no new files; files read before: %d", outcome.files_skipped)
        batch = {} if batch_id is None else batch_metrics(connection, batch_id)
        named = config.catalogue.path
        mismatch = None if named is None else catalogue_warning(connection, named)
    for warning in (*filter(None, [mismatch]), *outcome.warnings):
        log.warning("%s", warning)
    docs = layout.checks.index
    return IngestMetrics(
        **batch,
        day=context.day,
        repeated=batch_id is not None and outcome.batch_id is None,
        files_skipped=outcome.files_skipped,
        staleness_days=outcome.staleness_days,
        warnings=outcome.warnings,
        catalogue_warning=mismatch,
        data_docs=str(docs) if docs.exists() else None,
    )


def _require_new(context: StepContext) -> None:
    """Check that a root without a warehouse has never had one.

    A new warehouse would hold only the events of files that are still there, and the same items under other numbers.

    Raises:
        InputError: a night of the root has been published, and ``--new-warehouse`` is not given.
    """
    layout = context.layout
    if layout.published_days and not context.options.new_warehouse:
        command = f"python -m jobs.ingest --root {shlex.quote(str(layout.root))} --day {context.day} --new-warehouse"
        raise InputError(
            f"{layout.warehouse} does not exist, although nights of this root have been published. Restore it from a "
            f"backup. Without one, pull the files that are still in {layout.landing} into a new one with: {command}; "
            "then run the night with --full-retrain."
        )


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--new-warehouse",
        action="store_true",
        help="make a new warehouse, although nights have been published from one that is gone",
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the step; returns its exit status."""
    return run_step("ingest", __doc__ or "", body, arguments, _options)


if __name__ == "__main__":
    sys.exit(main())
