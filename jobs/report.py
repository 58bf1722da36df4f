"""Write the night's report as one HTML page."""

from __future__ import annotations

import sys

from hmamba.contracts.steps import ReportMetrics
from hmamba.report.render import write_report
from jobs.step import StepContext, run_step


def body(context: StepContext) -> ReportMetrics:
    """Render the run's page to ``reports/<day>/index.html``, and the page of all nights."""
    path = write_report(context.layout, context.day, context.run_id, context.config.report)
    place = path.relative_to(context.layout.root).as_posix()
    return ReportMetrics(day=context.day, path=place, bytes=path.stat().st_size)


def main(arguments: list[str] | None = None) -> int:
    """Run the step; see ``--help``."""
    return run_step("report", "Write the night's report as one self-contained HTML page.", body, arguments)


if __name__ == "__main__":
    sys.exit(main())
