"""The optional task that delivers what was published, shared by the DAGs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hmamba_steps import StepOperator
from hmamba_targets import addresses, targets


class DeliverOperator(StepOperator):
    """Runs the delivery to targets, with the addresses of their connections in the environment.

    Args:
        connections: the connection of each target, "" without one.
    """

    def __init__(self, *, connections: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(step="deliver", **kwargs)
        self.connections = dict(connections)

    def command(self, params: Mapping[str, Any]) -> list[str]:
        """The command line: that of a step, with the targets."""
        return [*super().command(params), *(word for name in self.connections for word in ("--to", name))]

    def environment(self) -> dict[str, str]:
        """The addresses of the targets; not in the command, which is logged."""
        return addresses(self.connections)


def delivery(**kwargs: Any) -> list[DeliverOperator]:
    """The task that delivers what was published, in a list; an empty list without ``HMAMBA_DELIVER``.

    Args:
        kwargs: arguments of the operator.
    """
    connections = targets()
    if not connections:
        return []
    return [
        DeliverOperator(
            task_id="deliver",
            connections=connections,
            doc_md="Delivers the newest table to the targets that `HMAMBA_DELIVER` names. Readers of a target find the "
            "table before or the new one. If it fails, the published table stays, and the next delivery catches up.",
            **kwargs,
        )
    ]
