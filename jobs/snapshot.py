"""Write every user's history up to the end of the day as Parquet shards, and the rules of the night beside them."""

from __future__ import annotations

import sys

from hmamba.clock import end_of
from hmamba.contracts.steps import SnapshotMetrics
from hmamba.errors import InputError
from hmamba.rules.files import write_rules
from hmamba.rules.items import check_rules
from hmamba.sequences.described import describe
from hmamba.sequences.files import Snapshot
from hmamba.sequences.segments import segment
from hmamba.sequences.snapshot import Meaning, write_snapshot
from hmamba.tables.settings import check_settings
from hmamba.warehouse.connection import connect
from hmamba.warehouse.days import check_gap, newest_of
from jobs.step import StepContext, run_step


def body(context: StepContext) -> SnapshotMetrics:
    """Write the run's ``sequences/``.

    Raises:
        ConfigError: rules.toml is wrong.
        InputError: there is no warehouse, it holds no event before the end of the day, or a long gap before the day; a
            file of the catalogue, of the users or of a rule cannot be read; or a setting of a table names a file or a
            column of users that does not exist.
    """
    path = context.layout.warehouse
    if not path.exists():
        raise InputError(f"{path} does not exist. Run ingest first: python -m jobs.ingest --root {context.layout.root}")
    with connect(path, context.config.warehouse, read_only=True) as connection:
        if not context.options.any_day:
            check_gap(context.config, context.day, newest_of(connection))
        shards, meaning = context.config.snapshot.shards, Meaning.of(context.config)
        with context.run.storage.write_folder(context.run.sequences) as folder:
            manifest = write_snapshot(connection, folder, context.day, shards, meaning)
            root, config = context.layout.root, context.config
            manifest = describe(connection, folder, root, config, manifest)
            manifest = segment(connection, folder, config.users, manifest)
            manifest = write_rules(connection, folder, root, config, manifest, end_of(context.day))
            check_rules(folder, manifest, config.warehouse)
    check_settings(context.layout, context.config, Snapshot.open(context.run))
    return SnapshotMetrics(**manifest.model_dump(exclude={"schema_version"}))


def main(arguments: list[str] | None = None) -> int:
    """Run the step; returns its exit status."""
    return run_step("snapshot", __doc__ or "", body, arguments)


if __name__ == "__main__":
    sys.exit(main())
