"""What Airflow and other tools show of a step: data sets for OpenLineage, gauges, links to its pages.

The provider for OpenLineage is optional: it calls the methods of the operator that lead here, and is imported by them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperatorLink

NAMESPACE = "file"
"""Namespace of local files in OpenLineage; a data set's name is its absolute path."""

DATA = {
    "ingest": (["landing"], ["warehouse.duckdb"]),
    "snapshot": (["warehouse.duckdb"], ["{run}/sequences"]),
    "train": (["{run}/sequences"], ["models/{version}"]),
    "gate": (["{run}/sequences", "models/{challenger}"], ["{run}/model"]),
    "index": (["{run}/model", "{run}/sequences"], ["{run}/index"]),
    "score": (["{run}/sequences", "{run}/model", "{run}/index"], ["{run}/candidates"]),
    "publish": (["{run}/candidates"], ["candidates/run_date={day}"]),
    "refresh": (["warehouse.duckdb", "candidates/run_date={night}"], ["candidates/run_date={night}"]),
    "report": (["{run}"], ["reports/{day}"]),
    "deliver": (["candidates/run_date={night}"], []),
}
"""Inputs and outputs of each step, relative to the root. Metrics of the step fill the braces; a data set without its
metric, such as the model of a night that trained none, is left out."""

ROWS_IN, ROWS_OUT = "rows_read", {"ingest": "rows_loaded", "snapshot": "events"}
"""Metrics that count rows. The output of other steps has ``rows`` rows."""

SUITES = {"ingest": "staged_batch", "publish": "candidates", "refresh": "candidates"}
"""The suite of Great Expectations that each step checks."""


def lineage(step: str, root: Path, day: str, run_folder: str, metrics: Mapping[str, Any]) -> Any:
    """Inputs, outputs, row counts and checked expectations of a step, for Airflow's OpenLineage provider.

    Args:
        step: name of the step.
        root: the root's folder.
        day: the day that it processed.
        run_folder: its run id.
        metrics: the metrics that it printed; empty if it failed.

    Returns:
        An ``OperatorLineage``.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset
    from openlineage.client.facet_v2 import (
        data_quality_assertions_dataset as quality,
    )
    from openlineage.client.facet_v2 import (
        input_statistics_input_dataset as statistics_in,
    )
    from openlineage.client.facet_v2 import (
        output_statistics_output_dataset as statistics_out,
    )

    words = {"run": f"runs/{day}/{run_folder}", "day": day, **{k: v for k, v in metrics.items() if v is not None}}
    inputs, outputs = ([_filled(name, words) for name in names] for names in DATA[step])
    facets_in: dict[str, Any] = {}
    facets_out: dict[str, Any] = {}
    if ROWS_IN in metrics:
        facets_in["inputStatistics"] = statistics_in.InputStatisticsInputDatasetFacet(rowCount=metrics[ROWS_IN])
    if (rows := metrics.get(ROWS_OUT.get(step, "rows"))) is not None:
        facets_out["outputStatistics"] = statistics_out.OutputStatisticsOutputDatasetFacet(rowCount=rows)
    assertions = [
        quality.Assertion(assertion=kind, success=success, column=column)
        for kind, column, success in expectations(root, step, day, run_folder)
    ]
    if assertions:
        facets_in["dataQualityAssertions"] = quality.DataQualityAssertionsDatasetFacet(assertions=assertions)
    return OperatorLineage(
        inputs=[InputDataset(NAMESPACE, str(root / name), inputFacets=facets_in) for name in inputs if name],
        outputs=[OutputDataset(NAMESPACE, str(root / name), outputFacets=facets_out) for name in outputs if name],
    )


def _filled(name: str, words: Mapping[str, Any]) -> str | None:
    try:
        return name.format_map(words)
    except KeyError:
        return None


def expectations(root: Path, step: str, day: str, run_folder: str) -> Iterator[tuple[str, str, bool]]:
    """The expectations that a step checked last: type, column and result; none if the step checks none."""
    run = re.escape(run_folder)
    names = rf".* refreshed to {day} by {run}" if step == "refresh" else rf"{day} {run}(, batch \d+)?"
    for path in sorted((root / "gx" / "checks" / SUITES.get(step, "none")).glob("*.json"), reverse=True):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if not re.fullmatch(names, record["name"]):
                continue
            results = [(one["expectation_config"], one["success"]) for one in record["great_expectations"]["results"]]
            found = [
                (config["type"], config["kwargs"]["column"], bool(success))
                for config, success in results
                if config.get("severity") != "warning"  # breaks no rule
            ]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged; the next check of this root deletes it
        yield from found
        return


def gauges(metrics: Mapping[str, Any], prefix: str = "hmamba") -> Iterator[tuple[str, float]]:
    """The numbers of a step's metrics, with names for StatsD and OpenTelemetry such as ``hmamba.publish.rows``.

    Numbers in nested objects have all keys in their name; lists, which are of any length, have no gauges.
    """
    step = metrics.get("step")
    prefix = f"{prefix}.{step}" if step else prefix
    for key, value in metrics.items():
        name = f"{prefix}.{re.sub('[^A-Za-z0-9_-]', '_', key.replace('@', '_at_'))}"
        if isinstance(value, Mapping):
            yield from gauges({k: v for k, v in value.items() if k != "step"}, name)
        elif isinstance(value, int | float):
            yield name, float(value)


class _Page(BaseOperatorLink):
    """A page under the root. A browser opens it if ``HMAMBA_PAGES`` is the URL at which the root is served."""

    path = ""

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The URL of the page; without ``HMAMBA_PAGES`` that of the file on the worker."""
        base = os.environ.get("HMAMBA_PAGES") or f"file://{operator.root.removeprefix('file://')}"
        return f"{base.rstrip('/')}/{self.path.format(day=operator.day)}"


class ReportLink(_Page):
    """The report of the day."""

    name = "Report"
    path = "reports/{day}/index.html"


class DataDocsLink(_Page):
    """The pages about all checks."""

    name = "Data Docs"
    path = "gx/index.html"
