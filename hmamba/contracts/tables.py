"""What steps record of the tables that are published beside the candidates."""

from __future__ import annotations

from pydantic import Field

from hmamba.contracts.contents import HashedFile
from hmamba.contracts.document import Part


class WrittenTable(HashedFile):
    """One Parquet file of a table in a working folder. ``name`` is relative to the run's folder of tables.

    Attributes:
        rows: number of rows.
        made_with: digest of the settings that it was made with; empty for a table without settings.
    """

    rows: int
    made_with: str = ""


class VectorSpace(Part):
    """What the vectors of a model mean."""

    score: str = Field(description="The base score: squared, linear, paper, inner or euclidean.")
    K: float = Field(description="Minus the inverse of the curvature: <x,x>_L = -K for every point x.")
    scale: float = Field(description="The factor s of the base score.")
    dimensions: int = Field(description="Coordinates of a flat vector, two more than the model's dim.")
