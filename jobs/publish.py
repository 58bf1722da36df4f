"""Check the night's candidates and publish them atomically for the readers of candidates/latest.json."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict

from hmamba.candidates.publish import publish
from hmamba.contracts.published import PublishMetrics
from hmamba.contracts.verdict import Verdict
from hmamba.errors import HMambaError, explained
from hmamba.upkeep.prune import prune
from hmamba.upkeep.sizes import shown
from jobs.step import StepContext, run_step

log = logging.getLogger("hmamba")


def _prune(context: StepContext) -> None:
    """Delete what is older than ``[keep]``; the night has published, so that an error here is only a warning."""
    try:
        done = prune(context.layout, context.config, context.day)
    except (HMambaError, OSError) as error:
        log.warning("publish: nothing more is pruned: %s", explained(error) or error)
        return
    for note in done.notes:
        log.warning("publish: %s", note)
    for one in done.doomed:
        log.info("deleted %s (%s, %s)", one.path, one.kind, shown(one.bytes))


def body(context: StepContext) -> PublishMetrics:
    """Check and publish the candidates, and delete what is older than the days in ``[keep]``.

    Raises:
        InputError: an earlier step has not run.
        QualityError: the candidates broke a rule; nothing was published.
    """
    config = context.config
    warning = Verdict.read(context.run.verdict, context.run.storage).warning
    done = publish(context.layout, context.day, context.run_id, config, warning)
    if warning:
        log.warning("publish: %s", warning)
    _prune(context)
    return PublishMetrics(
        **asdict(done.totals),
        day=context.day,
        k=config.candidates.k,
        files=done.files,
        changed=done.changed,
        tables=done.tables,
        warning=warning,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the step; returns its exit status."""
    return run_step("publish", __doc__ or "", body, arguments)


if __name__ == "__main__":
    sys.exit(main())
