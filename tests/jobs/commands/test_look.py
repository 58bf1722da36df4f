"""Looking at a root from the command line."""

from __future__ import annotations

import json
import shutil

import pytest

from hmamba.storage.layout import Layout
from tests.jobs.commands.call import call
from tests.report.metrics_of_night import DAY, RUN, VERSION
from tests.report.night import publish, write_night
from tests.synthetic import make_catalogue, make_interactions


@pytest.fixture
def published(layout: Layout) -> Layout:
    """A root with a published night."""
    catalogue = make_catalogue()
    catalogue["category_path"] = [list(row) for row in catalogue[["department", "category"]].itertuples(index=False)]
    catalogue["title"] = [f"[red]Thing {n}[/red]\x1b[2J" for n in range(len(catalogue))]
    write_night(layout, make_interactions(), catalogue)
    publish(layout)
    return layout


class TestRecommend:
    def test_shows_the_users_items(self, published: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("recommend", "user-003", "--root", str(published.root), "-n", "3") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"User user-003: day {DAY}, model_version {VERSION}"
        assert lines[1].split() == ["rank", "item", "category", "score", "item", "id"]
        assert [line.split()[0] for line in lines[2:]] == ["1", "2", "3"]
        assert all("item-" in line for line in lines[2:])

    def test_a_hostile_title_is_only_text(self, published: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        call("recommend", "user-003", "--root", str(published.root), "-n", "1")
        out = capsys.readouterr().out
        assert "[red]Thing" in out
        assert "\x1b" not in out

    def test_an_unknown_user_is_one_sentence(self, published: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        assert call("recommend", "user-03", "--root", str(published.root)) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("hmamba: user 'user-03' is not among the 40 users published")
        assert captured.err.count("\n") == 1

    def test_nothing_published_says_what_to_do(self, layout: Layout, capsys: pytest.CaptureFixture[str]) -> None:
        layout.root.mkdir()
        assert call("recommend", "u", "--root", str(layout.root)) == 2
        assert "Run a night first: hmamba run --root" in capsys.readouterr().err

    def test_no_items_is_no_answer(self, published: Layout) -> None:
        assert call("recommend", "user-003", "--root", str(published.root), "-n", "0") == 2

    def test_the_history_is_that_of_the_nights_snapshot(
        self, published: Layout, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ("recommend", "user-003", "--root", str(published.root), "-n", "4", "--with-history")
        assert call(*arguments, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["user"], found["day"], found["model_version"]) == ("user-003", str(DAY), VERSION)
        assert [row["rank"] for row in found["rows"]] == [1, 2, 3, 4]
        events = make_interactions().query("user_id == 'user-003'").sort_values("event_time", ascending=False)
        assert [event["time"] for event in found["history"]] == [time.isoformat() for time in events.event_time[:4]]
        assert {event["item_id"] for event in found["history"]} <= set(events.item_id)
        assert call(*arguments) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[6] == "History, newest first:"
        assert [line[:19] for line in lines[8:]] == [str(time)[:19] for time in events.event_time[:4]]

    def test_without_the_working_folder_there_is_no_history(
        self, published: Layout, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.rmtree(published.run(DAY, RUN).folder)
        arguments = ("recommend", "user-003", "--root", str(published.root), "--with-history")
        assert call(*arguments, "--json") == 0
        assert json.loads(capsys.readouterr().out)["history"] is None
        assert call(*arguments) == 0
        assert "History: the working folder of that night has been deleted." in capsys.readouterr().out
