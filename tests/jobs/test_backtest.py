"""Past nights replayed with the real steps, in a folder of their own."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from hmamba.backtest.judge import VARIANTS
from hmamba.errors import ConfigError, InputError
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json, sha256
from jobs import ingest
from jobs.backtest import FINE_TUNED, FULL, Replay, run_backtest
from tests.landing import TINY
from tests.synthetic import make_catalogue, make_interactions, write_landing

FIRST, LAST = date(2024, 1, 25), date(2024, 1, 26)
SETTINGS = TINY.replace("exclude_seen = false", "exclude_seen = true")
DESCRIBED = '[catalogue]\npath = "landing/products*.csv"\n[users]\npath = "landing/people.csv"\n'


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose warehouse holds a month, and nothing else."""
    layout = Layout.at(tmp_path_factory.mktemp("backtest"))
    layout.config.write_text(SETTINGS + DESCRIBED)
    write_landing(layout.root, make_interactions(users=30, items=40, days=30))
    make_catalogue(40).to_csv(layout.landing / "products-1.csv", index=False)
    (layout.landing / "people.csv").write_text("user_id,age\nuser-001,17\n")
    assert ingest.main(["--root", str(layout.root), "--day", "2024-01-30"]) == 0
    return layout.root


@pytest.fixture(scope="module")
def replayed(loaded: Path) -> tuple[Path, list[str], str]:
    """The root after a backtest of two nights; what the root held before it, and the tables."""
    before = contents(loaded)
    text, target = run_backtest(Replay.of(str(loaded), FIRST, LAST, 1, None))
    assert target.is_file()
    return loaded, before, text


def contents(root: Path) -> list[str]:
    """Every file outside of the backtests, with its digest."""
    files = [path for path in root.rglob("*") if path.is_file() and "backtests" not in path.parts]
    return sorted(f"{path.relative_to(root)} {sha256(path)}" for path in files)


def test_nothing_outside_of_its_folder_changes(replayed: tuple[Path, list[str], str]) -> None:
    root, before, _ = replayed
    assert contents(root) == before
    assert not (root / "models").exists()


def test_each_night_is_judged_with_every_variant(replayed: tuple[Path, list[str], str]) -> None:
    root, _, text = replayed
    folder = root / "backtests" / f"{FIRST}_{LAST}_every-1"
    nights = [read_json(path) for path in sorted((folder / "nights").iterdir())]
    assert [night["day"] for night in nights] == [str(FIRST + timedelta(days=n)) for n in range(2)]
    systems = {f"{chain}, {variant}" for chain in (FINE_TUNED, FULL) for variant in VARIANTS}
    for night in nights:
        assert set(night["measured"]) == {"popularity", *systems}
        assert all(len(found["deciding"]) == len(night["user_ids"]) for found in night["measured"].values())
        assert len(set(night["user_ids"])) == len(night["user_ids"]) > 0
        assert f"| {night['day']} | {len(night['user_ids'])} |" in text
    assert "fine-tuned, recounted against fine-tuned, as trained" in text
    assert "| | NDCG@10 | HR@10 | MRR@10 | recall@5 |" in text
    shown = (folder / "index.html").read_text(encoding="utf-8")
    deepest = np.average(
        [night["measured"]["popularity"]["means"]["recall@5"] for night in nights],
        weights=[len(night["user_ids"]) for night in nights],
    )
    assert '<th class="n">recall@5</th>' in shown
    assert f"{deepest:.4f} |" in next(line for line in text.splitlines() if line.startswith("| popularity |"))


def test_later_nights_are_fine_tuned_in_one_chain_and_trained_from_scratch_in_the_other(
    replayed: tuple[Path, list[str], str],
) -> None:
    folder = replayed[0] / "backtests" / f"{FIRST}_{LAST}_every-1"
    parents = {
        chain: [
            read_json(path)["parent"]
            for path in sorted((folder / chain.replace(" ", "-") / "models").glob("*/config.json"))
        ]
        for chain in (FINE_TUNED, FULL)
    }
    assert parents[FULL] == [None] * 2
    assert sum(parent is None for parent in parents[FINE_TUNED]) == 1


def test_an_interrupted_backtest_resumes(replayed: tuple[Path, list[str], str], tmp_path: Path) -> None:
    shutil.copytree(replayed[0], tmp_path / "root", symlinks=True)
    what = Replay.of(str(tmp_path / "root"), FIRST, LAST, 1, None)
    kept = what.backtest.folder / "nights"
    (kept / f"{LAST}.json").unlink()
    written = (kept / f"{FIRST}.json").stat().st_mtime_ns
    text, _ = run_backtest(what)
    assert (kept / f"{FIRST}.json").stat().st_mtime_ns == written
    assert text == replayed[2]


def test_changed_settings_or_events_are_refused(replayed: tuple[Path, list[str], str], tmp_path: Path) -> None:
    root = shutil.copytree(replayed[0], tmp_path / "root", symlinks=True)
    layout = Layout.at(root)
    layout.config.write_text(SETTINGS.replace("epochs = 4", "epochs = 3") + DESCRIBED)
    with pytest.raises(InputError, match=r"the settings have changed since .* Remove that folder"):
        run_backtest(Replay.of(str(root), FIRST, LAST, 1, None))
    layout.config.write_text(SETTINGS + DESCRIBED)
    late = "user_id,item_id,event_time\nsomebody,item-001,2024-01-20 10:00:00\n"
    (layout.landing / "interactions" / "late.csv").write_text(late)
    assert ingest.main(["--root", str(root), "--day", "2024-01-30"]) == 0
    with pytest.raises(InputError, match="the events have changed since"):
        run_backtest(what := Replay.of(str(root), FIRST, LAST, 1, None))
    shutil.rmtree(what.backtest.folder)  # as the message says
    assert run_backtest(what)[1].is_file()


def test_nights_that_the_gate_refuses_are_judged_as_such(tmp_path: Path) -> None:
    """On five users nothing can be shown; and nothing came after the last night."""
    Layout.at(tmp_path).config.write_text(SETTINGS + '[gate]\nfirst_night = "refuse"\n')
    write_landing(tmp_path, make_interactions(users=5, items=40, days=30))
    assert ingest.main(["--root", str(tmp_path), "--day", "2024-01-30"]) == 0
    text, target = run_backtest(Replay.of(str(tmp_path), date(2024, 1, 25), date(2024, 1, 30), 5, None))
    night = read_json(target.parent / "nights" / "2024-01-25.json")
    assert night["serving"] == {FINE_TUNED: None, FULL: None}
    assert set(night["measured"]) == {"popularity"}
    assert read_json(target.parent / "nights" / "2024-01-30.json")["measured"] == {}
    assert "| 2024-01-30 | 0 |" in text


@pytest.mark.parametrize(
    ("settings", "first", "error", "message"),
    [
        ("", date(2024, 1, 27), ConfigError, "--from 2024-01-27 is after --to 2024-01-26"),
        ('[source.columns]\nposition = "position"\n', FIRST, ConfigError, "no past nights"),
    ],
)
def test_invalid_options_are_refused(
    loaded: Path, tmp_path: Path, settings: str, first: date, error: type[Exception], message: str
) -> None:
    shutil.copytree(loaded, tmp_path / "root", ignore=shutil.ignore_patterns("backtests"))
    Layout.at(tmp_path / "root").config.write_text(settings)
    with pytest.raises(error, match=message):
        Replay.of(str(tmp_path / "root"), first, LAST, 1, None)


def test_a_root_without_a_warehouse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"warehouse\.duckdb does not exist"):
        Replay.of(str(tmp_path), FIRST, LAST, 1, None)
