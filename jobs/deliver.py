"""Deliver the newest published table to the targets in [deliver]: databases, key-value stores, folders of files."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict

from hmamba.contracts.published import DeliverMetrics, Delivery
from hmamba.delivery.deliver import deliver
from jobs.step import StepContext, run_step


def body(context: StepContext) -> DeliverMetrics:
    """Deliver the table that ``candidates/latest.json`` names, of whichever day.

    Raises:
        BusyError: a target failed, and a retry may succeed.
        ConfigError: no target is configured, or a setting of one is wrong.
        InputError: nothing is published, or a target failed and a retry fails again.
    """
    done = deliver(context.layout, context.config, context.options.to or ())
    return DeliverMetrics(day=context.day, night=done[0].day, deliveries=tuple(Delivery(**asdict(one)) for one in done))


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", action="append", help="a target, once or more (default: all)")


def main(arguments: list[str] | None = None) -> int:
    """Run the step; returns its exit status."""
    return run_step("deliver", __doc__ or "", body, arguments, _options, locks=False)


if __name__ == "__main__":
    sys.exit(main())
