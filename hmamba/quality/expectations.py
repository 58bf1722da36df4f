"""Interface to Great Expectations: figures, one expectation each. No other module uses the library.

The library runs without a project on disk: its results are returned, and recorded by :mod:`hmamba.quality.checks`. An
expectation that raised an exception is not bad data: it is reported as a bug of this project or of the library.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hmamba.contracts.checks import Kind, Unit
from hmamba.errors import QualityError

if TYPE_CHECKING:
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult

RULE = "rule"
"""Key of the rule's name in the meta of an expectation."""


@dataclass(frozen=True)
class Figure:
    """A figure of a whole batch or table, with inclusive bounds.

    Attributes:
        name: name of its rule.
        value: the figure.
        least, most: bounds; None for no bound.
        meaning: what the figure is, in words.
        unit: unit of the figure and its bounds.
        least_setting, most_setting: the settings that give the bounds; None if they are fixed.
        warn_least, warn_most: bounds beyond which there is a warning; None for no bound.
        warn_setting: the setting that gives the bound of the warning.
    """

    name: str
    value: float
    least: float | None = None
    most: float | None = None
    meaning: str = ""
    unit: Unit = "count"
    least_setting: str | None = None
    most_setting: str | None = None
    warn_least: float | None = None
    warn_most: float | None = None
    warn_setting: str | None = None

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings that give the bounds."""
        given = (self.least_setting, self.most_setting, self.warn_setting)
        return tuple(setting for setting in given if setting is not None)

    @property
    def broken_setting(self) -> str | None:
        """The setting that gives the bound which a broken figure breaks."""
        return self.least_setting if self.least is not None and self.value < self.least else self.most_setting

    def __str__(self) -> str:
        limits = [
            f"at {word} {bound:g}" for word, bound in (("least", self.least), ("most", self.most)) if bound is not None
        ]
        return f"{self.name} is {self.value:.4g}, allowed {' and '.join(limits)}"


@dataclass(frozen=True)
class Validation:
    """The result of Great Expectations, as that library writes it.

    Attributes:
        result: the result.
        failed: names of the rules whose figure is outside of its bounds.
        warned: names of those whose figure is outside of the bounds of its warning.
    """

    result: dict[str, Any]
    failed: frozenset[str]
    warned: frozenset[str] = frozenset()


def _batch_definition(name: str) -> BatchDefinition[Any]:
    """Definition of a batch that is a whole data frame, in a context that writes no files and sends nothing."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when the library is imported, hence not at the top
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=ProgressBarsConfig(globally=False),
        analytics_enabled=False,
    )
    context = gx.get_context(mode="ephemeral", project_config=config)
    asset = context.data_sources.add_pandas(name).add_dataframe_asset("frame")
    return asset.add_batch_definition_whole_dataframe("whole")


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


def validated(kind: Kind, figures: Sequence[Figure]) -> Validation:
    """Check figures, one rule each.

    Raises:
        QualityError: a rule could not be computed.
    """
    definition = _batch_definition(kind)
    import great_expectations as gx
    import pandas as pd
    from great_expectations import expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    def expected(name: str, least: float | None, most: float | None, severity: FailureSeverity) -> gxe.Expectation:
        return gxe.ExpectColumnMaxToBeBetween(
            column=name, min_value=least, max_value=most, severity=severity, meta={RULE: name}
        )

    stops, warns = FailureSeverity.CRITICAL, FailureSeverity.WARNING
    expectations = [expected(figure.name, figure.least, figure.most, stops) for figure in figures]
    expectations += [
        expected(figure.name, figure.warn_least, figure.warn_most, warns)
        for figure in figures
        if figure.warn_least is not None or figure.warn_most is not None
    ]
    frame = pd.DataFrame([{figure.name: float(figure.value) for figure in figures}])
    suite = gx.ExpectationSuite(name=kind, expectations=expectations)
    batch = definition.get_batch(batch_parameters={"dataframe": frame})
    outcome = batch.validate(suite, result_format="SUMMARY")
    failed: dict[FailureSeverity, set[str]] = {stops: set(), warns: set()}
    for result in outcome.results:
        rule, config = _rule(result), result.expectation_config
        if not result.success and config is not None:
            failed[config.severity].add(rule)
    return Validation(outcome.to_json_dict(), frozenset(failed[stops]), frozenset(failed[warns]))
