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
IS_GONE: Final = "is_gone"

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

SIMILAR_ITEM_ID: Final = "similar_item_id"
SOURCE: Final = "source"
SEGMENT_COLUMN: Final = "segment_column"
SEGMENT: Final = "segment"
CATEGORY_LEVEL: Final = "category_level"
RANKING: Final = "ranking"
VECTOR: Final = "vector"

TABLES: Final[dict[str, dict[str, pa.DataType]]] = {
    "similar_items": {
        ITEM_ID: pa.string(),
        SOURCE: pa.string(),
        RANK: pa.int32(),
        SIMILAR_ITEM_ID: pa.string(),
        SCORE: pa.float32(),
    },
    "popular": {
        SEGMENT_COLUMN: pa.string(),
        SEGMENT: pa.string(),
        CATEGORY_LEVEL: pa.int32(),
        CATEGORY_PATH: pa.list_(pa.string()),
        RANKING: pa.string(),
        RANK: pa.int32(),
        ITEM_ID: pa.string(),
        SCORE: pa.float64(),
    },
    "segments": {ITEM_ID: pa.string(), RANK: pa.int32(), USER_ID: pa.string(), SCORE: pa.float32()},
    "user_vectors": {USER_ID: pa.string(), POINT: pa.list_(pa.float32()), VECTOR: pa.list_(pa.float32())},
    "item_vectors": {ITEM_ID: pa.string(), POINT: pa.list_(pa.float32()), VECTOR: pa.list_(pa.float32())},
}
"""Columns and types of the tables that are published beside the candidates, by name."""

BOUGHT_TOGETHER: Final = "bought_together"
SAME_TASTE: Final = "same_taste"
ALIKE: Final = "alike"
"""Sources of similar items."""

FALLBACK_VERSION: Final = "popularity"
"""model_version of users whose history holds no item of the model."""

BASELINE_VERSION: Final = "baseline-"
"""Prefix of model_version where a baseline serves, followed by its name."""

BASELINES: Final = {"popularity": "popularity", "most_bought": "what each user had most"}
"""Baselines and their descriptions. Of two equal ones the first is preferred."""

PADDING_INDEX: Final = 0
"""The item index that stands for no item. Real items start at 1."""
