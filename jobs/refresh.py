"""Refresh: new candidates for users with new events, by the model that serves, in the table that is out."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from hmamba.candidates.night import NightScorer
from hmamba.candidates.publish import Refreshed, publish_refresh
from hmamba.candidates.replace import Replaced, replace_users
from hmamba.columns import FALLBACK_VERSION, USER_ID
from hmamba.errors import InputError
from hmamba.files import alone, read_json
from hmamba.inference.device import device_of
from hmamba.inference.encode import encode_users
from hmamba.inference.user_states import CarriedStates, StateFiles
from hmamba.layout import RunLayout
from hmamba.models import files as model_files
from hmamba.progress import Progress
from hmamba.sequences.histories import shard_files, stream_histories
from hmamba.sequences.snapshot import MANIFEST, Changes, Meaning, write_changes
from hmamba.statements import statement
from hmamba.warehouse.connection import connect
from hmamba.warehouse.days import check_gap, newest_of
from jobs.score import BLOCK_EVENTS, BLOCK_USERS
from jobs.step import Facts, StepContext, run_step

log = logging.getLogger("hmamba")


def _night(context: StepContext) -> tuple[Mapping[str, Any], RunLayout]:
    """The manifest that is out, and the run that it goes back to.

    Raises:
        InputError: nothing is out, the day is before what is out, or the run is not what has been published.
    """
    layout = context.layout
    if not layout.latest.exists():
        raise _nothing_published(context)
    latest = read_json(layout.latest)
    reached = (latest.get("refresh") or latest)["day"]
    if context.day.isoformat() < reached:
        raise InputError(
            f"--day {context.day}: what is out holds events up to {reached}. Give that day or a later one."
        )
    night = layout.run(date.fromisoformat(latest["day"]), latest["run_id"])
    version = model_files.serving(night.verdict)
    if latest.get("snapshot") != read_json(night.sequences / MANIFEST)["digest"] or latest["model_version"] not in (
        version,
        FALLBACK_VERSION,
    ):
        raise InputError(
            f"{night.folder} is not what {layout.latest} has been published from: its night has been run again since, "
            f"or was run by an earlier version of this program. Run the night of {latest['day']} to its end."
        )
    return latest, night


def _changes(context: StepContext, night: RunLayout, scorer: NightScorer) -> Changes:
    """Write the histories of users with new events to the refresh's own folder."""
    path = context.layout.warehouse
    with connect(path, context.config.warehouse, read_only=True) as connection:
        if not context.options.any_day:
            check_gap(context.config, context.day, newest_of(connection))
        items = connection.execute(statement("sequences/vocabulary")).to_arrow_table()
        model_files.check_vocabulary(scorer.version, scorer.item_ids, model_files.vocabulary_of(items))
        held = read_json(night.sequences / MANIFEST)
        return write_changes(connection, context.run.refresh.sequences, context.day, held, Meaning.of(context.config))


@dataclass(frozen=True)
class _Shard:
    """A shard of the new table, and how many of its users' states have been gone on from."""

    replaced: Replaced
    advanced: int
    anew: int


class _Scorer:
    """Scores users as the night did: its model or baseline, index, popularity, k and exclude_seen."""

    def __init__(self, context: StepContext, night: RunLayout, told: Mapping[str, Any], scorer: NightScorer) -> None:
        self._work, self._night, self._told, self._scorer = context.run.refresh, night, told, scorer
        self._work.candidates.mkdir(parents=True, exist_ok=True)
        self._work.vectors.mkdir(parents=True, exist_ok=True)

    def shard(self, number: int, histories: Path) -> _Shard:
        """Write a shard's new part: the night's, but for the users with these histories."""
        work, night, stored = self._work, self._night, self._scorer.stored
        files = StateFiles(night.state_part(number), night.state_users(number))
        with ExitStack() as stack:
            carried = None
            if stored is not None:
                carried = stack.enter_context(CarriedStates.opened(files, stored.model, stored.identity))
            self._scorer.score(
                stream_histories(histories, events=BLOCK_EVENTS, users=BLOCK_USERS),
                k=self._told["k"],
                exclude_seen=self._told["exclude_seen"],
                candidates=work.candidate_part(number),
                vectors=work.user_points(number),
                encode=encode_users if carried is None else carried.encode,
            )
        touched = pq.read_table(work.user_points(number), columns=[USER_ID])[USER_ID].combine_chunks()
        # The night's own part, not what an earlier refresh made of it: that had fewer new events, or as many.
        part, target = night.candidate_part(number), work.refreshed_part(number)
        replaced = replace_users(part, touched, work.candidate_part(number), target)
        if carried is None:
            return _Shard(replaced, 0, len(touched))
        return _Shard(replaced, carried.advanced, carried.reencoded)


def body(context: StepContext) -> Facts:
    """Score users with events that the night had not seen, and publish the table with their candidates replaced.

    One refresh at a time: another one is waited for, since both would start from the same table.

    Raises:
        BusyError: another refresh is still at work, or a night was published during this one.
        InputError: no night has been published, or its working folder is not what it was.
        QualityError: the new table broke a rule; what was published before still is.
    """
    if not context.layout.latest.exists():
        raise _nothing_published(context)
    with alone(context.layout.candidates, ".refresh.lock", context.config.warehouse.wait_seconds):
        return _refresh(context)


def _nothing_published(context: StepContext) -> InputError:
    return InputError(f"{context.layout.latest} does not exist: nothing has been published. Run a night first.")


def _refresh(context: StepContext) -> Facts:
    told, night = _night(context)
    device = device_of(context.config.train.device)
    scorer = NightScorer.open(night, device, context.config.model.kernels)
    work = context.run.refresh
    try:
        changes = _changes(context, night, scorer)
        facts = {"night": told["day"], "model_version": scorer.version, "new_events": changes.new_events}
        if not changes.users:
            log.info("no user has new events since the night of %s; nothing to publish", told["day"])
            return {**facts, "users": 0, "new_users": 0, "advanced": 0, "anew": 0, "changed": False}
        shard_scorer = _Scorer(context, night, told, scorer)
        histories = shard_files(work.sequences)
        shards = []
        with Progress("refresh", changes.users, "users") as progress:
            for number, file in enumerate(histories):
                shards.append(shard_scorer.shard(number, file))
                progress.update(shards[-1].advanced + shards[-1].anew)
        new_users = sum(shard.replaced.new_users for shard in shards)
        refreshed = Refreshed(
            base=told,
            day=context.day,
            run_id=context.run_id,
            parts=tuple(work.refreshed_part(number) for number in range(len(shards))),
            changed=tuple(histories),
            users=changes.users,
            new_users=new_users,
            fallback_users=sum(shard.replaced.fallback_users for shard in shards),
        )
        done = publish_refresh(context.layout, context.config, refreshed)
    finally:
        # Only what is published is kept: it is a whole table.
        shutil.rmtree(work.folder, ignore_errors=True)
    return {
        **facts,
        "users": changes.users,
        "new_users": new_users,
        "advanced": sum(shard.advanced for shard in shards),
        "anew": sum(shard.anew for shard in shards),
        "rows": done.totals.rows,
        "changed": done.changed,
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the step; returns its exit status."""
    return run_step("refresh", __doc__ or "", body, arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
