"""The description of a saved recommender: ``recommender.json``."""

from __future__ import annotations

from typing import Any, ClassVar

from hmamba.contracts.document import Document


class SavedRecommender(Document):
    """Describes the folder that :meth:`hmamba.recommender.Recommender.save` writes.

    Attributes:
        model_version: version of the model.
        library: frame library of results.
        settings: settings that differ from the defaults.
        sha256: digest of each other file, by its path in the folder.
    """

    CURE: ClassVar[str] = "Save the recommender again, or fit it again."

    model_version: str
    library: str
    settings: dict[str, Any]
    sha256: dict[str, str]
