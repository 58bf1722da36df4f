"""Score: encode one shard's users from their whole histories and retrieve their candidates."""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack

from hmamba.errors import InputError
from hmamba.evaluation.encode import Encode, encode_users
from hmamba.evaluation.states import StateFiles, write_states
from hmamba.retrieval.night import NightScorer
from hmamba.sequences.histories import shard_files, stream_histories
from hmamba.training.prepare import device_of
from jobs.step import Facts, StepContext, run_step

BLOCK_EVENTS, BLOCK_USERS = 1 << 19, 1 << 14
"""Of a shard, what is held at once, whatever its size."""


def body(context: StepContext) -> Facts:
    """Write the candidates of the users in ``--shard``.

    Raises:
        InputError: the snapshot has no such shard, or an earlier step has not run.
    """
    run, config = context.run, context.config
    shard, files = context.options.shard, shard_files(run.sequences)
    if not 0 <= shard < len(files):
        raise InputError(f"--shard {shard}: the snapshot has the shards 0 to {len(files) - 1}.")
    scorer = NightScorer.open(run, device_of(config.train.device), config.model.kernels)
    run.candidates.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        encode: Encode = encode_users
        if config.candidates.states and scorer.stored is not None and config.source.columns.position is None:
            kept = StateFiles(run.state_part(shard), run.state_users(shard))
            encode = stack.enter_context(write_states(kept, scorer.stored.model, scorer.version)).encode
        done = scorer.score(
            stream_histories(files[shard], events=BLOCK_EVENTS, users=BLOCK_USERS),
            k=config.candidates.k,
            exclude_seen=config.candidates.exclude_seen,
            candidates=run.candidate_part(shard),
            vectors=run.user_points(shard),
            encode=encode,
        )
    return {"shard": shard, "users": done.users, "fallback_users": done.fallback_users, "rows": done.rows}


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shard", required=True, type=int, help="which shard of the snapshot, from 0")


def main(arguments: list[str] | None = None) -> int:
    """Run the step; returns its exit status."""
    return run_step("score", __doc__ or "", body, _options, arguments)


if __name__ == "__main__":
    sys.exit(main())
