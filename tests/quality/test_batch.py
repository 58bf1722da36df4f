"""Every rule of the staged batch has a row, or a batch, that breaks it, and neighbours that do not."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest

from hmamba.config import Config, QualityConfig
from hmamba.errors import QualityError
from hmamba.quality import batch
from hmamba.quality.batch import BatchFigures, check_batch, check_rows
from hmamba.quality.row_rules import EVENT_RULES
from hmamba.statements import statement
from hmamba.storage.checks_layout import ChecksLayout
from hmamba.storage.layout import Layout

LATEST = datetime(2024, 1, 31, 6)
CONFIG = Config.model_validate(
    {
        "source": {"columns": {"event_type": "kind"}},
        "events": {"buy": {}, "view": {"target": False}},
        "quality": {
            "min_time": datetime(2001, 1, 1, tzinfo=UTC),
            "max_id_length": 5,
            "min_weight": -2,
            "max_weight": 9,
        },
    }
)
GOOD: dict[str, Any] = {
    "malformed": None,
    "user_id": "u",
    "item_id": "i",
    "event_time": datetime(2024, 1, 2),
    "event_type": "buy",
    "weight": 1.0,
    "is_return": False,
    "user_unreadable": False,
    "item_unreadable": False,
}
ROWS: list[tuple[dict[str, Any], set[str]]] = [
    ({}, set()),
    ({"user_id": "12345", "item_id": "äöü☃🛒"}, set()),
    ({"event_time": datetime(2001, 1, 1)}, set()),
    ({"event_time": datetime(2024, 1, 31, 5, 59, 59, 999999)}, set()),
    ({"event_type": "view"}, set()),
    ({"event_type": "Buy"}, {"event_type_known"}),
    ({"event_type": None}, {"event_type_known"}),
    ({"user_id": None, "user_unreadable": True}, {"user_id_readable"}),
    ({"item_id": None, "item_unreadable": True}, {"item_id_readable"}),
    ({"weight": -2.0}, set()),
    ({"weight": 0.0}, set()),
    ({"weight": 9.0}, set()),
    ({"malformed": "a,b,c"}, {"record_readable"}),
    ({"user_id": None}, {"user_id_present"}),
    ({"item_id": None}, {"item_id_present"}),
    ({"user_id": "123456"}, {"user_id_length"}),
    ({"item_id": "x" * 10_000}, {"item_id_length"}),
    ({"event_time": None}, {"event_time_readable"}),
    ({"event_time": datetime(2000, 12, 31, 23, 59, 59, 999999)}, {"event_time_not_before"}),
    ({"event_time": datetime(1, 1, 1)}, {"event_time_not_before"}),
    ({"event_time": datetime(2024, 1, 31, 6)}, {"event_time_not_after"}),
    ({"event_time": datetime(9999, 12, 31)}, {"event_time_not_after"}),
    ({"weight": None}, {"weight_is_number"}),
    ({"weight": float("nan")}, {"weight_is_number"}),
    ({"weight": float("inf")}, {"weight_in_bounds"}),
    ({"weight": float("-inf")}, {"weight_in_bounds"}),
    ({"weight": -2.01}, {"weight_in_bounds"}),
    ({"weight": 9.01}, {"weight_in_bounds"}),
    (
        {"user_id": None, "event_time": None, "weight": -3},
        {"user_id_present", "event_time_readable", "weight_in_bounds"},
    ),
]


def check(rows: list[dict[str, Any]], config: Config = CONFIG) -> list[set[str]]:
    """Rules that each row breaks."""
    found: list[set[str]] = [set() for _ in rows]
    with duckdb.connect() as connection:
        for name in ("ingest/create_staged", "ingest/create_broken"):
            connection.execute(statement(name))
        values = [[position, 0, position, *({**GOOD, **row}.values())] for position, row in enumerate(rows)]
        connection.executemany(f"INSERT INTO staged VALUES ({', '.join('?' * len(values[0]))})", values)
        check_rows(connection, config, LATEST, len(rows))
        for position, rule in connection.execute("SELECT position, rule FROM broken").fetchall():
            assert rule not in found[position]
            found[position].add(rule)
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> ChecksLayout:
    return Layout.at(tmp_path_factory.mktemp("root")).checks


@pytest.mark.parametrize("slice_rows", [7, 1000])
def test_row_rules(monkeypatch: pytest.MonkeyPatch, slice_rows: int) -> None:
    monkeypatch.setattr(batch, "ROWS_PER_SLICE", slice_rows)
    rows = [row for row, _ in ROWS]
    assert list(zip(rows, check(rows), strict=True)) == ROWS


def test_every_row_rule_is_broken_by_some_row() -> None:
    assert set().union(*(rules for _, rules in ROWS)) | {"position_readable"} == {rule.name for rule in EVENT_RULES}


def test_positions_have_no_bounds_of_time() -> None:
    config = Config.model_validate({"source": {"columns": {"position": "step"}}})
    rows = [{"event_time": time} for time in (datetime(1970, 1, 1), datetime(2500, 1, 1), None)]
    assert check(rows, config) == [set(), set(), {"position_readable"}]


def test_without_event_types_any_is_known() -> None:
    assert check([{"event_type": ""}], Config()) == [set()]


def test_rows_in_which_nothing_is_right() -> None:
    nothing = {"user_id": None, "item_id": None, "event_time": None, "weight": None}
    rules = {"user_id_present", "item_id_present", "event_time_readable", "weight_is_number"}
    assert check([nothing, nothing]) == [rules, rules]


FINE = BatchFigures(100, 0.05, 0, 0.5, 1.0, 2.0, {"user_id_length": 5})
LIMITS = QualityConfig(
    max_quarantined_share=0.05,
    max_duplicate_share=0.5,
    min_volume_ratio=0.2,
    max_volume_ratio=3,
    max_staleness_days=2,
)


def changed(**changes: Any) -> BatchFigures:
    return BatchFigures(**{**vars(FINE), **changes})


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        (changed(quarantined_share=0.06), "quarantined_share is 0.06, allowed at most 0.05"),
        (changed(whole_files=1), "files_refused_whole is 1, allowed at most 0"),
        (changed(duplicate_share=0.51), "duplicate_share is 0.51, allowed at most 0.5"),
        (
            changed(volume_ratio=0.1, usual_rows=1000.0),
            "100 rows against a median of 1000, allowed ratio 0.2 (volume_ratio is 0.1, allowed at least 0.2 and at "
            "most 3; quality.min_volume_ratio)",
        ),
        (changed(volume_ratio=3.5), "volume_ratio is 3.5, allowed at least 0.2 and at most 3"),
        (
            changed(staleness_days=2.5),
            "the newest event is 2.5 days old, allowed 2 (staleness_days, quality.max_staleness_days)",
        ),
    ],
)
def test_batch_rules(place: ChecksLayout, figures: BatchFigures, told: str) -> None:
    with pytest.raises(QualityError) as caught:
        check_batch(place, LIMITS, figures, "a night", "Look there. ")
    message = str(caught.value)
    assert message.startswith(f"The batch of 100 rows broke its rules and nothing has been loaded: {told}. Look there.")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("figures", "cure"),
    [
        (changed(quarantined_share=0.06), "Correct the files, or change quality.max_quarantined_share."),
        (changed(quarantined_share=0.06, whole_files=1), "move these files out of the source."),
        (changed(volume_ratio=3.5), "or change quality.max_volume_ratio."),
        (
            changed(duplicate_share=0.6, staleness_days=3.0),
            "or change quality.max_duplicate_share and quality.max_staleness_days.",
        ),
        (changed(rows=0, volume_ratio=0.0), "source still delivers, or change quality.min_volume_ratio."),
    ],
)
def test_a_broken_batch_names_the_settings_that_let_it_pass(
    place: ChecksLayout, figures: BatchFigures, cure: str
) -> None:
    with pytest.raises(QualityError) as caught:
        check_batch(place, LIMITS, figures, "a night", "")
    assert f"{cure} Details: {place.of_kind('staged_batch')}/" in str(caught.value)
    assert all(name in QualityConfig.model_fields for name in re.findall(r"quality\.(\w+)", str(caught.value)))


def test_good_batches_pass_and_leave_a_page(place: ChecksLayout) -> None:
    check_batch(place, LIMITS, FINE, "a good night", "")
    check_batch(place, LIMITS, changed(volume_ratio=None, staleness_days=None), "the first night", "")
    check_batch(place, LIMITS, changed(broken={"weight_in_bounds": 6}), "a rule has no bound of its own", "")
    assert "a good night" in place.index.read_text(encoding="utf-8")
