"""What of a file belongs to which day, how old the newest event may be, and which days can be meant."""

from __future__ import annotations

import shutil
from datetime import date, datetime, timedelta

import pandas as pd
import pytest

from hmamba import clock
from hmamba.storage.local import read_json
from jobs import train
from tests.landing import DAY, Root
from tests.synthetic import make_interactions, write_landing

DAYS = [date(2024, 1, 10), date(2024, 1, 20), date(2024, 1, 25), DAY]
LENIENT = "[quality]\nmax_quarantined_share = 1\nmax_duplicate_share = 1\n"
EVENTS = ["user_id", "item_id", "event_time"]
FILES = "SELECT path, state, rows, rows_left FROM batch_files ORDER BY batch_id, path"


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    return make_interactions()


def flawed(events: pd.DataFrame) -> pd.DataFrame:
    """The events with copies, rows without a user, without a time, of long ago and of a time that no day will reach."""
    found = pd.concat([events, events[::9]], ignore_index=True).sample(frac=1, random_state=0, ignore_index=True)
    found.loc[::50, "user_id"] = None
    found.loc[7::100, "event_time"] = None
    found.loc[3, "event_time"] = datetime(1980, 1, 1)
    found.loc[5, "event_time"] = datetime(2090, 1, 1)
    return found


def loaded_events(root: Root) -> list[tuple[object, ...]]:
    return root.sql("SELECT user_id, item_id, event_time FROM interactions ORDER BY ALL")


def refused(root: Root) -> list[tuple[object, ...]]:
    return root.sql("SELECT line, rules, record FROM quarantine ORDER BY ALL")


def at(when: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock."""
    monkeypatch.setattr(clock, "now", lambda: when)


@pytest.mark.parametrize("name", ["e.parquet", "e.csv", "e.jsonl"])
def test_day_by_day_each_row_is_considered_once_as_in_one_pull(root: Root, events: pd.DataFrame, name: str) -> None:
    root.configure(LENIENT)
    write_landing(root.layout.root, flawed(events), name)
    root.ok("ingest")
    expected = loaded_events(root), refused(root), root.sql("SELECT item_id, first_seen FROM items ORDER BY ALL")
    whole = root.sql("SELECT rows_read, rows_loaded, rows_duplicate, rows_quarantined FROM batches")
    root.layout.warehouse.unlink()

    left = []
    for day in DAYS:
        metrics = root.ok("ingest", day)
        left.append(metrics["rows_left"])
        assert metrics["files"] == 1
        again = root.ok("ingest", day)
        assert {key: again[key] for key in ("batch_id", "rows_read", "rows_left")} == {
            key: metrics[key] for key in ("batch_id", "rows_read", "rows_left")
        }
        late = root.sql(f"SELECT count(*) FROM interactions WHERE event_time >= '{day + timedelta(days=1)}'")
        assert late == [(0,)]
    assert left == sorted(left, reverse=True)
    assert (left[0] > 400, left[-1]) == (True, 0)
    found = loaded_events(root), refused(root), root.sql("SELECT item_id, first_seen FROM items ORDER BY ALL")
    assert found == expected
    sums = "SELECT sum(rows_read), sum(rows_loaded), sum(rows_duplicate), sum(rows_quarantined) FROM batches"
    assert root.sql(sums) == whole
    assert root.sql("SELECT sum(rows) FROM batch_files") == root.sql("SELECT sum(rows_read) FROM batches")
    assert [state for _, state, *_ in root.sql(FILES)] == ["partial", "partial", "partial", "loaded"]


@pytest.mark.parametrize("how", ["copied", "renamed"])
def test_a_partial_file_under_another_name_is_read_on_once(root: Root, events: pd.DataFrame, how: str) -> None:
    path = write_landing(root.layout.root, events, "b.csv")
    root.ok("ingest", DAYS[0])
    if how == "copied":
        shutil.copy(path, path.with_name("a.csv"))
    else:
        path.rename(path.with_name("a.csv"))
    root.ok("ingest", DAYS[1])
    entered = len(root.sql(FILES))
    for day in DAYS[2:]:
        metrics = root.ok("ingest", day)
        assert (metrics["files"], metrics["rows_duplicate"]) == (1, 0)
    assert loaded_events(root) == sorted(events[EVENTS].itertuples(index=False, name=None))
    assert len(root.sql(FILES)) == entered + 2


def test_a_partial_file_that_grew_is_read_whole(root: Root, events: pd.DataFrame) -> None:
    root.configure(LENIENT)
    write_landing(root.layout.root, events[:800], "a.csv")
    first = root.ok("ingest", DAYS[1])
    write_landing(root.layout.root, events, "a.csv")
    metrics = root.ok("ingest")
    assert (metrics["rows_read"], metrics["rows_duplicate"]) == (len(events), first["rows_loaded"])
    assert loaded_events(root) == sorted(events[EVENTS].itertuples(index=False, name=None))


def test_an_old_day_again_takes_nothing_from_later_ones(loaded: Root, events: pd.DataFrame) -> None:
    later = events.assign(event_time=events.event_time + timedelta(days=5), user_id="late " + events.user_id)
    write_landing(loaded.layout.root, later, "later.csv")
    old = loaded.ok("ingest", DAYS[0], "old")
    assert (old["rows_read"] + old["rows_left"], old["rows_quarantined"]) == (len(later), 0)
    new = loaded.ok("ingest", DAY + timedelta(days=5), "new")
    assert (new["rows_read"], new["rows_left"]) == (old["rows_left"], 0)
    assert loaded.ok("ingest", DAYS[1], "older")["batch_id"] is None
    assert loaded.sql("SELECT count(*) FROM interactions") == [(2 * len(events),)]


def test_a_time_that_was_nonsense_once_is_not_read_again_when_the_clock_has_passed_it(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    root.configure(LENIENT)
    root.drop(
        "a.csv", "user_id,item_id,event_time\nu,i,2024-01-10\nu,j,2024-01-11\nu,k,2024-01-12 10:00:00\nu,l,2024-01-20\n"
    )
    at(datetime(2024, 1, 11, 9), monkeypatch)
    metrics = root.ok("ingest", date(2024, 1, 10))
    assert (metrics["rows_read"], metrics["rows_left"], metrics["quarantined_by_rule"]) == (
        3,
        1,
        {"event_time_not_after": 2},
    )
    at(datetime(2024, 2, 1), monkeypatch)
    metrics = root.ok("ingest", date(2024, 1, 31))
    assert (metrics["rows_read"], metrics["rows_loaded"], metrics["rows_left"]) == (1, 1, 0)
    assert root.sql("SELECT line FROM quarantine ORDER BY 1") == [(4,), (5,)]
    assert root.sql("SELECT item_id FROM interactions ORDER BY 1") == [("i",), ("j",)]


def test_a_day_before_the_first_event_says_which_days_there_are(root: Root, events: pd.DataFrame) -> None:
    write_landing(root.layout.root, events)
    code, _, log = root.step("ingest", date(2023, 12, 1))
    first, last = events.event_time.min(), events.event_time.max()
    assert code == 2
    assert f"all 941 events that could be read lie after it, from {first} to {last}" in log
    assert f"Give --day {DAY}, or a day from {first.date()} on" in log
    assert not root.layout.warehouse.exists()
    assert root.ok("ingest", first.date())["rows_read"] > 0


def test_a_pull_whose_new_rows_are_all_later_leaves_them(loaded: Root, events: pd.DataFrame) -> None:
    later = events.assign(event_time=events.event_time + timedelta(days=40))
    write_landing(loaded.layout.root, later, "later.csv")
    metrics = loaded.ok("ingest", run_id="again")
    assert (metrics["files"], metrics["rows_read"], metrics["rows_left"]) == (1, 0, len(later))
    assert loaded.ok("ingest", DAY + timedelta(days=40), "later")["rows_loaded"] == len(later)


class TestSilence:
    def test_the_newest_event_may_not_be_too_old_when_nothing_has_landed(self, loaded: Root) -> None:
        loaded.configure("[quality]\nmax_staleness_days = 2\n")
        loaded.ok("ingest", DAY + timedelta(days=1))
        before = loaded.contents()
        code, metrics, log = loaded.step("ingest", DAY + timedelta(days=10), "dead-feed")
        assert (code, metrics) == (3, {})
        assert "the newest event is 10 days old, allowed 2 (staleness_days, quality.max_staleness_days)" in log
        assert "dead-feed" in loaded.layout.checks.index.read_text(encoding="utf-8")
        assert loaded.contents() == before

    def test_a_warning_comes_first(self, loaded: Root, caplog: pytest.LogCaptureFixture) -> None:
        metrics = loaded.ok("ingest", DAY + timedelta(days=2))
        assert (metrics["warnings"], round(metrics["staleness_days"])) == ([], 2)
        metrics = loaded.ok("ingest", DAY + timedelta(days=5))
        (warning,) = metrics["warnings"]
        assert warning.startswith("The newest event is 5.1 days old at the end of the day")
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [warning]
        loaded.configure("[quality]\nwarn_staleness_days = 6\n")
        assert loaded.ok("ingest", DAY + timedelta(days=5))["warnings"] == []

    def test_no_rows_are_a_volume_of_nothing(self, loaded: Root) -> None:
        loaded.configure("[quality]\nmin_volume_ratio = 0.5\n")
        code, _, log = loaded.step("ingest", DAY + timedelta(days=1))
        assert code == 3
        assert "0 rows against a median of 941, allowed ratio 0.5 (volume_ratio is 0" in log

    @pytest.mark.parametrize(
        ("day", "now"),
        [
            (DAY, datetime(2024, 2, 10)),
            (DAYS[0], datetime(2024, 2, 10)),
            (DAY + timedelta(days=1), datetime(2024, 1, 31, 0, 15)),
        ],
        ids=["a night again", "an old night", "an hourly pull"],
    )
    def test_some_days_may_have_nothing_new(
        self, loaded: Root, monkeypatch: pytest.MonkeyPatch, day: date, now: datetime
    ) -> None:
        """Bounds are such that the end of an hourly pull's day, which is far, would be too late."""
        at(now, monkeypatch)
        loaded.configure("[quality]\nmin_volume_ratio = 0.5\nmax_staleness_days = 0.2\nwarn_staleness_days = 0.2\n")
        metrics = loaded.ok("ingest", day, "again")
        assert (metrics["batch_id"], metrics["warnings"]) == (None, [])

    def test_positions_have_no_age(self, root: Root) -> None:
        root.drop("a.csv", "user_id,item_id,step\nu,i,1\n")
        root.configure(
            '[source.columns]\nposition = "step"\n[quality]\nmax_staleness_days = 2\nmin_volume_ratio = 0.5\n'
        )
        root.ok("ingest")
        metrics = root.ok("ingest", DAY + timedelta(days=500))
        assert (metrics["staleness_days"], metrics["warnings"]) == (None, [])


class TestDays:
    def test_a_day_long_after_the_newest_event_is_refused(self, loaded: Root) -> None:
        loaded.ok("ingest", DAY + timedelta(days=30))
        before = loaded.contents()
        far = DAY + timedelta(days=31)
        for step in ("ingest", "snapshot"):
            code, _, log = loaded.step(step, far)
            assert code == 2
            assert "is 31 days after the newest event, more than quality.max_day_gap = 30" in log
            assert f"give --day {DAY}, or add --any-day" in log
            assert loaded.step(step, far, "manual", "--any-day")[0] == 0
        assert loaded.contents() == before

    def test_what_a_far_day_brings_counts(self, loaded: Root, events: pd.DataFrame) -> None:
        far = events.assign(event_time=events.event_time + timedelta(days=90))
        write_landing(loaded.layout.root, far, "far.csv")
        code, _, log = loaded.step("ingest", DAY + timedelta(days=50))
        assert (code, "50 days after" in log) == (2, True)
        assert loaded.sql("SELECT count(*) FROM batches") == [(1,)]
        assert loaded.ok("ingest", DAY + timedelta(days=90))["rows_loaded"] == len(far)

    def test_staleness_is_judged_first(self, loaded: Root) -> None:
        loaded.configure("[quality]\nmax_staleness_days = 2\n")
        assert loaded.step("ingest", DAY + timedelta(days=31))[0] == 3

    @pytest.mark.parametrize("step", ["ingest", "snapshot", "publish", "train"])
    def test_no_step_takes_a_day_that_has_not_come(
        self, loaded: Root, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: str
    ) -> None:
        at(datetime(2024, 2, 3, 23, 59), monkeypatch)
        before = sorted(loaded.layout.root.rglob("*"))
        arguments = ["--root", str(loaded.layout.root), "--day", "2024-02-04"]
        code = train.main(arguments) if step == "train" else loaded.step(step, date(2024, 2, 4))[0]
        assert code == 2
        assert (
            "--day 2024-02-04 is after today, 2024-02-03 in UTC. The newest event in the warehouse is of 2024-01-30"
            in caplog.text
        )
        assert "give --day 2024-01-30, or add --any-day" in caplog.text
        assert sorted(loaded.layout.root.rglob("*")) == before
        if step == "ingest":
            assert loaded.step(step, date(2024, 2, 4), "manual", "--any-day")[0] == 0

    def test_without_a_warehouse_today_is_named(self, root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
        at(datetime(2024, 2, 3), monkeypatch)
        root.drop("a.csv", "user_id,item_id,event_time\nu,i,2024-02-03\n")
        code, _, log = root.step("ingest", date(2024, 2, 4))
        assert (code, "Give a day up to 2024-02-03." in log) == (2, True), log


def test_the_failure_of_a_dead_feed_is_kept_for_the_report(loaded: Root) -> None:
    loaded.configure("[quality]\nmax_staleness_days = 2\n")
    day = DAY + timedelta(days=10)
    loaded.step("ingest", day)
    failure = read_json(loaded.layout.run(day, "manual").step_failure("ingest"))
    assert (failure["exit_status"], "10 days old" in failure["message"]) == (3, True)


HEADER = "user_id,item_id,event_time\n"


def lines(day: int, count: int) -> str:
    """Rows of January 2024."""
    return "".join(f"u{number},i{number % 7},2024-01-{day:02d} 10:00:{number % 60:02d}\n" for number in range(count))


class TestRefusedRowsOfPartialFiles:
    def test_one_row_without_a_time_in_a_file_of_later_days(self, root: Root) -> None:
        """It is all that the pull considers, and next to nothing of the file."""
        root.drop("1.csv", HEADER + lines(1, 50))
        root.ok("ingest", date(2024, 1, 1))
        root.drop("3.csv", HEADER + lines(3, 500) + "u1,i1,\n")
        metrics = root.ok("ingest", date(2024, 1, 2))
        assert (metrics["rows_read"], metrics["rows_quarantined"], metrics["rows_left"]) == (1, 1, 500)
        assert root.ok("ingest", date(2024, 1, 3))["rows_loaded"] == 500

    def test_a_day_of_a_partial_file_that_is_refused_whole(self, root: Root) -> None:
        """Rows of a day count against the rows of that day, however many there are of others."""
        root.drop("a.csv", HEADER + lines(1, 50) + lines(2, 40).replace("u", "u" * 300) + lines(3, 500))
        root.ok("ingest", date(2024, 1, 1))
        code, _, log = root.step("ingest", date(2024, 1, 2))
        assert (code, "quarantined_share is 1, allowed at most 0.1" in log) == (3, True), log

    def test_rows_of_other_files_say_nothing_about_a_file_without_times(self, root: Root) -> None:
        root.drop("1.csv", HEADER + lines(1, 50))
        root.ok("ingest", date(2024, 1, 1))
        root.drop("2.csv", HEADER + lines(2, 50) + "u1,i1,\n" * 30)
        root.drop("3.csv", HEADER + lines(3, 500))
        code, _, log = root.step("ingest", date(2024, 1, 2))
        assert (code, "quarantined_share is 0.375, allowed at most 0.1" in log) == (3, True), log

    def test_the_only_row_of_a_day_is_refused_in_a_file_that_is_continued(self, root: Root) -> None:
        """The last one too, after which nothing is left of the file."""
        bad = f"u1,{'x' * 300},2024-01-0%d 10:00:00\n"
        root.drop("a.csv", HEADER + lines(1, 50) + bad % 2 + lines(3, 50) + bad % 4)
        root.ok("ingest", date(2024, 1, 1))
        for day in (2, 3, 4):
            root.drop(f"{day}.csv", HEADER + lines(day, 60).replace("u", "other"))
            metrics = root.ok("ingest", date(2024, 1, day))
            assert metrics["quarantined_by_rule"] == ({} if day == 3 else {"item_id_length": 1})
        assert [state for path, state, *_ in root.sql(FILES) if path.endswith("a.csv")] == [*["partial"] * 3, "loaded"]
