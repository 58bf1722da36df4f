from __future__ import annotations

import json
import shlex
import subprocess
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from hmamba import clock
from hmamba.doctor import DISTRIBUTION, Check, diagnose, healthy
from hmamba.models.promotions import record_decision
from hmamba.quality.checks import check as check_figures
from hmamba.quality.expectations import Figure
from hmamba.storage.layout import Layout
from tests.documents import manifest
from tests.report.metrics_of_night import DAY
from tests.report.night import publish, write_night
from tests.synthetic import make_catalogue, make_interactions

REPOSITORY = Path(__file__).parents[1]
BARE = """
import json, sys
sys.path[:0] = {folders!r}
from hmamba.doctor import diagnose
print(json.dumps([vars(check) for check in diagnose()]))
"""


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def diagnose_bare(*folders: Path) -> dict[str, dict[str, Any]]:
    """What the doctor says in an interpreter that has the standard library, this package and ``folders`` only."""
    code = BARE.format(folders=[str(REPOSITORY), *map(str, folders)])
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    return {check["name"]: check for check in json.loads(result.stdout)}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with just enough for the doctor to read what the package requires."""
    import packaging

    folder = tmp_path_factory.mktemp("shelf")
    (folder / "packaging").symlink_to(Path(packaging.__file__).parent)
    described = metadata.distribution(DISTRIBUTION).read_text("METADATA")
    assert described is not None
    info = folder / "hmamba_nightly-0.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(described, encoding="utf-8")
    return folder


def test_a_complete_machine_is_healthy() -> None:
    checks = diagnose()
    assert healthy(checks), [check for check in checks if check.state == "missing"]
    found = by_name(checks)
    assert found["duckdb"] == Check("duckdb", "ok", metadata.version("duckdb"))
    assert {"Python", "torch", "faiss", "GPU", "cores", "memory"} <= set(found)


def test_a_bare_interpreter_is_told_what_to_install() -> None:
    found = diagnose_bare()
    assert found["libraries"]["state"] == "missing"
    assert found["libraries"]["advice"] == "pip install -c constraints.txt -e '.'"
    assert found["faiss"]["state"] == "missing"
    assert "[cpu]" in found["faiss"]["advice"]


def test_each_missing_library_is_a_line_with_its_command(shelf: Path) -> None:
    found = diagnose_bare(shelf)
    for name in ("duckdb", "torch", "pydantic", "rich"):
        assert found[name]["state"] == "missing"
        assert found[name]["found"] == "not installed"
    assert found["apache-airflow"]["state"] == "note"
    assert found["apache-airflow"]["advice"] == "pip install -c constraints.txt -e '.[airflow]'"
    assert "geoopt" not in found


def test_an_old_library_is_named_with_both_versions(shelf: Path, tmp_path: Path) -> None:
    info = tmp_path / "duckdb-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: duckdb\nVersion: 0.1\n", encoding="utf-8")
    check = diagnose_bare(shelf, tmp_path)["duckdb"]
    assert check["state"] == "missing"
    assert check["found"].startswith("0.1, but >=")


def test_a_torch_that_does_not_import_is_a_finding_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libcudart.so.12')", encoding="utf-8")
    check = diagnose_bare(tmp_path)["torch import"]
    assert (check["state"], check["found"]) == ("missing", "ImportError: libcudart.so.12")
    assert "--force-reinstall" in check["advice"]


def test_two_builds_of_faiss_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "faiss.py").write_text("", encoding="utf-8")
    for name in ("faiss_cpu", "faiss_gpu"):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
        (info / "METADATA").write_text(text, encoding="utf-8")
    assert "two packages share one module" in diagnose_bare(tmp_path)["faiss"]["found"]


def test_a_new_root_is_only_a_note(tmp_path: Path) -> None:
    root = tmp_path / "new" / "my root"
    found = by_name(diagnose(root))
    assert found["root"].state == "note"
    assert shlex.split(found["root"].advice) == ["hmamba", "init", str(root)]
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("place", ["/proc/hmamba", "file/below"])
def test_a_root_that_cannot_be_written_is_missing(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    checks = diagnose(tmp_path / place)
    assert by_name(checks)["root"].state == "missing"
    assert not healthy(checks)


def test_commands_for_a_root_whose_name_has_blanks_can_be_pasted(tmp_path: Path) -> None:
    root = tmp_path / "my root"
    root.mkdir()
    found = by_name(diagnose(root))
    for name in ("champion", "published"):
        assert shlex.split(found[name].advice) == ["hmamba", "run", "--root", str(root), "--day", "YYYY-MM-DD"]
    assert shlex.split(found["configuration"].advice) == ["hmamba", "init", str(root)]


def test_the_day_of_the_newest_event_is_advised(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    folder = layout.landing / "interactions"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("user_id,item_id,event_time\nu,i,2024-05-01\nv,j,2024-05-02\n", encoding="utf-8")
    found = by_name(diagnose(tmp_path))
    assert found["published"].advice.endswith("--day 2024-05-02")


def test_today_is_advised_where_events_have_only_an_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: datetime(2024, 2, 3))
    (tmp_path / "a.csv").write_text("user_id,item_id,position\nu,i,1\nv,j,2\n", encoding="utf-8")
    (tmp_path / "hmamba.toml").write_text(
        '[source]\npath = "a.csv"\n[source.columns]\nposition = "position"\n', encoding="utf-8"
    )
    assert by_name(diagnose(tmp_path))["published"].advice.endswith("--day 2024-02-03")


def test_where_a_baseline_serves_no_night_is_advised(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path)
    layout.candidates.mkdir()
    manifest().write(layout.latest)
    champion = by_name(diagnose(tmp_path))["champion"]
    assert (champion.state, champion.advice) == ("note", "")
    assert "a baseline serves" in champion.found


def test_a_root_that_is_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("", encoding="utf-8")
    assert f"{path} is not a folder" in by_name(diagnose(path))["root"].found


def test_a_wrong_setting_is_named(layout: Layout) -> None:
    layout.root.mkdir()
    layout.config.write_text("[candidates]\nkay = 3\n", encoding="utf-8")
    check = by_name(diagnose(layout.root))["configuration"]
    assert check.state == "missing"
    assert "unknown key 'candidates.kay'" in check.found


@pytest.mark.parametrize("installed", [True, False])
def test_the_package_of_a_chosen_ranker_must_be_there(
    layout: Layout, installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout.root.mkdir()
    assert "lightgbm" not in by_name(diagnose(layout.root))
    layout.config.write_text('[rank]\nmodel = "lightgbm"\n', encoding="utf-8")
    if not installed:
        monkeypatch.setitem(sys.modules, "lightgbm", None)
    check = by_name(diagnose(layout.root))["lightgbm"]
    assert check.state == ("ok" if installed else "missing")
    assert installed or 'pip install "hmamba-nightly[rank]"' in check.found


def test_targets_of_deliveries(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that cannot be reached from here is a note with what to do, because it stops no night."""
    layout.root.mkdir()
    layout.config.write_text('[deliver.shop]\nkind = "redis"\n[deliver.export]\nkind = "csv"\n', encoding="utf-8")
    monkeypatch.delenv("HMAMBA_DELIVER_SHOP", raising=False)
    checks = by_name(diagnose(layout.root))
    assert (checks["deliver.export"].state, checks["deliver.export"].found) == ("ok", "csv")
    assert checks["deliver.shop"].state == "note"
    assert "HMAMBA_DELIVER_SHOP is not set" in checks["deliver.shop"].advice
    monkeypatch.setenv("HMAMBA_DELIVER_SHOP", "redis://localhost/0")
    assert by_name(diagnose(layout.root))["deliver.shop"].state == "ok"


@pytest.fixture
def used(layout: Layout) -> Layout:
    """A root with a published night."""
    catalogue = make_catalogue()
    catalogue["category_path"] = [[name] for name in catalogue["department"]]
    write_night(layout, make_interactions(), catalogue)
    publish(layout)
    assert record_decision(layout, DAY, "v1")
    layout.model("v1").mkdir(parents=True)
    return layout


def test_a_root_in_use_says_what_serves(used: Layout) -> None:
    checks = diagnose(used.root)
    found = by_name(checks)
    assert healthy(checks)
    assert found["champion"].found == "v1"
    assert found["published"].found == f"{DAY}: 40 users, 400 rows"


@pytest.mark.parametrize("part", ["champion", "published"])
def test_what_is_named_must_be_there(used: Layout, part: str) -> None:
    if part == "champion":
        used.model("v1").rmdir()
    else:
        next(used.published(DAY).glob("part-*.parquet")).unlink()
    check = by_name(diagnose(used.root))[part]
    assert check.state == "missing"
    assert "is gone" in check.found or "missing or cut short" in check.found


def test_damaged_pages_of_checks_stop_nothing(used: Layout) -> None:
    outcome = check_figures(used.checks, "candidates", "a night", [Figure("rows", 1, least=1)])
    assert by_name(diagnose(used.root))["data checks"].found == "1 kept"
    assert outcome.page is not None
    outcome.page.write_text("")
    found = diagnose(used.root)
    check = by_name(found)["data checks"]
    assert (check.state, healthy(found)) == ("note", True)
    assert check.found == (
        f"{used.checks.folder}: 1 page ({outcome.page.name}) damaged or of another version: the next check writes it "
        "again"
    )
    check_figures(used.checks, "candidates", "another night", [Figure("rows", 1, least=1)])
    assert by_name(diagnose(used.root))["data checks"].found == "2 kept"


class TestLanding:
    """What is said of the files that wait to be pulled; more in tests/survey/test_landing.py."""

    def look(self, layout: Layout, text: str, settings: str = "") -> list[Check]:
        folder = layout.landing / "interactions"
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text(f"user_id,item_id,event_time\n{text}", encoding="utf-8")
        layout.config.write_text(settings, encoding="utf-8")
        return diagnose(layout.root)

    def test_rows_days_and_repeats(self, layout: Layout) -> None:
        checks = self.look(layout, "u,i,2024-05-01\nu,i,2024-05-31\nv,i,2024-05-03\n")
        found = by_name(checks)
        assert healthy(checks)
        assert found["events"].found == "3 rows in 1 file: 2 users, 1 item"
        assert found["days"].found == "2024-05-01 to 2024-05-31"
        assert found["repeats"].found.startswith("33.3% of events repeat an item of their user")
        assert found["repeats"].advice == "if users buy or watch items again, set candidates.exclude_seen = false"

    def test_repeats_are_welcome_where_things_are_bought_again(self, layout: Layout) -> None:
        checks = self.look(layout, "u,i,2024-05-01\nu,i,2024-05-31\n", "[candidates]\nexclude_seen = false\n")
        assert by_name(checks)["repeats"] == Check("repeats", "ok", "50.0% of events repeat an item of their user")

    def test_a_few_refused_rows_are_a_note(self, layout: Layout) -> None:
        checks = self.look(layout, "u,i,2024-05-01\n" * 30 + ",i,2024-05-01\n")
        assert healthy(checks)
        check = by_name(checks)["rows"]
        assert check.state == "note"
        assert check.found.startswith(
            "1 of 31 rows would be refused (user_id_present): landing/interactions/a.csv, line"
        )

    def test_what_would_stop_the_pull_is_missing(self, layout: Layout) -> None:
        checks = self.look(layout, "u,i,1716985932\n" * 3)
        check = by_name(checks)["rows"]
        assert check.found.endswith("line 2: '1716985932'")
        assert "set source.time_format = 'epoch_s'" in check.advice
        assert not healthy(checks)
        assert "3 of 3 rows would be refused (100.0%); more than 10% stop the pull" in by_name(checks)["pull"].found

    def test_rules_that_only_together_stop_the_pull_do(self, layout: Layout) -> None:
        checks = self.look(layout, "u,i,2024-05-01\n" * 88 + ",i,2024-05-01\n" * 6 + "u,i,soon\n" * 6)
        assert not healthy(checks)
        assert by_name(checks)["pull"].found.startswith("12 of 100 rows would be refused (12.0%)")

    def test_files_without_rows_are_missing(self, layout: Layout) -> None:
        check = by_name(self.look(layout, ""))["events"]
        assert check.state == "missing"
        assert "landing/interactions/a.csv holds no rows" in check.found

    def test_a_root_in_use_may_have_no_new_rows(self, used: Layout) -> None:
        used.warehouse.touch()
        found = by_name(self.look(used, ""))
        assert found["events"] == Check("events", "note", "0 rows in 1 file: 0 users, 0 items")
        assert "repeats" not in found

    def test_a_catalogue_has_to_be_there(self, layout: Layout) -> None:
        settings = '[catalogue]\npath = "items.csv"\ntitle = "name"\n'
        checks = self.look(layout, "u,i,2024-05-01\n", settings)
        assert not healthy(checks)
        assert by_name(checks)["catalogue"].found.startswith("catalogue.path = 'items.csv'")
        (layout.root / "items.csv").write_text("item_id,title\n", encoding="utf-8")
        assert "has no column 'name'" in by_name(diagnose(layout.root))["catalogue"].found
        (layout.root / "items.csv").write_text("item_id,name\n", encoding="utf-8")
        found = by_name(diagnose(layout.root))["catalogue"]
        assert found == Check("catalogue", "ok", "items.csv: 1 file with the configured columns")

    def test_a_wrong_column_has_a_suggestion(self, layout: Layout) -> None:
        checks = self.look(layout, "u,i,2024-05-01\n", '[source.columns]\nuser_id = "userid"\n')
        assert 'did you mean source.columns.user_id = "user_id"?' in by_name(checks)["pull"].found
        assert not healthy(checks)

    def test_an_empty_folder_is_a_note(self, layout: Layout) -> None:
        (layout.landing / "interactions").mkdir(parents=True)
        assert by_name(diagnose(layout.root))["events"].found == "landing/interactions holds no files"
