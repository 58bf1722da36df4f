"""Check the night's candidates and publish them atomically for the readers of candidates/latest.json."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict

from hmamba.candidates.publish import prune_runs, prune_states, publish
from hmamba.contracts.steps import PublishMetrics
from hmamba.contracts.verdict import Verdict
from jobs.step import StepContext, run_step

log = logging.getLogger("hmamba")


def body(context: StepContext) -> PublishMetrics:
    """Check and publish the candidates, and delete the working folders of old days.

    Raises:
        InputError: an earlier step has not run.
        QualityError: the candidates broke a rule; nothing was published.
    """
    config = context.config
    warning = Verdict.read(context.run.verdict, context.run.storage).warning
    done = publish(context.layout, context.day, context.run_id, config, warning)
    if warning:
        log.warning("publish: %s", warning)
    for folder in prune_runs(context.layout, context.day, config.runs.keep):
        log.info("deleted the working folder %s", folder)
    for folder in prune_states(context.layout):
        log.info("deleted the carried states %s of an older night", folder)
    return PublishMetrics(
        **asdict(done.totals),
        day=context.day,
        k=config.candidates.k,
        files=done.files,
        changed=done.changed,
        warning=warning,
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the step; returns its exit status."""
    return run_step("publish", __doc__ or "", body, arguments)


if __name__ == "__main__":
    sys.exit(main())
