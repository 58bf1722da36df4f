"""Refresh: replace the candidates of users with new events in the published table, with the serving model."""

from __future__ import annotations

import logging
import sys
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace

import pyarrow.parquet as pq

from hmamba.candidates.night import NightScorer
from hmamba.candidates.parts import Part, Ruled, candidate_parts
from hmamba.candidates.publish import Refreshed, publish_refresh
from hmamba.candidates.replace import replace_users
from hmamba.clock import end_of
from hmamba.columns import BECAUSE, FALLBACK_VERSION, USER_ID
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.manifest import Manifest, Refresh
from hmamba.contracts.published import RefreshMetrics
from hmamba.contracts.scored import RuleEffects
from hmamba.contracts.verdict import read_serving
from hmamba.errors import InputError
from hmamba.inference.device import device_of
from hmamba.inference.encode import encode_users
from hmamba.inference.user_states import CarriedStates, StateFiles
from hmamba.models import files as model_files
from hmamba.progress import Progress
from hmamba.rules.check import RuledPart
from hmamba.rules.files import write_current_rules
from hmamba.rules.night import NightRules
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import stream_histories
from hmamba.sequences.snapshot import Changes, Meaning, write_changes
from hmamba.statements import statement
from hmamba.storage.root_locks import refreshes
from hmamba.storage.run_layout import RunLayout
from hmamba.warehouse.connection import connect
from hmamba.warehouse.days import check_gap, newest_of
from jobs.score import BLOCK_EVENTS, BLOCK_USERS, asked
from jobs.step import StepContext, run_step

log = logging.getLogger("hmamba")

_NIGHT_AGAIN = "Run that night again to its end: hmamba run --root ROOT --day DAY."


def _turn(context: StepContext) -> AbstractContextManager[None]:
    """Keep other refreshes from starting.

    Raises:
        InputError: nothing is published.
    """
    if not context.layout.storage.exists(context.layout.latest):
        raise _nothing_published(context)
    return refreshes(context.layout, context.config.warehouse.wait_seconds)


def _nothing_published(context: StepContext) -> InputError:
    return InputError(f"{context.layout.latest} does not exist: nothing has been published. Run a night first.")


def _night(context: StepContext) -> tuple[Manifest, Snapshot]:
    """The published manifest, and the snapshot of the run that made its table.

    Raises:
        InputError: nothing is published, the day is before the published table's, or the run has changed since.
    """
    layout = context.layout
    latest = Manifest.read_if_exists(layout.latest, layout.storage)
    if latest is None:
        raise _nothing_published(context)
    if context.day < latest.last_day:
        raise InputError(
            f"--day {context.day}: the published table holds events up to {latest.last_day}. Give that day or a later "
            "one."
        )
    night = layout.run(latest.day, latest.run_id)
    served = (read_serving(night), FALLBACK_VERSION)
    files = Snapshot.open(night)
    matches = latest.snapshot == files.digest and latest.model_version in served
    if matches and latest.refresh is None:
        matches = [part.written.sha256 for part in candidate_parts(files)] == [file.sha256 for file in latest.files]
    if not matches:
        raise InputError(
            f"{night.folder} does not match {layout.latest}: the night has been run again since. "
            f"Run the night of {latest.day} to its end."
        )
    return latest, files


def _changes(context: StepContext, files: Snapshot, scorer: NightScorer) -> Changes:
    """Write the histories of users with new events to the refresh's own folder."""
    path = context.layout.warehouse
    with connect(path, context.config.warehouse, read_only=True) as connection:
        if not context.options.any_day:
            check_gap(context.config, context.day, newest_of(connection))
        items = connection.execute(statement("sequences/vocabulary")).to_arrow_table()
        model_files.check_vocabulary(scorer.version, scorer.item_ids, model_files.vocabulary_of(items))
        work = context.run.refresh
        with work.storage.write_folder(work.sequences) as folder:
            changes = write_changes(connection, folder, context.day, files.manifest, Meaning.of(context.config))
            if changes.users:
                write_current_rules(connection, folder, context.layout.root, context.config, files, end_of(context.day))
            return changes


@dataclass(frozen=True)
class _Shard:
    """A written shard; users encoded from their carried state (``advanced``) and from their history (``reencoded``)."""

    part: Part
    new_users: int
    advanced: int
    reencoded: int


def _score(
    context: StepContext, night: RunLayout, base: Manifest, scorer: NightScorer, number: int, old: Part
) -> _Shard:
    """Write a shard's new part: the night's ``old`` part with the users of the changed histories replaced.

    They are scored with the night's model or baseline, index, popularity, k and exclude_seen.
    """
    work = context.run.refresh
    stored, write = scorer.stored, work.storage.write_file
    files = StateFiles(night.state_part(number), night.state_users(number))
    with ExitStack() as stack:
        carried = None
        if stored is not None:
            carried = stack.enter_context(CarriedStates.opened(files, stored.model, stored.identity))
        scored = scorer.score(
            stream_histories(work.shard(number), events=BLOCK_EVENTS, users=BLOCK_USERS, asked=asked(context)),
            k=base.k,
            exclude_seen=base.exclude_seen,
            candidates=stack.enter_context(write(work.candidate_part(number))),
            vectors=stack.enter_context(write(work.user_points(number))),
            encode=encode_users if carried is None else carried.encode,
            because=BECAUSE in base.columns,
            experiment=base.experiment,
            shard=number,
        )
    touched = pq.read_table(work.user_points(number), columns=[USER_ID])[USER_ID].combine_chunks()
    # The night's own part, not an earlier refresh's: these histories include the events of that one.
    before, target = old.written.verified(old.path, _NIGHT_AGAIN), work.refreshed_part(number)
    with write(target) as path:
        replaced = replace_users(before, touched, work.candidate_part(number), path)
        written = HashedFile.of(path, target.name)
    effects = None if scored.effects is None else RuleEffects.model_validate(asdict(scored.effects))
    both = RuleEffects.sum_of([old.effects, effects])
    part = Part(number, target, written, replaced.rows, replaced.fallback_users, effects=both)
    if carried is None:
        return _Shard(part, replaced.new_users, 0, len(touched))
    return _Shard(part, replaced.new_users, carried.advanced, carried.reencoded)


def _ruled(current: Snapshot) -> Ruled:
    """The new candidates of a refresh, which were made under its rules."""
    work, local = current.run, current.run.storage.local_path
    parts = (
        RuledPart(shard, local(work.candidate_part(shard)), (local(work.shard(shard)),))
        for shard in range(current.manifest.shards)
    )
    return Ruled(current, tuple(parts))


def body(context: StepContext) -> RefreshMetrics:
    """Score users with events after the night's snapshot, and publish the table with their candidates replaced.

    Raises:
        BusyError: a night was published meanwhile.
        InputError: no night has been published, or its working folder has changed.
        QualityError: the new table broke a rule; the table published before stays.
    """
    base, files = _night(context)
    with ExitStack() as stack:
        if files.run.folder != context.run.folder:  # otherwise the step has locked it
            # A night that is run again, or deleted as an old one, would change what this reads.
            wait = context.config.warehouse.wait_seconds
            stack.enter_context(files.run.storage.lock(files.run.folder, wait_seconds=wait, shared=True))
        return _refreshed(context, base, files)


def _refreshed(context: StepContext, base: Manifest, files: Snapshot) -> RefreshMetrics:
    device = device_of(context.config.train.device)
    scorer = NightScorer.open(files, device, context.config.model.kernels)
    work, old = context.run.refresh, candidate_parts(files)
    try:
        changes = _changes(context, files, scorer)
        if not changes.users:
            log.info("no user has new events since the night of %s; nothing to publish", base.day)
            return RefreshMetrics(
                day=context.day, night=base.day, model_version=scorer.version, new_events=changes.new_events
            )
        current = Snapshot.open(work) if work.storage.exists(work.manifest) else None
        rules = None if current is None else NightRules.open(current)
        scorer, shards = replace(scorer, rules=rules), []
        with Progress("refresh", changes.users, "users") as progress:
            for number, part in enumerate(old):
                shards.append(_score(context, files.run, base, scorer, number, part))
                progress.update(shards[-1].advanced + shards[-1].reencoded)
        new_users = sum(shard.new_users for shard in shards)
        refreshed = Refreshed(
            base=base,
            refresh=Refresh(day=context.day, run_id=context.run_id, users=changes.users, new_users=new_users),
            parts=tuple(shard.part for shard in shards),
            changed=tuple(work.shard(number) for number in range(len(shards))),
            rules=None if current is None else _ruled(current),
        )
        done = publish_refresh(context.layout, context.config, refreshed)
    finally:
        # The published table is complete: nothing reads the working folder afterwards.
        work.storage.delete(work.folder)
    return RefreshMetrics(
        day=context.day,
        night=base.day,
        model_version=scorer.version,
        new_events=changes.new_events,
        users=changes.users,
        new_users=new_users,
        advanced=sum(shard.advanced for shard in shards),
        reencoded=sum(shard.reencoded for shard in shards),
        rows=done.totals.rows,
        changed=done.changed,
        guards=dict(done.totals.guards),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the step; returns its exit status."""
    return run_step("refresh", __doc__ or "", body, arguments, turn=_turn)


if __name__ == "__main__":
    sys.exit(main())
