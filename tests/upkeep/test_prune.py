"""What prune deletes, and what it keeps."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from hmamba.candidates.lookup import published_manifest
from hmamba.config import Config, load, parse
from hmamba.contracts.published import PublishMetrics
from hmamba.models import promotions
from hmamba.report.history import nights
from hmamba.storage.layout import Layout
from hmamba.storage.local import LocalStorage
from hmamba.upkeep.prune import ABANDONED_SECONDS, plan, prune
from hmamba.upkeep.versions import versions
from jobs.sweep import sweep_root
from tests.documents import manifest, verdict
from tests.jobs.commands.call import call
from tests.landing import DAY, Root
from tests.nights import FIRST, THIRD, run_night
from tests.synthetic import make_interactions, write_landing

DAYS = [date(2024, 1, number) for number in (1, 3, 5, 7, 9)]
ONE = {"runs": 1, "models": 1, "tables": 1, "reports": 1, "documents": 1}


def keeping(**days: int) -> Config:
    return parse({"keep": days}, "x")


def names(layout: Layout, kind: str | None = None, **days: int) -> list[str]:
    """Paths that would be deleted."""
    found = plan(layout, keeping(**days)).doomed
    return [one.path.relative_to(layout.root).as_posix() for one in found if kind in (None, one.kind)]


@pytest.fixture
def root_of_days(layout: Layout) -> Layout:
    """Five published days with working folders and reports; the last one is what readers have."""
    for day in DAYS:
        run = layout.run(day, "manual")
        published(run.step_metrics("publish"), day)
        (run.sequences).mkdir()
        (run.sequences / "shard-0000.parquet").write_bytes(b"x" * 100)
        run.states.mkdir()
        verdict(day=day).write(run.verdict)
        manifest(day=day, run_id="manual").write(layout.published_manifest(day))
        layout.report(day).parent.mkdir(parents=True)
        layout.report(day).write_text("page")
    layout.storage.point(layout.latest, layout.published_manifest(DAYS[-1]))
    return layout


def published(path: Path, day: date) -> None:
    values = {"users": 1, "rows": 1, "k": 1, "files": 1, "changed": True, "distinct_items": 1}
    PublishMetrics.model_validate({**values, "day": day, "model_version": "v1", "warning": None}).write(path)


@pytest.mark.parametrize(("runs", "left"), [(1, 1), (2, 2), (9, 5)])
def test_working_folders_are_deleted_but_their_documents_stay(root_of_days: Layout, runs: int, left: int) -> None:
    prune(root_of_days, keeping(runs=runs))
    assert [root_of_days.run(day, "manual").sequences.exists() for day in DAYS] == [False] * (5 - left) + [True] * left
    assert [night.verdict for night in nights(root_of_days)] == ["not promoted"] * 5
    assert [night.problems for night in nights(root_of_days)] == [()] * 5


def test_the_day_of_the_night_and_that_of_the_readers_stay(root_of_days: Layout) -> None:
    root_of_days.storage.point(root_of_days.latest, root_of_days.published_manifest(DAYS[1]))
    prune(root_of_days, keeping(**ONE), DAYS[0])
    for kind, found in (("runs", root_of_days.run_days), ("tables", root_of_days.published_days)):
        assert [day for day, _ in found] == [DAYS[0], DAYS[1], DAYS[4]], kind
    assert [day for day, _ in root_of_days.report_days] == [DAYS[0], DAYS[4]]
    assert published_manifest(root_of_days).day == DAYS[1]
    assert [path.parent.parent.name for path in root_of_days.carried_states] == [str(DAYS[1])]


def test_each_kind_has_its_own_days(root_of_days: Layout) -> None:
    found = plan(root_of_days, keeping(runs=1, tables=2, reports=3, documents=4))
    assert Counter(one.kind for one in found.doomed) == {
        "documents": 1,
        "runs": 6,
        "tables": 3,
        "reports": 2,
    }
    assert found.bytes == sum(one.bytes for one in found.doomed) > 300
    assert names(root_of_days) == [f"runs/{day}/manual/states" for day in DAYS[:-1]]  # by default, all but states stays


@pytest.mark.parametrize("ended", [True, False])
def test_a_run_that_has_not_finished_stays_for_a_week(root_of_days: Layout, ended: bool) -> None:
    run = root_of_days.run(DAYS[0], "manual")
    run.step_metrics("publish").unlink()
    if ended:
        old = time.time() - ABANDONED_SECONDS - 60
        for path in (run.folder, *run.folder.rglob("*")):
            os.utime(path, (old, old))
    prune(root_of_days, keeping(runs=1))
    assert run.sequences.exists() == (not ended)


def test_a_working_folder_in_which_a_step_works_stays(root_of_days: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    root_of_days.config.write_text("[keep]\nruns = 1\n")
    run = root_of_days.run(DAYS[0], "manual")
    with root_of_days.storage.lock(run.folder):
        assert call("prune", "--root", str(root_of_days.root)) == 0
        assert run.sequences.exists()
        assert "is kept: " in capsys.readouterr().err
        assert not root_of_days.run(DAYS[1], "manual").sequences.exists()
    assert call("prune", "--root", str(root_of_days.root)) == 0
    assert not run.sequences.exists()


def test_other_folders_and_files_are_left_alone(root_of_days: Layout) -> None:
    others = [root_of_days.runs / "keep-me", root_of_days.models / "mine", root_of_days.root / "reports" / "index.html"]
    for path in others:
        path.mkdir(parents=True)
        (path / "file").write_text("")
    prune(root_of_days, keeping(**ONE))
    assert all((path / "file").exists() for path in others)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{")])
def test_without_a_table_for_readers_only_reports_are_deleted(
    root_of_days: Layout, damage: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    """A link that leads nowhere does not say what serves; one to a damaged manifest still says which day."""
    damage(root_of_days.latest.resolve() if damage is not Path.unlink else root_of_days.latest)
    kinds = {one.kind for one in plan(root_of_days, keeping(**ONE)).doomed}
    assert kinds == ({"reports"} if damage is Path.unlink else {"documents", "reports", "tables"})
    assert call("prune", "--root", str(root_of_days.root)) == 0
    assert str(root_of_days.latest) in capsys.readouterr().err


def test_a_dry_run_lists_and_changes_nothing(root_of_days: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    root_of_days.config.write_text("[keep]\nruns = 1\nreports = 4\n")

    def tree() -> list[Path]:
        return sorted(root_of_days.root.rglob("*"))

    before = tree()
    assert call("prune", "--root", str(root_of_days.root), "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert tree() == before
    assert lines[0].split() == ["reports", "4", "bytes", f"reports/{DAYS[0]}"]
    assert lines[-1] == "Would delete 404 bytes."
    assert call("prune", "--root", str(root_of_days.root), "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["deleted"], done["bytes"], len(done["doomed"])) == (True, 404, 9)
    assert plan(root_of_days, load(None, root_of_days)).doomed == []


def test_a_table_disappears_as_a_whole_and_a_kill_leaves_nothing(
    root_of_days: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise SystemError("as if killed")

    for path in root_of_days.carried_states:
        shutil.rmtree(path)
    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "delete", kill)
        with pytest.raises(SystemError):
            prune(root_of_days, keeping(tables=4))
    assert not root_of_days.published(DAYS[0]).exists()
    prune(root_of_days, keeping(tables=4))
    assert [path.name for path in root_of_days.candidates.iterdir() if ".tmp-" in path.name] == []


class TestModels:
    """On real nights."""

    def test_what_serves_and_what_a_kept_night_compares_with_stay(self, two: Layout) -> None:
        first, second = (one.version for one in versions(two))
        assert names(two, "models", **ONE | {"tables": 9, "runs": 9}) == []  # the first made a kept table
        assert names(two, "models", **ONE) == []  # the gate of the second night compared with it
        shutil.rmtree(two.run(FIRST, "one").folder.parent)
        promotions.roll_back(two, THIRD, first, table=None, from_table=None, changes_table=False, newest=None)
        assert names(two, "models", **ONE) == []
        assert versions(two)[0].serves
        assert second

    def test_the_model_of_a_night_that_is_run_again_stays_until_its_gate(self, two: Layout) -> None:
        first = next(one.version for one in versions(two))
        challenger = f"{FIRST:%Y%m%d}-00000000"
        shutil.copytree(two.model(first), two.model(challenger))
        (two.run(FIRST, "one").step_metrics("publish")).unlink()  # it has not ended
        assert names(two, "models", models=1) == []

    def test_a_model_that_goes_leaves_its_metrics(self, two: Layout) -> None:
        _, second = (one.version for one in versions(two))
        stale = two.model("20240101-00000000")
        shutil.copytree(two.model(second), stale)
        doomed = names(two, "models", models=1)
        assert {Path(name).parent.name for name in doomed} == {stale.name}
        prune(two, keeping(models=1))
        sweep_root(two)  # as the next night does
        assert [path.name for path in stale.iterdir()] == ["metrics.json"]
        assert [(one.pruned, one.damage) for one in versions(two)] == [(True, None), (False, None), (False, None)]
        assert names(two, models=1) == []
        assert names(two, models=1, documents=2) == ["models/20240101-00000000"]

    def test_nights_and_reprocessing_go_on_after_everything_possible_is_pruned(self, two: Layout) -> None:
        with two.config.open("a") as stream:
            stream.write("[keep]\nruns = 1\nmodels = 1\ntables = 1\nreports = 1\nlanding = 1\n")
        assert call("prune", "--root", str(two.root)) == 0
        assert [day for day, _ in two.published_days] == [THIRD]
        before = published_manifest(two)
        assert run_night(two, THIRD, "three")["train"]["reused"]
        assert published_manifest(two) == before
        assert call("refresh", "--root", str(two.root), "--day", str(THIRD)) == 0
        write_landing(two.root, make_interactions(users=120, items=80, days=31).tail(120), "fourth.parquet")
        fourth = THIRD + timedelta(days=1)
        metrics = run_night(two, fourth, "four")
        assert metrics["train"]["parent"] == before.model_version
        assert published_manifest(two).day == fourth


class TestLanding:
    """Files of the landing folder."""

    def pull(self, root: Root) -> None:
        """Three files on three days; the last one has rows of a later day."""
        events = make_interactions()
        for number, (first, past) in enumerate([(1, 20), (20, 25), (25, 32)]):
            day = events.event_time.dt.day
            write_landing(root.layout.root, events[(day >= first) & (day < past)], f"{number}.csv")
            root.ok("ingest", date(2024, 1, min(past - 1, 29)), f"run{number}")

    def test_only_files_that_were_taken_whole_go(self, root: Root) -> None:
        self.pull(root)
        layout = root.layout
        assert names(layout) == []
        assert names(layout, landing=1) == [f"landing/interactions/{n}.csv" for n in (0, 1)]
        assert names(layout, landing=2) == ["landing/interactions/0.csv"]
        root.ok("ingest", DAY, "last")
        assert names(layout, landing=1) == [f"landing/interactions/{n}.csv" for n in (0, 1)]
        assert names(layout, landing=9) == []

    def test_what_was_pruned_is_not_missed_and_not_loaded_again(self, root: Root) -> None:
        self.pull(root)
        first = root.landing() / "0.csv"
        content = first.read_bytes()
        prune(root.layout, keeping(landing=2))
        assert not first.exists()
        before = root.contents()
        assert root.ok("ingest", date(2024, 1, 29), "again")["rows_read"] == 0
        root.drop("copy.csv", content)
        assert root.ok("ingest", date(2024, 1, 29), "copied")["rows_loaded"] == 0
        assert root.contents()["interactions"] == before["interactions"]

    def test_changed_files_links_and_files_elsewhere_stay(self, root: Root, tmp_path: Path) -> None:
        self.pull(root)
        zero, one = (root.landing() / f"{n}.csv" for n in (0, 1))
        zero.write_text(zero.read_text() + "\n")
        elsewhere = tmp_path / "elsewhere.csv"
        shutil.move(one, elsewhere)
        one.symlink_to(elsewhere)
        os.utime(one, ns=(elsewhere.stat().st_atime_ns, elsewhere.stat().st_mtime_ns), follow_symlinks=False)
        assert names(root.layout, landing=1) == []


@pytest.mark.parametrize("old", ["[runs]\nkeep = 1\n", "[candidates]\nkeep_runs = 1\n"])
def test_old_names_of_the_setting_are_errors_with_the_new_name(
    layout: Layout, capsys: pytest.CaptureFixture[str], old: str
) -> None:
    layout.root.mkdir()
    layout.config.write_text(old)
    assert call("prune", "--root", str(layout.root)) == 2
    assert "use keep.runs" in capsys.readouterr().err
