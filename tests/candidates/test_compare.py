"""Two published tables beside each other: planted changes, and a slow reference on random ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import hmamba
from hmamba.candidates.compare import TableComparison, compare, two_days
from hmamba.contracts.manifest import PublishedFile
from hmamba.errors import InputError
from hmamba.storage.layout import Layout
from hmamba.storage.local import sha256
from tests.documents import manifest
from tests.jobs.commands.call import call
from tests.landing import DAY, Root
from tests.scored import write_part, write_run
from tests.synthetic import make_interactions

BEFORE, NOW = date(2024, 1, 29), date(2024, 1, 30)

Lists = Mapping[str, Sequence[str]]


def put(layout: Layout, day: date, k: int, *shards: Lists) -> None:
    """Publish lists as the table of a day."""
    files = []
    for number, lists in enumerate(shards):
        rows = [
            (user, rank, item, 1 / rank, "v1") for user in sorted(lists) for rank, item in enumerate(lists[user], 1)
        ]
        part = layout.published(day) / f"part-{number:04d}.parquet"
        write_part(part, pd.DataFrame(rows, columns=["user_id", "rank", "item_id", "score", "model_version"]))
        path = part.relative_to(layout.root).as_posix()
        files.append(PublishedFile(path=path, rows=len(rows), bytes=part.stat().st_size, sha256=sha256(part)))
    users = sum(map(len, shards))
    written = manifest(day=day, k=k, users=users, rows=sum(file.rows for file in files), files=files)
    written.write(layout.published_manifest(day))


@pytest.fixture
def planted(layout: Layout) -> Layout:
    """Lists of three: one user keeps the list, one swaps two items, one gets two new items, one leaves, one comes."""
    before = {"a": ["1", "2", "3"], "b": ["1", "2", "3"], "c": ["1", "2", "3"], "gone": ["9", "1"]}
    now = {"a": ["1", "2", "3"], "b": ["2", "1", "3"], "c": ["3", "4"], "new": ["4", "1", "2"]}
    put(layout, BEFORE, 3, before)
    put(layout, NOW, 3, now)
    return layout


def test_what_was_planted_is_found(planted: Layout) -> None:
    found = compare(planted, BEFORE, NOW)
    assert (found.before.day, found.before.rows, found.before.items) == (BEFORE, 11, 4)
    assert (found.now.day, found.now.rows, found.now.items, found.now.coverage) == (NOW, 11, 4, None)
    assert (found.users_in_both, found.users_gained, found.users_lost) == (3, 1, 1)
    assert (found.users_with_more_rows, found.users_with_fewer_rows) == (0, 1)
    assert (found.first, found.depth) == (3, 3)
    assert found.churn_first == found.churn_all == 1 / 8
    assert (found.same_best, found.same_first) == (1 / 3, 2 / 3)
    assert found.rank_correlation == pytest.approx((1.0 + 0.5) / 2)
    assert found.users_correlated == 2
    changed = {change.item_id: (change.users_before, change.users_now) for change in (*found.gained, *found.lost)}
    assert changed == {"4": (0, 2), "1": (4, 3), "9": (1, 0)}
    assert [change.item_id for change in found.lost] == ["1", "9"]
    first = found.examples[0]
    assert first.user == "c"
    assert [(item.item_id, item.in_both) for item in first.before] == [("1", False), ("2", False), ("3", True)]
    assert [(item.item_id, item.in_both) for item in first.now] == [("3", True), ("4", False)]
    assert first.history is None


def test_the_other_way_round(planted: Layout) -> None:
    there, back = compare(planted, BEFORE, NOW, users=0), compare(planted, NOW, BEFORE, users=0)
    assert (back.users_gained, back.users_lost) == (there.users_lost, there.users_gained)
    assert (back.gained[0].item_id, back.lost[0].item_id) == (there.lost[0].item_id, there.gained[0].item_id)
    assert back.rank_correlation == there.rank_correlation
    assert there.examples == ()


def reference(before: Lists, now: Lists, first: int, depth: int) -> dict[str, float]:
    """The same figures by plain loops."""
    both = sorted(before.keys() & now.keys())
    correlations = []
    for user in both:
        common = [item for item in now[user] if item in before[user]]
        if len(common) > 1:
            places = [before[user].index(item) for item in common]
            correlations.append(spearmanr(places, range(len(common))).statistic)

    def churn(most: int) -> float:
        new = sum(item not in before[user][:most] for user in both for item in now[user][:most])
        return new / sum(len(now[user][:most]) for user in both)

    return {
        "churn_first": churn(first),
        "churn_all": churn(depth),
        "rank_correlation": float(np.mean(correlations)),
        "same_best": float(np.mean([before[user][0] == now[user][0] for user in both])),
        "same_first": float(np.mean([set(now[user][:first]) == set(before[user][:first]) for user in both])),
    }


@pytest.mark.parametrize(("ks", "shards"), [((15, 15), (1, 1)), ((20, 12), (2, 4)), ((8, 6), (2, 3))])
def test_random_tables_as_by_plain_loops(layout: Layout, ks: tuple[int, int], shards: tuple[int, int]) -> None:
    random = np.random.default_rng(sum(ks))
    tables: list[dict[str, list[str]]] = []
    for k in ks:
        users = random.choice(60, size=50, replace=False)
        tables.append({f"u{user}": [str(item) for item in random.permutation(25)[:k]] for user in users})
    for day, table, k, number in zip((BEFORE, NOW), tables, ks, shards, strict=True):
        put(layout, day, k, *_in_shards(table, number))
    found, depth = vars(compare(layout, BEFORE, NOW, users=0)), min(ks)
    expected = reference(*tables, first=min(10, depth), depth=depth)
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def _in_shards(table: Lists, number: int) -> list[dict[str, Sequence[str]]]:
    import hashlib

    shards: list[dict[str, Sequence[str]]] = [{} for _ in range(number)]
    for user, items in table.items():
        shards[int(hashlib.md5(user.encode()).hexdigest()[:8], 16) % number][user] = items
    return shards


def test_examples_are_from_the_most_changed_to_the_least_and_the_same_every_time(layout: Layout) -> None:
    old = [str(number) for number in range(10)]
    now = {f"u{number}": [*old[number:], *(f"new {new}" for new in range(number))] for number in range(11)}
    put(layout, BEFORE, 10, dict.fromkeys(now, old))
    put(layout, NOW, 10, now)
    assert [one.user for one in compare(layout, BEFORE, NOW, users=3).examples] == ["u10", "u5", "u0"]
    assert [one.user for one in compare(layout, BEFORE, NOW, users=1).examples] == ["u10"]
    assert len(compare(layout, BEFORE, NOW, users=99).examples) == 11
    assert [one.user for one in compare(layout, BEFORE, NOW, user="u7").examples] == ["u7"]
    with pytest.raises(InputError, match="user 'u11' is in neither of the tables of 2024-01-29 and 2024-01-30"):
        compare(layout, BEFORE, NOW, user="u11")


def test_tables_without_common_users_have_no_shares(layout: Layout) -> None:
    put(layout, BEFORE, 3, {"a": ["1"]})
    put(layout, NOW, 3, {"b": ["1"]})
    found = compare(layout, BEFORE, NOW)
    assert (found.churn_first, found.same_best, found.rank_correlation, found.examples) == (None, None, None, ())


class TestDays:
    def test_the_newest_ones_by_default(self, layout: Layout) -> None:
        days = [date(2024, 1, day) for day in (1, 2, 5)]
        for day in days:
            put(layout, day, 3, {"a": ["1"]})
        assert two_days(layout, None, None) == (days[1], days[2])
        assert two_days(layout, days[0], None) == (days[0], days[2])
        assert two_days(layout, days[2], None) == (days[1], days[2])
        assert two_days(layout, None, days[1]) == (days[0], days[1])
        assert two_days(layout, days[2], days[0]) == (days[2], days[0])
        with pytest.raises(InputError, match="Both tables are of 2024-01-01: name another day"):
            two_days(layout, days[0], days[0])

    def test_a_day_that_is_not_published_is_told_those_that_are(self, planted: Layout) -> None:
        told = "No table of 2024-02-01 is published. Published: 2024-01-29, 2024-01-30."
        with pytest.raises(InputError, match=told):
            two_days(planted, date(2024, 2, 1), None)

    def test_one_table_has_nothing_to_be_compared_with(self, layout: Layout) -> None:
        with pytest.raises(InputError, match=r"Two published tables are needed. Nothing is published: run a night"):
            two_days(layout, None, None)
        put(layout, NOW, 3, {"a": ["1"]})
        with pytest.raises(InputError, match=r"Two published tables are needed. Published: 2024-01-30\."):
            two_days(layout, NOW, None)

    def test_many_days_are_not_all_listed(self, layout: Layout) -> None:
        for day in range(1, 15):
            put(layout, date(2024, 1, day), 3, {"a": ["1"]})
        with pytest.raises(InputError, match=r"Published: 2024-01-05, .*, 2024-01-14 and 4 earlier ones\."):
            two_days(layout, date(2023, 1, 1), None)


@pytest.fixture
def nights(root: Root) -> Root:
    """Two nights that were published from snapshots, the second with a week of events less."""
    root.configure("[candidates]\nk = 10\n")
    events = make_interactions()
    write_run(root.layout, events[events.event_time < "2024-01-23"], BEFORE)
    root.ok("publish", BEFORE)
    write_run(root.layout, events, DAY)
    root.ok("publish", DAY)
    return root


def of(nights: Root, *arguments: str) -> int:
    return call("compare", "--root", str(nights.layout.root), *arguments)


def test_titles_history_and_coverage_come_from_the_nights(nights: Root) -> None:
    found = hmamba.open(nights.layout.root).compare(BEFORE, str(DAY), users=2)
    assert isinstance(found, TableComparison)
    indexed = len(pd.read_parquet(nights.layout.run(DAY, "manual").item_points))
    assert found.now.coverage == found.now.items / indexed
    assert found.churn_first
    example = found.examples[0]
    events = make_interactions().query(f"user_id == {example.user!r}")
    assert example.history is not None
    assert {event.item_id for event in example.history} <= set(events.item_id)
    assert all(item.title == f"Thing {int(item.item_id[-3:])}" for item in (*example.before, *example.now))
    assert all(change.title for change in (*found.gained, *found.lost))
    shutil.rmtree(nights.layout.run(DAY, "manual").folder)
    assert hmamba.open(nights.layout.root).compare(users=1).examples[0].history is None


def test_the_guard_and_the_comparison_measure_the_same(nights: Root) -> None:
    nights.configure("[candidates]\nk = 10\n[publish.guards]\nwarn_churn = 0\n")
    guarded = nights.ok("publish", DAY)["guards"]["churn"]["value"]
    assert compare(nights.layout, BEFORE, DAY).churn_first == guarded > 0


def test_the_command_in_words_and_as_json(nights: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert of(nights, "-n", "3", "--users", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [str(BEFORE), str(DAY)]
    assert lines[1].split() == ["model_version", "v1", "v1"]
    text = "\n".join(lines)
    assert "Users: 40 in both tables (0 of them with more rows, 0 with fewer), 0 only in 2024-01-30" in text
    assert "of the first 10 (churn)" in text
    assert "Items that more users have among their first 10:" in text
    assert "history, newest first" in text
    assert " of 10 items are new" in text
    assert of(nights, str(BEFORE), str(DAY), "--json", "--users", "1") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["before"]["day"], found["now"]["day"]) == (str(BEFORE), str(DAY))
    assert f"{100 * found['churn_first']:.1f} % of the first 10" in text
    assert len(found["examples"][0]["now"]) == 10


def test_a_wrong_day_is_one_sentence(nights: Root, capsys: pytest.CaptureFixture[str]) -> None:
    assert of(nights, "2024-03-01") == 2
    assert capsys.readouterr().err == (
        "hmamba: No table of 2024-03-01 is published. Published: 2024-01-29, 2024-01-30.\n"
    )
    assert of(nights, "2024-01-29", "2024-01-30", "2024-01-31") == 2
    assert "give at most two days" in capsys.readouterr().err


def test_a_cut_file_is_named(nights: Root, capsys: pytest.CaptureFixture[str]) -> None:
    part: Path = nights.layout.published_parts(BEFORE)[1]
    part.write_bytes(part.read_bytes()[:-9])
    assert of(nights) == 2
    assert f"{part} is named by" in capsys.readouterr().err
