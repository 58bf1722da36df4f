"""The description of an index folder: ``index.json``."""

from __future__ import annotations

from typing import ClassVar

from hmamba.contracts.document import Document


class IndexDescription(Document):
    """Describes the index in the same folder.

    Attributes:
        model_version: identity of the weights whose item vectors are indexed.
        kind: name of the search in :mod:`hmamba.index.registry`.
        sha256: digest of each other file in the folder, by its name.
    """

    CURE: ClassVar[str] = "Run the index step again (python -m jobs.index)."

    model_version: str
    kind: str
    sha256: dict[str, str]
