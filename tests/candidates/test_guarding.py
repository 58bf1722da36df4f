"""Guards in the night: a table that changes too much waits for a person, who can let it through once."""

from __future__ import annotations

import json
import re
import shlex
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from hmamba.contracts.checks import CheckRecord
from jobs import publish
from tests.documents import edit
from tests.jobs.commands.call import call
from tests.landing import DAY, Root
from tests.scored import SHARDS, record_part, write_part, write_run
from tests.synthetic import make_interactions

K = 10
NEXT = DAY + timedelta(days=1)
STOPS = "[candidates]\nk = 10\n[publish.guards]\nmax_churn = 0.5\n"


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    return make_interactions()


@pytest.fixture
def shop(root: Root, events: pd.DataFrame) -> Root:
    """A root with a published night and a second one that waits, with the same lists."""
    root.configure("[candidates]\nk = 10\n")
    write_run(root.layout, events, DAY)
    root.ok("publish")
    write_run(root.layout, events, NEXT)
    return root


def reorder(root: Root) -> float:
    """Give each user of the waiting night other items, of those that may be recommended; returns the churn."""
    run = root.layout.run(NEXT, "manual")
    eligible = pd.read_parquet(run.item_points).merge(pd.read_parquet(run.items))
    new = entries = 0
    for shard in range(SHARDS):
        seen = pd.read_parquet(run.shard(shard)).groupby("user_id").item_index.agg(set)
        rows: list[tuple[Any, ...]] = []
        for user, own in pd.read_parquet(run.candidate_part(shard)).groupby("user_id").item_id:
            left = eligible[~eligible.item_index.isin(seen[user])].sort_values("events").item_id.tolist()
            chosen = left[: len(own)]
            rows += [(user, rank, item, 1 / rank, "v1") for rank, item in enumerate(chosen, 1)]
            new, entries = new + len(set(chosen) - set(own)), entries + len(own)
        frame = pd.DataFrame(rows, columns=["user_id", "rank", "item_id", "score", "model_version"])
        write_part(run.candidate_part(shard), frame)
        record_part(run, shard, shard + 1)
    return new / entries


def published(root: Root) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.layout.candidates.rglob("*") if path.is_file()}


def last_check(root: Root) -> tuple[CheckRecord, str]:
    """The newest check of candidates, and its page."""
    path = root.layout.checks.all_records[-1]
    return CheckRecord.read(path), root.layout.checks.page(path).read_text(encoding="utf-8")


def commands(log: str) -> list[list[str]]:
    """The commands that an error names, as a shell splits them."""
    return [shlex.split(found) for found in re.findall(r"(?:hmamba|python -m) [^,(]*[^,( ]", log)]


def test_a_table_like_the_one_before_passes_and_says_what_was_found(shop: Root) -> None:
    shop.configure(f"{STOPS}max_top_item = 1\nmin_coverage = 0.1\nmax_users_lost = 0.01\n")
    metrics = shop.ok("publish", NEXT)
    guards = metrics["guards"]
    assert {name: result["outcome"] for name, result in guards.items()} == dict.fromkeys(
        ("churn", "top_item", "coverage", "users_lost"), "passed"
    )
    assert (guards["churn"]["value"], guards["churn"]["against"], guards["churn"]["stop"]) == (0, DAY.isoformat(), 0.5)
    assert guards["top_item"]["against"] is None
    record, page = last_check(shop)
    assert {rule.name: rule.most for rule in record.rules if rule.unit == "share"}["churn"] == 0.5
    assert "publish.<wbr>guards.<wbr>max_<wbr>churn" in page


def test_a_night_that_is_stopped_keeps_the_table_and_its_cure_works(
    shop: Root, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.configure(STOPS)
    churn = reorder(shop)
    assert churn > 0.5
    before = published(shop)
    code, _, log = shop.step("publish", NEXT)
    assert code == 3
    assert (
        f"nothing has been published: {100 * churn:.3g} % of the first 10 items of 40 users were not among their first "
        f"10 in the table of {DAY} (churn), more than publish.guards.max_churn = 0.5. Readers still have" in log
    )
    assert "Otherwise find out what has changed, or change publish.guards.max_churn." in log
    assert published(shop) == before
    record, page = last_check(shop)
    assert [rule.name for rule in record.broken] == ["churn"]
    assert "1 of " in page
    assert "Nothing was published" in page

    (_, *accept), (*_, again) = commands(log)[0], commands(log)[-1]
    assert call(*accept) == 0
    assert "Next, publish again:" in capsys.readouterr().out
    arguments = commands(log)[-1]
    assert (arguments[:3], again) == (["python", "-m", "jobs.publish"], "manual")
    assert publish.main(arguments[3:]) == 0
    metrics = json.loads(shop.layout.run(NEXT, "manual").step_metrics("publish").read_text())
    assert (metrics["changed"], metrics["guards"]["churn"]["outcome"]) == (True, "accepted")
    assert metrics["guards"]["churn"]["detail"].endswith(
        "(churn), more than publish.guards.max_churn = 0.5, which was accepted for this table."
    )
    record, page = last_check(shop)
    assert ([rule.name for rule in record.warned], record.broken) == (["churn"], ())
    assert "Passed with 1 warning." in page
    assert "accepted for this table" in page
    assert shop.ok("publish", NEXT)["changed"] is False


def test_only_the_table_that_was_looked_at_is_accepted(shop: Root, events: pd.DataFrame) -> None:
    shop.configure(STOPS)
    reorder(shop)
    accept = ("accept", "churn", "--root", str(shop.layout.root), "--day", NEXT.isoformat())
    assert call(*accept) == 0
    run = shop.layout.run(NEXT, "manual")
    part = pd.read_parquet(run.candidate_part(0))
    write_part(run.candidate_part(0), part.assign(score=part.score / 2))
    record_part(run, 0, 1)
    code, _, log = shop.step("publish", NEXT)
    assert (code, "accepted.json is of another table, which has been scored again since: it is ignored." in log) == (
        3,
        True,
    )
    assert call(*accept) == 0
    shop.ok("publish", NEXT)
    later = NEXT + timedelta(days=1)
    write_run(shop.layout, events, later)
    code, _, log = shop.step("publish", later)
    assert (code, f"in the table of {NEXT} (churn)" in log) == (3, True)


def test_accepting_adds_to_what_was_accepted(shop: Root) -> None:
    run = shop.layout.run(NEXT, "manual")
    where = ("--root", str(shop.layout.root), "--day", NEXT.isoformat())
    assert call("accept", "users_lost", *where) == call("accept", "churn", *where) == 0
    assert json.loads(run.accepted.read_text())["guards"] == ["churn", "users_lost"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("churns",), "'churns' is not a guard. Name one or more of churn, top_item, coverage, users_lost."),
        (("churn", "--run-id", "other"), f"Runs of {NEXT}: manual."),
        (("churn", "--day", "2023-01-01"), "There is no run of 2023-01-01; correct --day."),
    ],
)
def test_what_cannot_be_accepted_says_what_can(
    shop: Root, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    where = ("--root", str(shop.layout.root), "--day", NEXT.isoformat())
    assert call("accept", *where, *arguments) == 2
    assert told in capsys.readouterr().err
    assert not shop.layout.run(NEXT, "manual").accepted.exists()


def test_a_run_that_is_not_scored_cannot_be_accepted(shop: Root, capsys: pytest.CaptureFixture[str]) -> None:
    shop.layout.run(NEXT, "manual").step_metrics("score", 1).unlink()
    assert call("accept", "churn", "--root", str(shop.layout.root), "--day", NEXT.isoformat()) == 2
    assert "the shard has not been scored. Run the score step for shard 1" in capsys.readouterr().err


def test_a_warning_reaches_log_metrics_and_pages_but_not_readers(shop: Root) -> None:
    shop.configure("[candidates]\nk = 10\n[publish.guards]\nwarn_churn = 0.2\nmax_churn = 1\n")
    reorder(shop)
    code, metrics, log = shop.step("publish", NEXT)
    assert code == 0
    warned = metrics["guards"]["churn"]
    assert (warned["outcome"], warned["warn"], warned["stop"]) == ("warned", 0.2, 1)
    assert warned["detail"].endswith("(churn), more than publish.guards.warn_churn = 0.2.")
    assert "WARNING  hmamba:guards.py" in log
    assert f"publish: {warned['detail']}" in log
    assert metrics["summary"].endswith("; 1 warning of the guards")
    assert json.loads(shop.layout.latest.read_text())["warning"] is None
    record, page = last_check(shop)
    assert [rule.name for rule in record.warned] == ["churn"]
    assert "Passed with 1 warning." in page
    index = shop.layout.checks.index.read_text(encoding="utf-8")
    assert "passed, 1 warning" in index
    assert "warns above" in index


def test_the_first_night_says_that_nothing_was_compared(root: Root, events: pd.DataFrame) -> None:
    root.configure(STOPS)
    write_run(root.layout, events, DAY)
    code, metrics, log = root.step("publish")
    note = "churn is not judged: no table of an earlier day is published."
    assert (code, metrics["guards"]["churn"]["outcome"], metrics["guards"]["churn"]["value"]) == (0, "skipped", None)
    assert metrics["guards"]["churn"]["detail"] == note
    assert f"publish: {note}" in log
    record, page = last_check(root)
    assert note in record.notes
    assert note in page


def test_a_night_again_is_judged_as_the_first_time(shop: Root) -> None:
    """Against the night before, whatever has been published for the day itself since."""
    shop.configure(STOPS.replace("max_churn = 0.5", "warn_churn = 0.5"))
    first = shop.ok("publish", NEXT)["guards"]["churn"]["value"]
    churn = reorder(shop)
    assert shop.ok("publish", NEXT)["guards"]["churn"]["value"] == pytest.approx(churn)
    assert shop.ok("publish", NEXT)["guards"]["churn"]["value"] == pytest.approx(churn) != first


def test_an_earlier_table_that_is_cut_short_is_not_compared(shop: Root) -> None:
    shop.configure(STOPS)
    part = shop.layout.published_parts(DAY)[0]
    part.write_bytes(part.read_bytes()[:-7])
    code, metrics, log = shop.step("publish", NEXT)
    assert (code, metrics["guards"]["churn"]["outcome"]) == (0, "skipped")
    assert "the table cannot be compared with the one before: " in log


def test_a_guard_is_no_way_around_the_rules(shop: Root) -> None:
    """A table that breaks a rule as well stays unpublished when the guard is accepted."""
    shop.configure(STOPS)
    reorder(shop)
    run = shop.layout.run(NEXT, "manual")
    frame = pd.read_parquet(run.candidate_part(1))
    write_part(run.candidate_part(1), frame[frame.user_id != frame.user_id.iloc[0]])
    record_part(run, 1)
    code, _, log = shop.step("publish", NEXT)
    assert (code, "users_missing is 1" in log, "(churn)" in log) == (3, True, True)
    assert call("accept", "churn", "--root", str(shop.layout.root), "--day", NEXT.isoformat()) == 0
    code, _, log = shop.step("publish", NEXT)
    assert (code, "users_missing is 1" in log, "hmamba accept" in log) == (3, True, False)


def test_a_damaged_acceptance_is_named(shop: Root) -> None:
    shop.configure(STOPS)
    assert call("accept", "churn", "--root", str(shop.layout.root), "--day", NEXT.isoformat()) == 0
    edit(shop.layout.run(NEXT, "manual").accepted, guards=["everything"])
    code, _, log = shop.step("publish", NEXT)
    assert (code, "Remove it, and accept the guards again: hmamba accept." in log) == (2, True)
