"""One home for the names of columns. External ids are strings; dense indices are integers and never leave a run."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
ITEM_INDEX: Final = "item_index"
EVENT_TIME: Final = "event_time"
WEIGHT: Final = "weight"
IS_TARGET: Final = "is_target"
IS_SEEN: Final = "is_seen"
TITLE: Final = "title"
CATEGORY_PATH: Final = "category_path"
FIRST_SEEN: Final = "first_seen"
EVENTS: Final = "events"
RANK: Final = "rank"
SCORE: Final = "score"
MODEL_VERSION: Final = "model_version"

POINT: Final = "point"
"""Lorentz coordinates, the time coordinate first."""

CANDIDATES: Final = {
    USER_ID: pa.string(),
    RANK: pa.int32(),
    ITEM_ID: pa.string(),
    SCORE: pa.float32(),
    MODEL_VERSION: pa.string(),
}
"""Columns of the candidates, and their types: what readers are promised."""

FALLBACK_VERSION: Final = "popularity"
"""What model_version says of users whose history holds nothing that the model knows."""

BASELINE_VERSION: Final = "baseline-"
"""How model_version begins where no model serves, followed by the name of the baseline that does."""

BASELINES: Final = {"popularity": "popularity", "most_bought": "what each user had most"}
"""The baselines and what they are in words, the first one preferred where two are equal."""

PADDING_INDEX: Final = 0
"""The item index that stands for no item. Real items start at 1."""
