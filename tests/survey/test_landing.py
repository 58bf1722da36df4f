from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import pytest

from hmamba.config import Config, parse
from hmamba.errors import InputError
from hmamba.quality.row_rules import EVENT_RULES
from hmamba.storage.layout import Layout
from hmamba.survey.landing import Examined, examine, examine_catalogue
from tests.landing import Root
from tests.synthetic import make_interactions, write_landing

HEADER = "user_id,item_id,event_time,weight\n"
GOOD = "u1,i1,2024-05-01T10:00:00,1\nu1,i1,2024-05-02T10:00:00,1\nu2,i2,2024-05-03T10:00:00,1\n"
WEIGHTED = {"source": {"columns": {"weight": "weight"}}}


def look(layout: Layout, text: str, values: dict[str, object] | None = None, name: str = "a.csv") -> Examined:
    folder = layout.landing / "interactions"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    found = examine(layout, parse(values or {}, "test"))
    assert found is not None
    return found


def test_rows_users_items_and_days_are_counted(layout: Layout) -> None:
    found = look(layout, HEADER + GOOD)
    figures = found.figures
    assert (figures.files, figures.total, figures.exact, figures.looked) == (1, 3, True, 3)
    assert (figures.users, figures.items) == (2, 2)
    assert (figures.oldest, figures.newest) == (datetime(2024, 5, 1, 10), datetime(2024, 5, 3, 10))
    assert found.repeated == pytest.approx(1 / 3)
    assert (found.refusals, found.stops) == ((), ())


def test_all_files_of_a_shop_are_good(layout: Layout) -> None:
    write_landing(layout.root, make_interactions(), "a.parquet")
    write_landing(layout.root, make_interactions(seed=1), "b.jsonl.gz")
    found = examine(layout, Config())
    assert found is not None
    assert found.figures.total == len(make_interactions()) + len(make_interactions(seed=1))
    assert (found.refusals, found.stops) == ((), ())


def test_no_files_give_no_findings(layout: Layout) -> None:
    (layout.landing / "interactions").mkdir(parents=True)
    assert examine(layout, Config()) is None


@pytest.mark.parametrize(
    ("row", "rule", "example", "cure"),
    [
        (",i1,2024-05-01,1", "user_id_present", "line 5: ''", "source.columns.user_id"),
        ("u,i,1716985932,1", "event_time_readable", "line 5: '1716985932'", "source.time_format = 'epoch_s'"),
        ("u,i,13.5.2024,1", "event_time_readable", "line 5: '13.5.2024'", "write times as 2024-05-31T18:30:00Z"),
        ("u,i,1984-05-01,1", "event_time_not_before", "line 5: '1984-05-01'", "quality.min_time"),
        ("u,i,2224-05-01,1", "event_time_not_after", "line 5: '2224-05-01'", "source.time_format"),
        ("u,i,2024-05-01,many", "weight_is_number", "line 5: 'many'", "source.columns.weight"),
        ("u,i,2024-05-01,1e99", "weight_in_bounds", "line 5: '1e99'", "quality.max_weight"),
        ("u,i,2024-05-01", "record_readable", "line 5", "fix the record"),
    ],
)
def test_refused_rows_have_a_place_a_value_and_a_cure(
    layout: Layout, row: str, rule: str, example: str, cure: str
) -> None:
    found = look(layout, HEADER + GOOD + row + "\n", WEIGHTED)
    refusal = next(refusal for refusal in found.refusals if refusal.rule == rule)
    assert refusal.rows == 1
    assert refusal.example == f"landing/interactions/a.csv, {example}"
    assert cure in refusal.cure


def test_a_type_without_a_meaning_is_shown(layout: Layout) -> None:
    text = "user_id,item_id,event_time,kind\nu,i,2024-05-01,buy\nu,i,2024-05-02,buy\nu,j,2024-05-02,gaze\n"
    values = {"source": {"columns": {"event_type": "kind"}}, "events": {"buy": {}}}
    found = look(layout, text, values)
    (refusal,) = found.refusals
    assert (refusal.rule, refusal.rows) == ("event_type_known", 1)
    assert refusal.example.endswith("line 4: 'gaze'")
    assert refusal.cure.startswith("[events]")
    assert found.repeated == 0.5  # gazes do not count as seen


def test_a_refusal_in_json_shows_the_value(layout: Layout) -> None:
    text = '{"user_id": "u", "item_id": "i", "event_time": 1716985932000}\n'
    (refusal,) = look(layout, text, name="a.jsonl").refusals
    assert refusal.example.endswith("line 1: '1716985932000'")
    assert "set source.time_format = 'epoch_ms'" in refusal.cure


def test_every_row_rule_of_events_has_advice_of_its_own() -> None:
    assert [rule.name for rule in EVENT_RULES if rule.advice.startswith("docs/")] == []


@pytest.mark.parametrize(
    ("header", "meant"),
    [
        (
            "UserId,item_id,event_time",
            "no column 'user_id' for user_id: did you mean source.columns.user_id = \"UserId\"?",
        ),
        ("user_id,sku,event_time", 'did you mean source.columns.item_id = "sku"?'),
        ("user_id,item_id,when", 'did you mean source.columns.event_time = "when"?'),
    ],
)
def test_a_missing_column_has_a_suggestion(layout: Layout, header: str, meant: str) -> None:
    found = look(layout, f"{header}\nu,i,2024-05-01\n")
    (problem,) = found.stops
    assert meant in problem
    assert problem.startswith("landing/interactions/a.csv")


def test_a_damaged_file_does_not_hide_the_others(layout: Layout) -> None:
    folder = layout.landing / "interactions"
    folder.mkdir(parents=True)
    (folder / "b.parquet").write_bytes(b"PAR1 no more")
    (folder / "c.csv").write_text(HEADER + 'u,i,2024-05-01,"1\n', encoding="utf-8")
    found = look(layout, HEADER + GOOD)
    assert found.figures.looked == 3
    assert sorted(Path(problem.split()[0].strip(",")).name for problem in found.stops) == ["b.parquet", "c.csv"]


NO_USER, NO_TIME = ",i,2024-05-01,1\n", "u,i,soon,1\n"


def test_too_many_refused_rows_stop_the_pull(layout: Layout) -> None:
    found = look(layout, HEADER + GOOD * 28 + NO_USER * 6 + NO_TIME * 6)
    assert [refusal.rows for refusal in found.refusals] == [6, 6]
    (sentence,) = found.stops
    assert sentence.startswith("12 of 96 rows would be refused (12.5%); more than 10% stop the pull.")


def test_a_row_that_breaks_two_rules_is_refused_once(layout: Layout) -> None:
    found = look(layout, HEADER + GOOD * 30 + ",i,soon,1\n" * 6)
    assert [refusal.rows for refusal in found.refusals] == [6, 6]
    assert found.stops == ()


def test_a_file_that_is_refused_whole_stops_the_pull(layout: Layout) -> None:
    look(layout, HEADER + GOOD * 30)
    found = look(layout, HEADER + NO_USER, name="b.csv")
    (sentence,) = found.stops
    assert sentence.startswith("landing/interactions/b.csv: every one of its 1 row would be refused. Correct the file")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (HEADER + GOOD * 28 + NO_USER * 6 + NO_TIME * 6, "quarantined_share"),
        (HEADER + NO_USER, "files_refused_whole"),
    ],
)
def test_the_pull_stops_as_predicted(root: Root, text: str, rule: str) -> None:
    root.drop("good.csv", HEADER + GOOD)
    root.drop("a.csv", text)
    found = examine(root.layout, Config())
    assert found is not None
    assert len(found.stops) == 1 + (rule == "files_refused_whole")  # one row of four is a large share as well
    code, _, log = root.step("ingest", date(2024, 5, 3))
    assert (code, rule in log) == (3, True)


def test_a_first_pull_without_rows_raises_the_pulls_error(root: Root) -> None:
    root.drop("a.csv", HEADER)
    with pytest.raises(InputError, match=r"a\.csv holds no rows") as error:
        examine(root.layout, Config())
    assert str(error.value) in root.step("ingest", date(2024, 5, 3))[2]


def test_files_without_rows_are_accepted_after_a_first_pull(layout: Layout) -> None:
    layout.root.mkdir()
    layout.warehouse.touch()
    found = look(layout, HEADER)
    assert (found.figures.total, found.stops) == (0, ())


class TestCatalogue:
    """Whether a configured catalogue can be read."""

    def look(self, layout: Layout, path: str, **columns: object) -> int:
        layout.root.mkdir()
        (layout.root / "items.csv").write_text("item_id,title,x,x\ni,Thing,,\n", encoding="utf-8")
        (layout.root / "items.jsonl").write_text('{"item_id": "i", "title": "Thing"}\n', encoding="utf-8")
        return len(examine_catalogue(layout, parse({"catalogue": {"path": path, **columns}}, "test")))

    @pytest.mark.parametrize(("path", "files"), [("items.csv", 1), ("items.*", 2), ("items*.parquet", 0)])
    def test_its_files_are_counted(self, layout: Layout, path: str, files: int) -> None:
        assert self.look(layout, path, title="title") == files

    @pytest.mark.parametrize("path", ["items.csv", "items.jsonl"])
    def test_a_missing_column_is_named(self, layout: Layout, path: str) -> None:
        with pytest.raises(InputError, match="has no column 'group'"):
            self.look(layout, path, title="title", category_path=["group"])

    def test_a_missing_file_is_named(self, layout: Layout) -> None:
        with pytest.raises(InputError, match=r"catalogue\.path = 'things\.csv'.*does not exist"):
            self.look(layout, "things.csv")
