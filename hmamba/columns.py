"""Column names. External ids are strings; dense indices are integers and valid within one run only."""

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
ATTRIBUTES: Final = "attributes"
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
"""Columns and types of the published candidates."""

BECAUSE: Final = "because"
BECAUSE_ITEM: Final = "because_item"
REASON: Final = {BECAUSE: pa.string(), BECAUSE_ITEM: pa.string()}
"""Optional columns of the candidates: the kind of evidence that contributed most, and the item of the history."""

EXPERIMENT: Final = "experiment"
GROUP: Final = {EXPERIMENT: pa.string()}
"""Optional column of the candidates: the group of the user in an experiment."""

TREATMENT: Final = "treatment"
CONTROL: Final = "control"
"""Values of the column experiment."""

FALLBACK_VERSION: Final = "popularity"
"""model_version of users whose history holds no item of the model."""

BASELINE_VERSION: Final = "baseline-"
"""Prefix of model_version where a baseline serves, followed by its name."""

BASELINES: Final = {"popularity": "popularity", "most_bought": "what each user had most"}
"""Baselines and their descriptions. Of two equal ones the first is preferred."""

PADDING_INDEX: Final = 0
"""The item index that stands for no item. Real items start at 1."""
