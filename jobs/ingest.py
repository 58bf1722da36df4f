"""Pull new files from the landing folder into the warehouse: checked, deduplicated, in one transaction."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from hmamba.config import WarehouseConfig
from hmamba.contracts.steps import IngestMetrics
from hmamba.sources.files import find_catalogue
from hmamba.sources.registry import open_source
from hmamba.warehouse.connection import connect, wal_of
from hmamba.warehouse.metadata import catalogue_warning
from hmamba.warehouse.pull import Pull, batch_metrics, batch_of_run, pull
from hmamba.warehouse.tables import is_empty
from jobs.step import StepContext, run_step

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
                path.unlink()
                wal_of(path).unlink(missing_ok=True)
            raise


def body(context: StepContext) -> IngestMetrics:
    """Pull new files into the warehouse.

    A repeated run reports the batch that its first try loaded.

    Raises:
        InputError: a file is invalid, there is no data yet, or the day is implausible.
        QualityError: the batch, or its absence, broke a rule.
    """
    layout, config = context.layout, context.config
    source, catalogue = open_source(layout, config), find_catalogue(layout, config)
    if source.is_empty and not layout.warehouse.exists():
        raise source.nothing(())
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


def main(arguments: list[str] | None = None) -> int:
    """Run the step; returns its exit status."""
    return run_step("ingest", __doc__ or "", body, arguments)


if __name__ == "__main__":
    sys.exit(main())
