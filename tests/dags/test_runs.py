"""What a run means: its day, its root, its folder."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hmamba.storage.layout import Layout
from tests.dags import conftest  # noqa: F401 - makes the DAGs' modules importable

DUE = datetime(2024, 5, 2, 2, tzinfo=UTC)


def run(kind: str, logical: datetime | None, after: datetime = DUE) -> Any:
    return SimpleNamespace(run_type=kind, logical_date=logical, run_after=after)


NOW = datetime(2024, 5, 2, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("chosen", "made", "days_back", "expected"),
    [
        ("2017-12-14", run("scheduled", DUE - timedelta(days=1)), 1, "2017-12-14"),
        (None, run("scheduled", DUE - timedelta(days=1)), 1, "2024-05-01"),
        (None, run("backfill", DUE - timedelta(days=1)), 1, "2024-05-01"),
        (None, run("scheduled", DUE - timedelta(hours=3), DUE - timedelta(hours=2)), 0, "2024-05-02"),
        ("", run("manual", None, NOW), 1, "2024-05-01"),
        (None, run("manual", NOW, NOW), 1, "2024-05-01"),
        (None, run("manual", None, NOW), 0, "2024-05-02"),
        (None, run("manual", NOW, NOW), 0, "2024-05-02"),
        (None, run("manual", datetime(2024, 4, 3, tzinfo=UTC), NOW), 1, "2024-04-03"),
        (None, run("manual", None, datetime(2024, 5, 2, 1, tzinfo=timezone(timedelta(hours=5)))), 0, "2024-05-01"),
    ],
    ids=[
        "given",
        "nightly",
        "backfill",
        "hourly",
        "command line or API",
        "form",
        "hourly, command line or API",
        "hourly, form",
        "logical date chosen",
        "not UTC",
    ],
)
def test_the_day_of_a_run(chosen: str | None, made: Any, days_back: int, expected: str) -> None:
    from hmamba_runs import day_of

    assert day_of({"day": chosen}, made, days_back) == expected


@pytest.mark.parametrize("param", ["root", "config"])
def test_an_empty_param_has_its_default(param: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import hmamba_runs

    value_of = getattr(hmamba_runs, f"{param}_of")
    assert value_of({param: None}) == ""
    monkeypatch.setenv(f"HMAMBA_{param.upper()}", "/srv/shop")
    assert [value_of({param: given}) for given in (None, "", "/srv/films")] == ["/srv/shop", "/srv/shop", "/srv/films"]


RUN_IDS = [
    "manual",
    "manual__2026-11-23T18:29:39.092730+00:00",
    "manual__2026-11-23T18-29-39.092730+00:00",
    "scheduled__2017-12-15T02:00:00+00:00",
    "../../etc/passwd",
    "..",
    "",
    "a run with spaces, émoji 🛒 and\nlines",
    "x" * 128,
    "x" * 129,
    "x" * 250,
    "x" * 249 + "y",
]


def test_run_ids_become_folders(tmp_path: Path) -> None:
    from hmamba_runs import folder_name

    names = [folder_name(run_id) for run_id in RUN_IDS]
    assert names == [folder_name(run_id) for run_id in RUN_IDS]
    assert len(set(names)) == len(RUN_IDS)
    for name in names:
        folder = Layout.at(tmp_path).run(date(2024, 1, 1), name).folder
        assert folder.parent == tmp_path.resolve() / "runs" / "2024-01-01"
    assert names[0] == "manual"
    assert re.fullmatch(r"scheduled__2017-12-15T02-00-00\+00-00-[0-9a-f]{8}", names[3])


PARAMS = ["day", "root", "config", "any_day", "full_retrain"]


def test_keys_of_the_conf_are_params() -> None:
    from hmamba_runs import RunError, check_conf

    check_conf(None, PARAMS)
    check_conf({"day": "2024-05-31", "full_retrain": True}, PARAMS)
    with pytest.raises(RunError, match=r"has the key 'full-retrain'.*Did you mean 'full_retrain'\?"):
        check_conf({"full-retrain": True}, PARAMS)
    with pytest.raises(RunError, match=r"'x'.*The params are any_day, config, day, full_retrain, root\."):
        check_conf({"x": 1}, PARAMS)


@pytest.mark.parametrize("name", ["hmamba.toml", "landing", "warehouse.duckdb"])
def test_a_root_is_known_by_what_it_holds(tmp_path: Path, name: str) -> None:
    from hmamba_runs import check_root

    (tmp_path / name).mkdir()
    check_root(str(tmp_path), "")
    check_root(f"file://{tmp_path}", "films")


def test_an_empty_folder_is_a_root_if_there_is_a_configuration(tmp_path: Path) -> None:
    from hmamba_runs import RunError, check_root

    check_root(str(tmp_path), "films")
    with pytest.raises(RunError, match="hmamba init"):
        check_root(str(tmp_path), "")


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("", "No root"),
        ("shop", "relative path"),
        ("/nowhere/shop", "does not exist on this worker"),
        (__file__, "is not a folder"),
        (str(Path(__file__).parent), "holds none of hmamba.toml, landing, warehouse.duckdb"),
    ],
)
def test_a_wrong_root_is_refused(root: str, said: str) -> None:
    from hmamba_runs import RunError, check_root

    with pytest.raises(RunError, match=re.escape(said)):
        check_root(root, "films")
