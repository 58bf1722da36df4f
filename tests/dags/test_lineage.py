"""What other tools receive about a step, without a server of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hmamba.contracts.checks import Kind
from hmamba.quality.checks import check
from hmamba.quality.expectations import Figure
from hmamba.steps import NIGHT, REFRESH
from hmamba.storage.layout import Layout
from tests.dags import conftest
from tests.dags.test_steps import operator, rendered

DAY, RUN = "2024-02-29", "manual"


def validation(root: Path, kind: Kind, name: str, success: bool) -> None:
    """A check that has been made, as steps make it."""
    check(Layout.at(root).checks, kind, name, [Figure("rows", int(success), least=1)])


def test_every_step_has_its_data() -> None:
    from hmamba_lineage import DATA

    assert set(DATA) == {*NIGHT, *REFRESH, "deliver"}


def test_expectations_are_those_of_the_last_try(tmp_path: Path) -> None:
    from hmamba_lineage import expectations

    validation(tmp_path, "staged_batch", f"{DAY} {RUN}, batch 1", False)
    validation(tmp_path, "staged_batch", f"{DAY} {RUN}, batch 2", True)
    validation(tmp_path, "staged_batch", f"{DAY} other, batch 3", False)
    assert list(expectations(tmp_path, "ingest", DAY, RUN)) == [("expect_column_max_to_be_between", "rows", True)]
    assert list(expectations(tmp_path, "train", DAY, RUN)) == []
    assert list(expectations(tmp_path, "publish", DAY, RUN)) == []
    validation(tmp_path, "candidates", f"{DAY} {RUN} refreshed to 2024-03-01 by noon", False)
    assert list(expectations(tmp_path, "publish", DAY, RUN)) == []
    (found,) = expectations(tmp_path, "refresh", "2024-03-01", "noon")
    assert found == ("expect_column_max_to_be_between", "rows", False)


def test_damaged_records_are_passed_over(tmp_path: Path) -> None:
    from hmamba_lineage import expectations

    validation(tmp_path, "candidates", f"{DAY} {RUN}", True)
    place = Layout.at(tmp_path).checks
    for name, content in enumerate([b"{", b"\xff", b"[]", b'{"name": 1}']):
        place.record("candidates", f"9{name}").write_bytes(content)
    assert len(list(expectations(tmp_path, "publish", DAY, RUN))) == 1


def lineage_of(step: str, root: Path, metrics: dict[str, Any], *, failed: bool = False) -> Any:
    """As the OpenLineage provider asks an operator."""
    from airflow.providers.openlineage.extractors.base import DefaultExtractor

    task = operator(step)
    rendered(task, root=str(root))
    task._metrics = metrics
    extractor = DefaultExtractor(task)
    return extractor.extract_on_failure(None) if failed else extractor.extract_on_complete(None)


def test_a_pull_has_inputs_outputs_rows_and_expectations(tmp_path: Path) -> None:
    validation(tmp_path, "staged_batch", f"{DAY} {RUN}, batch 1", True)
    found = lineage_of("ingest", tmp_path, {"step": "ingest", "rows_read": 9, "rows_loaded": 7})
    (landing,), (warehouse,) = found.inputs, found.outputs
    assert (landing.namespace, landing.name) == ("file", str(tmp_path / "landing"))
    assert (warehouse.namespace, warehouse.name) == ("file", str(tmp_path / "warehouse.duckdb"))
    assert landing.inputFacets["inputStatistics"].rowCount == 9
    assert warehouse.outputFacets["outputStatistics"].rowCount == 7
    (assertion,) = landing.inputFacets["dataQualityAssertions"].assertions
    assert (assertion.assertion, assertion.column, assertion.success) == (
        "expect_column_max_to_be_between",
        "rows",
        True,
    )


def test_a_warning_is_no_broken_rule(tmp_path: Path) -> None:
    figures = [Figure("churn", 0.5, most=0.6, warn_most=0.4)]
    check(Layout.at(tmp_path).checks, "candidates", f"{DAY} {RUN}", figures)
    found = lineage_of("publish", tmp_path, {})
    assertions = found.inputs[0].inputFacets["dataQualityAssertions"].assertions
    assert [(one.column, one.success) for one in assertions] == [("churn", True)]


def test_a_table_that_broke_a_rule_says_which(tmp_path: Path) -> None:
    validation(tmp_path, "candidates", f"{DAY} {RUN}", False)
    found = lineage_of("publish", tmp_path, {}, failed=True)
    (assertion,) = found.inputs[0].inputFacets["dataQualityAssertions"].assertions
    assert assertion.success is False
    assert found.outputs[0].outputFacets == {}


def test_the_chain_of_a_night_is_connected(tmp_path: Path) -> None:
    """The outputs of each step are inputs of a later one."""
    metrics = {"version": "v1", "challenger": "v1", "rows": 3}
    found = {step: lineage_of(step, tmp_path, metrics) for step in NIGHT if step != "report"}
    read = {data.name for lineage in found.values() for data in lineage.inputs}
    written = {data.name for step, lineage in found.items() if step != "publish" for data in lineage.outputs}
    assert written <= read
    assert [data.name for data in found["publish"].outputs] == [str(tmp_path / "candidates" / f"run_date={DAY}")]


def test_a_night_without_a_new_model_names_none(tmp_path: Path) -> None:
    found = lineage_of("train", tmp_path, {"step": "train", "version": None})
    assert found.outputs == []


def test_numbers_are_gauges_with_names_that_statsd_takes() -> None:
    from hmamba_lineage import gauges

    metrics = {
        "step": "gate",
        "day": DAY,
        "seconds": 1.5,
        "promoted": True,
        "metrics": {"challenger": {"ndcg@10": 0.5}},
        "epochs": [1, 2],
        "warning": None,
    }
    assert dict(gauges(metrics)) == {
        "hmamba.gate.seconds": 1.5,
        "hmamba.gate.promoted": 1.0,
        "hmamba.gate.metrics.challenger.ndcg_at_10": 0.5,
    }


def test_gauges_reach_statsd(tmp_path: Path) -> None:
    """A real UDP socket in the place of a StatsD server."""
    import socket
    import subprocess
    import sys

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        settings = {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(server.getsockname()[1]),
        }
        program = (
            "from airflow.sdk.observability.metrics import stats_utils\n"
            "from airflow.sdk.observability import stats\n"
            "from hmamba_lineage import gauges\n"
            "stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)\n"
            "for name, value in gauges({'step': 'publish', 'rows': 40}):\n"
            "    stats.gauge(name, value, tags={'dag_id': 'night'})\n"
        )
        environment = conftest.environment(settings)
        subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True)
        received = iter(lambda: server.recv(1000), b"")
        assert next(line for line in received if b"hmamba" in line).startswith(b"airflow.hmamba.publish.rows:40")


@pytest.mark.parametrize("base", [None, "https://shop.example/pages/"])
def test_links_lead_to_pages(base: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    task = operator("publish")
    rendered(task, root="/srv/shop")
    if base is not None:
        monkeypatch.setenv("HMAMBA_PAGES", base)
    links = {link.name: link.get_link(task, ti_key=None) for link in task.operator_extra_links}
    start = "file:///srv/shop/" if base is None else base
    assert links == {
        "Report": f"{start}reports/{DAY}/index.html",
        "Data Docs": f"{start}gx/index.html",
    }
