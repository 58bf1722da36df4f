"""Interface to Great Expectations: its project, its runs and its errors. No other module uses the library.

An expectation that raised an exception is not bad data: it is reported as a bug of this project or of the library.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hmamba.errors import InputError, QualityError
from hmamba.storage.locks import alone

if TYPE_CHECKING:
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult
    from great_expectations.data_context import AbstractDataContext

KEPT_RUNS = 60
"""Number of results of each suite that are kept in Data Docs."""

RULE = "rule"
"""Key of the rule's name in the meta of an expectation."""


@dataclass(frozen=True)
class Figure:
    """A figure of a whole batch with inclusive bounds; None for no bound."""

    name: str
    value: float
    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        limits = [
            f"at {word} {bound:g}" for word, bound in (("least", self.least), ("most", self.most)) if bound is not None
        ]
        return f"{self.name} is {self.value:.4g}, allowed {' and '.join(limits)}"


@contextmanager
def open_project(folder: Path) -> Iterator[AbstractDataContext]:
    """Open the Great Expectations project at ``folder``, whose name is ``gx``; it is created if missing.

    The folder is locked, since the library rewrites the project's files and an hourly pull may run while a night
    publishes.

    Raises:
        InputError: the project's files are damaged.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the library is imported, hence not at the top
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    with alone(folder):
        try:
            context = gx.get_context(mode="file", project_root_dir=folder.parent)
        except OSError:
            raise
        except Exception as error:
            raise InputError(
                f"{folder} cannot be opened as a Great Expectations project ({str(error).splitlines()[0]}). Delete it: "
                "it contains only the pages about earlier checks, and is created again."
            ) from error
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        if context.config.analytics_enabled is not False:
            context.enable_analytics(False)  # is saved with the project
        yield context


def _frames(context: AbstractDataContext, name: str) -> BatchDefinition[Any]:
    """Definition of a batch that is a whole data frame, which is passed when the checkpoint runs."""
    source = context.data_sources.add_or_update_pandas(name)
    return source.add_dataframe_asset("frame").add_batch_definition_whole_dataframe("whole")


def _rule(result: ExpectationValidationResult) -> str:
    """Name of the rule of a result.

    Raises:
        QualityError: the expectation could not be computed.
    """
    config = result.expectation_config
    assert config is not None  # Great Expectations fills it in whenever a suite ran
    rule = str((config.meta or {}).get(RULE, config.type))
    info = result.exception_info or {}
    nested = info.values() if info and "raised_exception" not in info else [info]
    for entry in nested:
        if entry.get("raised_exception"):
            raise QualityError(
                f"Rule {rule} could not be computed ({entry.get('exception_message')}). This says nothing about the "
                "data: report it as a bug, with the versions that `hmamba doctor` prints."
            )
    return rule


def broken_figures(project: AbstractDataContext, name: str, figures: Sequence[Figure], run_name: str) -> list[Figure]:
    """Check figures, one rule each, store the result and add a page to Data Docs.

    Args:
        project: from :func:`open_project`.
        name: name of the suite.
        figures: values and bounds.
        run_name: name of this run in Data Docs.

    Returns:
        The figures outside of their bounds.

    Raises:
        QualityError: a rule could not be computed.
    """
    import great_expectations as gx
    import pandas as pd
    from great_expectations import expectations as gxe

    expectations = [
        gxe.ExpectColumnMaxToBeBetween(
            column=figure.name, min_value=figure.least, max_value=figure.most, meta={RULE: figure.name}
        )
        for figure in figures
    ]
    suite = project.suites.add_or_update(gx.ExpectationSuite(name=name, expectations=expectations))
    validation = project.validation_definitions.add_or_update(
        gx.ValidationDefinition(name=name, data=_frames(project, name), suite=suite)
    )
    checkpoint = project.checkpoints.add_or_update(
        gx.Checkpoint(
            name=name,
            validation_definitions=[validation],
            actions=[gx.checkpoint.UpdateDataDocsAction(name="data_docs")],
            result_format="SUMMARY",
        )
    )
    frame = pd.DataFrame([{figure.name: float(figure.value) for figure in figures}])
    outcome = checkpoint.run(batch_parameters={"dataframe": frame}, run_id=gx.RunIdentifier(run_name=run_name))
    _prune(Path(str(project.root_directory)), name)
    results = [result for run in outcome.run_results.values() for result in run.results]
    failed = {_rule(result) for result in results if not result.success}
    return [figure for figure in figures if figure.name in failed]


def data_docs(folder: Path) -> Path:
    """First page of the Data Docs of the project at ``folder``."""
    return folder / "uncommitted" / "data_docs" / "local_site" / "index.html"


def _prune(folder: Path, suite: str) -> None:
    """Delete old results of a suite, so that hourly pulls do not fill the disk."""
    results = folder / "uncommitted" / "validations" / suite
    runs = sorted(results.iterdir(), key=lambda run: run.stat().st_mtime, reverse=True)
    for run in runs[KEPT_RUNS:]:
        shutil.rmtree(run)
        shutil.rmtree(data_docs(folder).parent / "validations" / suite / run.name, ignore_errors=True)
