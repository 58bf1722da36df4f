"""What every step records: its metrics, or its failure."""

from __future__ import annotations

from abc import abstractmethod
from datetime import date
from typing import ClassVar

from hmamba.contracts.document import Document


class StepMetrics(Document):
    """Metrics that every step records.

    Attributes:
        step: name of the step.
        day: the UTC day that was processed.
        seconds: wall time; set when the step ends.
        peak_bytes: peak resident memory; set when the step ends.
    """

    CURE: ClassVar[str] = "Run that step again."

    step: str
    day: date
    seconds: float = 0.0
    peak_bytes: int = 0

    @property
    @abstractmethod
    def in_a_line(self) -> str:
        """The metrics in one line, shared by the command line, the demo and the report."""


class StepFailure(Document):
    """The last failure of a step. The file is removed when the step succeeds.

    Attributes:
        step: name of the step.
        shard: the shard, for a step that is mapped over shards; None otherwise.
        message: the logged error message.
        exit_status: exit status of the process.
        seconds: wall time until the failure.
    """

    CURE: ClassVar[str] = "Run that step again."

    step: str
    shard: int | None
    message: str
    exit_status: int
    seconds: float
