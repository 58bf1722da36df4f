"""Score: encode the users of some shards from their whole histories and retrieve their candidates."""

from __future__ import annotations

import argparse
import re
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

from hmamba.candidates.baseline import Baseline
from hmamba.candidates.experiment import experiment_of
from hmamba.candidates.night import NightScorer
from hmamba.contracts.contents import HashedFile
from hmamba.contracts.scored import ScoreMetrics, ShardMetrics
from hmamba.contracts.verdict import Verdict
from hmamba.errors import InputError
from hmamba.inference.device import device_of
from hmamba.inference.encode import Encode, encode_users
from hmamba.inference.user_states import StateFiles, write_states
from hmamba.sequences.files import Snapshot
from hmamba.sequences.histories import midnight, stream_histories
from hmamba.sequences.without_events import with_users
from hmamba.tables.of_users import ShardTables
from jobs.step import StepContext, run_step

BLOCK_EVENTS, BLOCK_USERS = 1 << 19, 1 << 14
"""Most events and users of a shard that are in memory at once."""


def asked(context: StepContext) -> int | None:
    """The start of the day after ``--day``, microseconds, for which items are recommended; None without times."""
    columns = context.config.source.columns
    return None if columns.by_position else midnight(context.day + timedelta(days=1))


def _score(context: StepContext, scorer: NightScorer, files: Snapshot, shard: int) -> ShardMetrics:
    """Write the candidates of one shard's users."""
    run, candidates, stored = context.run, context.config.candidates, scorer.stored
    experiment = experiment_of(context.config, Verdict.read(run.verdict, run.storage))
    # The record of an earlier attempt must not describe the files of this one.
    run.storage.delete(run.step_metrics(context.step, shard))
    with ExitStack() as stack:
        encode: Encode = encode_users

        def write(place: Path) -> Path:
            return stack.enter_context(run.storage.write_file(place))

        # Where positions order the events, a late event shifts those after it, and a state cannot be resumed.
        if candidates.states and stored is not None and not context.config.source.columns.by_position:
            # The file of user ids is committed last: without it the states are not used.
            users, states = (write(path) for path in (run.state_users(shard), run.state_part(shard)))
            kept = StateFiles(states, users)
            encode = stack.enter_context(write_states(kept, stored.model, stored.identity)).encode
        part, points = write(run.candidate_part(shard)), write(run.user_points(shard))
        system = None if isinstance(scorer.system, Baseline) else scorer.system
        blocks = stream_histories(files.shard(shard), events=BLOCK_EVENTS, users=BLOCK_USERS, asked=asked(context))
        with ShardTables(files, shard, context.config, system, write, scorer.rules) as tables:
            done = scorer.score(
                with_users(blocks, files.users_without_events(shard), BLOCK_USERS),
                k=candidates.k,
                exclude_seen=candidates.exclude_seen,
                candidates=part,
                vectors=points,
                encode=tables.encode(encode),
                because=candidates.because,
                experiment=experiment,
                shard=shard,
            )
        return ShardMetrics(
            day=context.day,
            shard=shard,
            snapshot=files.digest,
            served=scorer.served,
            part=HashedFile.of(part, run.candidate_part(shard).name),
            points=HashedFile.of(points, run.user_points(shard).name),
            tables=tables.written,
            experiment=experiment,
            rules=files.manifest.rules_digest,
            **asdict(done),
        )


def body(context: StepContext) -> ShardMetrics | ScoreMetrics:
    """Write the candidates of the users in ``--shard`` or ``--shards``; metrics are stored per shard.

    Raises:
        BusyError: another try of a shard did not end within ``warehouse.wait_seconds``.
        InputError: the snapshot has no such shard, or an earlier step has not run.
    """
    shards, files = _shards(context.options), Snapshot.open(context.run)
    number = files.manifest.shards
    wrong = [shard for shard in shards if not 0 <= shard < number]
    if wrong:
        given = f"--shard {wrong[0]}" if len(shards) == 1 else f"--shards {shards[0]}-{shards[-1]}"
        raise InputError(f"{given}: the snapshot has the shards 0 to {number - 1}.")
    started = time.monotonic()
    scorer = NightScorer.open(files, device_of(context.config.train.device), context.config.model.kernels)
    kept = []
    for shard in shards:
        # All shards share the run's lock, but another try of this one waits.
        wait = context.config.warehouse.wait_seconds
        with context.run.storage.lock(context.run.folder, f".score-{shard:04d}.lock", wait):
            kept.append(context.record(_score(context, scorer, files, shard), started, shard))
        started = time.monotonic()
    return kept[0] if len(kept) == 1 else ScoreMetrics.of(kept)


def _shards(options: argparse.Namespace) -> range:
    return options.shards if options.shard is None else range(options.shard, options.shard + 1)


def _range(text: str) -> range:
    found = re.fullmatch(r"(\d+)-(\d+)", text)
    if found is None or int(found[1]) > int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of shards such as 0-9")
    return range(int(found[1]), int(found[2]) + 1)


def _options(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--shard", type=int, help="which shard of the snapshot, from 0")
    which.add_argument("--shards", type=_range, metavar="FIRST-LAST", help="several shards, the last one included")


def main(arguments: list[str] | None = None) -> int:
    """Run the step; returns its exit status."""
    return run_step("score", __doc__ or "", body, arguments, _options, shared=True, parts=_shards)


if __name__ == "__main__":
    sys.exit(main())
