"""Settings of what is kept on disk."""

from __future__ import annotations

from pydantic import Field

from hmamba.config.section import Section


class KeepConfig(Section):
    """Number of newest days of which files are kept. What serves is always kept."""

    runs: int = Field(7, ge=1, le=36_500, description="Days whose working folders, runs/DAY under the root, are kept.")
    models: int = Field(
        30, ge=1, le=36_500, description="Days whose model versions are kept. Versions of kept tables are kept as well."
    )
    tables: int = Field(90, ge=1, le=36_500, description="Days whose published tables are kept.")
    reports: int = Field(400, ge=1, le=36_500, description="Days whose reports are kept.")
    documents: int = Field(
        400,
        ge=1,
        le=36_500,
        description="Days whose verdicts and metrics are kept, for `hmamba history`; a few kB each.",
    )
    landing: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="Days whose files in the folder landing of the root are kept; older ones are deleted once all "
        "their rows have been pulled. If absent, none is deleted.",
    )
