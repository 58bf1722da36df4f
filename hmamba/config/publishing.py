"""Settings of what a night publishes beside the candidates, and of its report."""

from __future__ import annotations

from pydantic import Field

from hmamba.config.section import Section


class ReportConfig(Section):
    """The report of a night."""

    examples: int = Field(
        1,
        ge=0,
        le=5,
        description="Users whose history and recommendations are shown, for each of three kinds: a long, a short and a "
        "new history. These are personal data; 0 shows nobody.",
    )
    drift_days: int = Field(
        7,
        ge=1,
        le=366,
        description="Days at the end of the night's events that are compared with as many days before them.",
    )
