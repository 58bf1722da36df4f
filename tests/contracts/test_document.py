"""Documents are checked where they are read: each fault is one sentence that names the file and what to do."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from hmamba.contracts.backtest import BacktestInputs, BacktestNight
from hmamba.contracts.document import Document
from hmamba.contracts.manifest import Manifest, SnapshotFile, SnapshotManifest
from hmamba.contracts.models import IndexDescription, ModelMetrics, Promotions
from hmamba.contracts.published import RefreshMetrics
from hmamba.contracts.step import StepFailure
from hmamba.contracts.steps import KEPT_METRICS, ReportMetrics
from hmamba.contracts.verdict import Verdict
from hmamba.errors import InputError
from tests.documents import manifest, verdict
from tests.report import metrics_of_night as night

DAY = date(2024, 1, 30)
SNAPSHOT = SnapshotManifest(
    day=DAY,
    end=datetime(2024, 1, 31),
    by_position=False,
    shards=1,
    users=1,
    events=1,
    items=1,
    newest_event=datetime(2024, 1, 30, 12),
    batch=1,
    files=(SnapshotFile(name="shard-0000.parquet", rows=1, bytes=2, sha256="01"),),
    digest="0123",
)
DOCUMENTS: list[Document] = [
    manifest(refresh={"day": "2024-01-31", "run_id": "noon", "users": 2, "new_users": 1}),
    night.verdict(),
    SNAPSHOT,
    ModelMetrics(training=night.TRAINED, gate=night.verdict()),
    Promotions.model_validate(
        {
            "version": "v1",
            "history": [{"version": "v1", "day": "2024-01-30", "promoted_at": "2024-01-31T02:00:00.5+00:00"}],
        }
    ),
    IndexDescription(model_version="v1-01", kind="flat", sha256={"items.faiss": "01"}),
    StepFailure(step="score", shard=1, message="no space is left", exit_status=1, seconds=2.5),
    night.ingest_metrics(),
    night.train_metrics(),
    night.gate_metrics(night.verdict(), refit=night.EPOCHS[0]),
    night.index_metrics(60, 10),
    RefreshMetrics(day=DAY, night=DAY, model_version="v1", new_events=0),
    ReportMetrics(day=DAY, path="reports/2024-01-30/index.html", bytes=10),
    BacktestInputs(settings="01", events="02"),
    BacktestNight.model_validate(
        {
            "day": "2024-01-30",
            "user_ids": ["u"],
            "queries": 1,
            "serving": {"full retrain": None},
            "measured": {"popularity": {"means": {"ndcg@10": 0.1}, "deciding": [0.1]}},
        }
    ),
]

every_kind = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: type(document).__name__)


def fault_of(kind: type[Document], path: Path) -> str:
    """The sentence about a file that cannot be read."""
    with pytest.raises(InputError) as error:
        kind.read(path)
    return str(error.value)


@every_kind
def test_what_is_written_is_read_again(document: Document, tmp_path: Path) -> None:
    document.write(tmp_path / "a.json")
    assert type(document).read(tmp_path / "a.json") == document


@every_kind
@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\ud800", "{}"])
def test_a_damaged_file_is_named_in_one_sentence(document: Document, content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    told = fault_of(type(document), path)
    assert told.startswith(f"{path} ")
    assert "\n" not in told
    assert told.endswith((type(document).CURE, "Restore it, or run the step that writes it again."))


@every_kind
def test_a_missing_key_is_named(document: Document, tmp_path: Path) -> None:
    values = document.model_dump(mode="json")
    key = next(name for name, field in type(document).model_fields.items() if field.is_required())
    del values[key]
    (tmp_path / "a.json").write_text(json.dumps(values), encoding="utf-8")
    assert fault_of(type(document), tmp_path / "a.json").startswith(f"{tmp_path}/a.json is damaged: {key} is missing. ")


@every_kind
def test_another_schema_version_is_not_read(document: Document, tmp_path: Path) -> None:
    values = document.model_dump(mode="json")
    (tmp_path / "a.json").write_text(json.dumps({**values, "schema_version": 2}), encoding="utf-8")
    told = fault_of(type(document), tmp_path / "a.json")
    assert "this one reads schema_version 1, and the file has schema_version 2" in told
    assert told.endswith(type(document).CURE)
    del values["schema_version"]
    (tmp_path / "a.json").write_text(json.dumps(values), encoding="utf-8")
    assert "the file has none" in fault_of(type(document), tmp_path / "a.json")


@every_kind
def test_a_changed_file_is_refused_until_its_checksum_is_removed(document: Document, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    document.write(path)
    values = json.loads(path.read_text(encoding="utf-8"))
    changed = values | {"added_later": 1}
    path.write_text(json.dumps(changed), encoding="utf-8")
    told = fault_of(type(document), path)
    assert "has been changed since it was written" in told
    assert type(document).CURE in told
    del changed["checksum"]
    path.write_text(json.dumps(changed), encoding="utf-8")
    assert type(document).read(path) == document


@every_kind
def test_an_unknown_key_is_ignored(document: Document, tmp_path: Path) -> None:
    values = document.model_dump(mode="json") | {"added_later": {"a": 1}}
    (tmp_path / "a.json").write_text(json.dumps(values), encoding="utf-8")
    assert type(document).read(tmp_path / "a.json") == document


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": "many"}, "rows = 'many': "),
        ({"day": "2024-02-30"}, "day = '2024-02-30': "),
        ({"created_at": "2024-01-31T02:00:00"}, "created_at = '2024-01-31T02:00:00': "),
        ({"files": [{"path": "a", "rows": -1, "bytes": 0, "sha256": ""}]}, "files.0.rows = -1: "),
    ],
)
def test_a_wrong_value_is_shown_with_its_key(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(manifest().model_dump(mode="json") | changes), encoding="utf-8")
    assert f"a.json is damaged: {told}" in fault_of(Manifest, tmp_path / "a.json")


def test_a_file_that_is_not_there_says_what_to_run(tmp_path: Path) -> None:
    assert Verdict.read_if_exists(tmp_path / "verdict.json") is None
    assert f"does not exist. {Verdict.CURE}" in fault_of(Verdict, tmp_path / "verdict.json")


def test_a_document_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        verdict().promoted = True


def test_every_step_has_metrics_of_its_own() -> None:
    assert {name: kind.model_fields["step"].default for name, kind in KEPT_METRICS.items()} == {
        name: name for name in KEPT_METRICS
    }
