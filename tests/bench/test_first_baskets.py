"""First baskets: a segment that decides what is taken is found, one that does not is not, and the command runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.datasets import load
from bench.first_baskets import ALL, described, first_baskets, main, measure
from hmamba.errors import InputError


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """60 users of two kinds. Each kind takes items of its own; coins decide nothing. The last ten are not described."""
    random = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{user % 2}-{item}", pd.Timestamp(2024, 1, day))
        for user in range(60)
        for day in (1, 2, 3)
        for item in random.choice(12, 4, replace=False)
    ]
    events, users = tmp_path / "events.parquet", tmp_path / "people.parquet"
    pd.DataFrame(rows, columns=["user_id", "item_id", "event_time"]).to_parquet(events, index=False)
    people = {"who": [f"u{user}" for user in range(50)], "kind": [str(user % 2) for user in range(50)]}
    coins = random.choice(["heads", "tails", None], 50)
    pd.DataFrame({**people, "coin": coins}).to_parquet(users, index=False)
    return events, users


def test_first_baskets_are_those_of_the_first_time(files: tuple[Path, Path]) -> None:
    data = load(str(files[0]))
    rows, items = first_baskets(data.histories, np.array([3, 0]))
    frame = pd.read_parquet(files[0])
    frame = frame[frame.event_time == pd.Timestamp(2024, 1, 1)]
    ids = data.histories.users.to_pylist()
    for row, user in enumerate((3, 0)):
        found = {data.ids[int(item)].as_py() for item in items[rows == row]}
        assert found == set(frame[frame.user_id == ids[user]].item_id)


def test_a_segment_that_decides_is_better_and_one_that_does_not_is_not(files: tuple[Path, Path]) -> None:
    data = load(str(files[0]))
    known = described(data, files[1], "who")
    assert len(known.users) == 50
    found = measure(data, known, [("kind",), ("coin",), ("coin", "kind")], folds=4, min_users=5, seed=0)
    means = {name: values["ndcg@10"].mean() for name, values in found.items()}
    assert list(means) == [ALL, "kind", "coin", "coin, then kind"]
    assert means["kind"] > means[ALL] * 1.3
    assert means["coin"] == pytest.approx(means[ALL], rel=0.25)
    large = measure(data, known, [("kind",)], folds=4, min_users=1_000, seed=0)
    assert large["kind"]["hr@10"].tolist() == large[ALL]["hr@10"].tolist()


def test_the_command_writes_a_page(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--users", str(files[1]), "--user-column", "who", "--min-users", "5"]
    assert main([str(files[0]), *options, "--page", str(tmp_path / "page.md")]) == 0
    text = (tmp_path / "page.md").read_text()
    assert text in capsys.readouterr().out
    assert "50 of 60 users are described" in text
    assert str(tmp_path) not in text
    assert [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")][2:] == [
        "| all users",
        "| kind",
        "| coin",
    ]


def test_wrong_names_are_errors(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    data = load(str(files[0]))
    with pytest.raises(InputError, match=r"has no column 'user_id'\. Name one of who, kind, coin"):
        described(data, files[1], "user_id")
    with pytest.raises(InputError, match="is not a Parquet file"):
        described(data, files[1].with_name("nothing.parquet"), "who")
    with pytest.raises(InputError, match="describes no user"):
        described(data, files[1], "kind")
    assert main([str(files[0]), "--users", str(files[1]), "--user-column", "who", "--segments", "age"]) == 2
