"""Nights in a row, in one root: the first, the same again, a quiet one, one with newcomers, an old one again."""

from __future__ import annotations

import json
import shutil
from datetime import date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from hmamba.contracts.steps import TrainMetrics
from hmamba.storage.layout import Layout
from hmamba.storage.local import read_json
from jobs import gate, index, ingest, publish, score, snapshot, train
from tests.jobs.commands.call import call
from tests.nights import FIRST, QUIET, SETTINGS, THIRD, USERS, newcomers, open_shop, run_night, state
from tests.synthetic import make_catalogue, make_interactions, write_landing


@pytest.fixture(scope="module")
def after_first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A root after its first night, and that night's metrics. Tests copy it."""
    layout = Layout.at(tmp_path_factory.mktemp("nights"))
    open_shop(layout)
    return layout.root, run_night(layout, FIRST, "one")


@pytest.fixture
def shop(after_first: tuple[Path, dict[str, Any]], tmp_path: Path) -> Layout:
    shutil.copytree(after_first[0], tmp_path / "root")
    return Layout.at(tmp_path / "root")


def test_the_first_night_trains_from_nothing_and_beats_popularity(after_first: tuple[Path, dict[str, Any]]) -> None:
    metrics = after_first[1]
    assert metrics["train"]["parent"] is None
    assert metrics["gate"]["promoted"]
    assert metrics["gate"]["metrics"]["challenger"]["ndcg@10"] > metrics["gate"]["metrics"]["popularity"]["ndcg@10"]
    (compared,) = metrics["gate"]["comparisons"]
    assert (compared["one"], compared["other"], compared["says"]) == ("challenger", "popularity", "better")
    assert metrics["gate"]["split_why"] == "1 held-out day and 1 validation day, as configured"
    assert (metrics["gate"]["holdout_from"], metrics["gate"]["holdout_to"]) == ("2024-01-28", "2024-01-28")
    assert metrics["gate"]["users"] == compared["users"] <= metrics["gate"]["queries"]
    assert metrics["publish"]["rows"] == USERS * 5
    assert metrics["index"]["kind"] in ("flat", "matmul")
    assert metrics["index"]["recall"] is None  # so few items are searched exactly
    assert metrics["index"]["float32_recall"] >= 0.999
    assert 0 < metrics["index"]["float32_recall_users"] <= USERS


def test_score_terms_are_weighted_and_stored_with_the_model(after_first: tuple[Path, dict[str, Any]]) -> None:
    layout, metrics = Layout.at(after_first[0]), after_first[1]
    fitted = metrics["train"]["score_terms"]
    assert set(fitted) == {"cooccurrence", "attributes"}
    assert fitted["cooccurrence"]["weights"]["new"] > 0
    assert set(fitted["cooccurrence"]["intervals"]) == {"new"}  # seen items are excluded
    kept = {name: fit["weights"] for name, fit in fitted.items() if fit["weights"] is not None}
    for folder in (layout.model(metrics["train"]["version"]), layout.run(FIRST, "one").model):
        assert read_json(folder / "config.json")["counted_terms"] == kept
        for name in fitted:
            assert (folder / f"{name}.parquet").exists() == (name in kept)


@pytest.mark.parametrize("run_id", ["one", "again"])
def test_the_same_night_again_changes_nothing(shop: Layout, run_id: str) -> None:
    before = state(shop)
    metrics = run_night(shop, FIRST, run_id)
    assert metrics["train"]["reused"]
    assert not metrics["publish"]["changed"]
    assert state(shop) == before


def test_on_a_quiet_night_the_champion_still_publishes(shop: Layout, after_first: tuple[Path, dict[str, Any]]) -> None:
    metrics = run_night(shop, QUIET, "two")
    assert metrics["ingest"]["rows_read"] == 0
    assert metrics["train"]["version"] is None
    assert "no new events" in metrics["train"]["skipped_reason"]
    assert metrics["gate"]["serving"] == after_first[1]["train"]["version"]
    latest = read_json(shop.latest)
    assert (latest["day"], latest["rows"]) == (QUIET.isoformat(), USERS * 5)


def test_newcomers_are_served_and_old_nights_stay_what_they_were(
    shop: Layout, after_first: tuple[Path, dict[str, Any]]
) -> None:
    write_landing(shop.root, newcomers(), "later.parquet")
    metrics = run_night(shop, THIRD, "three")
    parent = after_first[1]["train"]["version"]
    assert metrics["train"]["parent"] == parent
    assert metrics["gate"]["champion"] == parent
    assert metrics["publish"]["users"] == USERS + 1
    table = duckdb.sql(f"SELECT * FROM read_parquet('{shop.published(THIRD)}/part-*.parquet')").df()
    assert (table["user_id"] == "newcomer").sum() == 5
    assert "brand new" not in set(table["item_id"])  # one event is fewer than train.min_item_events

    full = run_night(shop, THIRD, "full", full_retrain=True)
    assert full["train"]["parent"] is None
    assert full["train"]["version"] != metrics["train"]["version"]

    before = state(shop)
    old = run_night(shop, FIRST, "one-again")
    assert old["publish"]["model_version"] == parent
    after = state(shop)
    assert after["latest"] == before["latest"]
    assert after["champion"] == before["champion"]


def test_a_catalogue_that_comes_later_is_used_and_then_kept(tmp_path: Path) -> None:
    """Categories are weights of the model, so it is trained from scratch once; a deeper path changes nothing."""
    layout = Layout.at(tmp_path / "root")
    plain = SETTINGS.replace("category_levels = [1, 2]\n", "").replace("min_users = 10", "min_users = 60")
    bare, section, catalogue = plain.partition("[catalogue]")
    layout.root.mkdir()
    layout.config.write_text(bare)
    events = make_interactions(users=USERS, items=80, days=30)
    stages = [events[events["event_time"] < datetime(2024, 1, day)] for day in (29, 30, 31)]
    write_landing(layout.root, stages[0])
    levels, parents = [], []
    for number, day in enumerate((FIRST, QUIET, THIRD)):
        if number:
            new = stages[number].drop(stages[number - 1].index)
            write_landing(layout.root, new, f"later{number}.parquet")
            deeper = make_catalogue(80).assign(shelf=["a", *["b"] * 79], brand=[["x"]] * 80)
            (layout.landing / "products").mkdir(exist_ok=True)
            deeper.to_parquet(layout.landing / "products" / "products.parquet", index=False)
            path = ', "shelf"]' if number == 2 else "]"
            layout.config.write_text(bare + section + catalogue.replace('"category"]', f'"category"{path}'))
        trained = run_night(layout, day, f"night{number}")["train"]
        levels.append(read_json(layout.model(trained["version"]) / "config.json")["model"]["category_levels"])
        parents.append(trained["parent"] is not None)
    assert levels == [[], [1, 2], [1, 2]]
    assert parents == [False, False, True]


# Weights thrown far off in one epoch: their order is random, and with this seed worse than popularity.
RUINED = (
    SETTINGS.replace("epochs = 1", "epochs = 1\nlearning_rate = 3.0\nseed = 1")
    .replace("category_levels = [1, 2]", 'score_terms = []\nnorm = "pre"')
    .replace("tolerance = 0.9", "tolerance = 0")
)


def judge(layout: Layout, day: date, settings: str, run_id: str) -> tuple[int, dict[str, Any]]:
    """Up to the gate, with these settings: its exit status, and the verdict."""
    layout.config.write_text(settings)
    arguments = ["--root", str(layout.root), "--day", day.isoformat(), "--run-id", run_id]
    assert ingest.main(arguments) == snapshot.main(arguments) == train.main([*arguments, "--full-retrain"]) == 0
    return gate.main(arguments), read_json(layout.run(day, run_id).verdict)


def test_verdict_and_promotions_agree_however_often_a_night_is_run(shop: Layout) -> None:
    write_landing(shop.root, newcomers(), "later.parquet")
    before = read_json(shop.champion)
    promoted = judge(shop, THIRD, SETTINGS, "good")[1]
    assert promoted["promoted"]
    assert read_json(shop.champion)["version"] == promoted["serving"] == promoted["challenger"]
    for _ in range(2):
        code, refused = judge(shop, THIRD, RUINED, "bad")
        assert (code, refused["promoted"], refused["serving"]) == (0, False, before["version"])
        assert read_json(shop.champion) == before
    assert judge(shop, THIRD, SETTINGS, "good")[1] == promoted
    assert read_json(shop.champion)["version"] == promoted["serving"]

    champion = read_json(shop.champion)["version"]
    old = judge(shop, FIRST, SETTINGS.replace("epochs = 1", "epochs = 3"), "old")[1]
    assert (old["serving"], old["promoted"]) == (old["challenger"], False)
    assert "a later night has promoted a model since" in old["reason"]
    promotions = read_json(shop.champion)
    assert promotions["version"] == champion
    assert [one["version"] for one in promotions["history"]] == [old["serving"], champion]


@pytest.mark.parametrize(
    ("first_night", "code", "serving"), [("refuse", 3, None), ("baseline", 0, "baseline-popularity")]
)
def test_a_first_model_that_is_refused_when_run_again_does_not_go_on_serving(
    shop: Layout, first_night: str, code: int, serving: str | None
) -> None:
    settings = RUINED.replace("tolerance", f'first_night = "{first_night}"\ntolerance')
    found, verdict = judge(shop, FIRST, settings, "one")
    assert (found, verdict["serving"], verdict["promoted"]) == (code, serving, False)
    assert read_json(shop.champion)["version"] is None


def test_a_lost_champion_is_not_a_first_night(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    champion = read_json(shop.champion)["version"]
    shop.champion.unlink()
    arguments = ["--root", str(shop.root), "--day", FIRST.isoformat(), "--run-id", "one"]
    for step in (train, gate):
        caplog.clear()
        assert step.main(arguments) == 2
        assert f"hmamba rollback --root {shop.root} --to VERSION" in caplog.text
    assert call("rollback", "--root", str(shop.root), "--to", champion) == 0
    assert read_json(shop.champion)["version"] == champion
    assert train.main(arguments) == gate.main(arguments) == 0


def test_no_model_is_judged_on_days_that_it_was_trained_on(shop: Layout) -> None:
    write_landing(shop.root, newcomers(), "later.parquet")
    longer = SETTINGS.replace("tolerance", "holdout_days = 5\ntolerance")
    champion = read_json(shop.champion)["version"]  # trained on the days before 27 January
    verdict = judge(shop, THIRD, longer, "longer")[1]
    assert (verdict["holdout_from"], verdict["holdout_to"]) == ("2024-01-27", "2024-01-30")
    assert f"judged on events from 2024-01-27 00:00 on, because {champion} was trained on" in verdict["reason"]

    judge(shop, THIRD, SETTINGS, "changed")
    shop.config.write_text(longer)
    assert gate.main(["--root", str(shop.root), "--day", THIRD.isoformat(), "--run-id", "changed"]) == 0
    verdict = read_json(shop.run(THIRD, "changed").verdict)
    assert (verdict["holdout_from"], verdict["holdout_to"]) == ("2024-01-29", "2024-01-30")
    assert f"because {verdict['challenger']} was trained on" in verdict["reason"]


@pytest.mark.parametrize("loss", ["folder", "numbering"])
def test_a_lost_champion_is_replaced_by_a_full_retrain(
    shop: Layout, after_first: tuple[Path, dict[str, Any]], loss: str, caplog: pytest.LogCaptureFixture
) -> None:
    champion = after_first[1]["train"]["version"]
    write_landing(shop.root, newcomers(), "later.parquet")
    if loss == "folder":
        shutil.rmtree(shop.model(champion))
    else:
        path = shop.model(champion) / "items.parquet"
        frame = pd.read_parquet(path)
        frame["item_id"] = "other " + frame["item_id"]
        frame.to_parquet(path, index=False)
    arguments = ["--root", str(shop.root), "--day", THIRD.isoformat()]
    assert ingest.main(arguments) == snapshot.main(arguments) == 0
    assert train.main(arguments) == 2
    assert "--full-retrain" in caplog.text
    metrics = run_night(shop, THIRD, "cure", full_retrain=True)
    assert metrics["gate"]["promoted"]
    assert "cannot be judged" in metrics["gate"]["reason"]
    assert read_json(shop.champion)["version"] == metrics["train"]["version"]


def test_a_champion_that_is_damaged_after_training_ends_the_gate(
    shop: Layout, after_first: tuple[Path, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """A challenger that was fine-tuned from it is no reason to go on without it."""
    write_landing(shop.root, newcomers(), "later.parquet")
    arguments = ["--root", str(shop.root), "--day", THIRD.isoformat()]
    for step in (ingest, snapshot, train):
        assert step.main(arguments) == 0
    damaged = shop.model(after_first[1]["train"]["version"]) / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert gate.main(arguments) == 2
    assert "Restore the model's folder, or train again with --full-retrain." in caplog.text
    assert train.main([*arguments, "--full-retrain"]) == gate.main(arguments) == 0


def test_the_record_of_another_days_training_is_refused(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    arguments = ["--root", str(shop.root), "--day", FIRST.isoformat(), "--run-id", "one"]
    record = shop.run(FIRST, "one").step_metrics("train")
    TrainMetrics.read(record).model_copy(update={"day": THIRD}).write(record)
    assert gate.main(arguments) == 2
    assert f"train.json is of {THIRD}. Run the train step again (python -m jobs.train)." in caplog.text
    assert train.main(arguments) == gate.main(arguments) == 0


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "items.parquet"])
def test_a_first_model_that_cannot_be_read_is_trained_again(shop: Layout, name: str) -> None:
    version = read_json(shop.champion)["version"]
    file = shop.model(version) / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    metrics = run_night(shop, FIRST, "again", full_retrain=True)
    assert (metrics["train"]["version"], metrics["train"]["reused"]) == (version, False)
    assert metrics["gate"]["serving"] == version
    if name == "model.safetensors":
        assert file.read_bytes() == whole


def test_a_lost_warehouse_is_not_replaced_in_silence(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    before = state(shop)
    shop.warehouse.unlink()
    arguments = ["--root", str(shop.root), "--day", FIRST.isoformat(), "--run-id", "one"]
    assert ingest.main(arguments) == 2
    assert not shop.warehouse.exists()
    command = f"python -m jobs.ingest --root {shop.root} --day {FIRST} --new-warehouse; then run the night with --full"
    assert command in caplog.text
    assert ingest.main([*arguments, "--new-warehouse"]) == 0
    run_night(shop, FIRST, "one", full_retrain=True)
    after = state(shop)
    assert [row[:4] for row in after["interactions"]] == [row[:4] for row in before["interactions"]]
    assert after["latest"]["files"] == before["latest"]["files"]  # all its events came from files that are still there


def test_other_model_settings_train_from_nothing(shop: Layout) -> None:
    shop.config.write_text(SETTINGS.replace("d_state = 4", "d_state = 2"))
    write_landing(shop.root, newcomers(), "later.parquet")
    arguments = ["--root", str(shop.root), "--day", THIRD.isoformat()]
    for step in (ingest, snapshot, train):
        assert step.main(arguments) == 0
    assert json.loads((shop.run(THIRD, "manual").metrics / "train.json").read_text())["parent"] is None


@pytest.mark.parametrize(
    ("step", "told"),
    [(train, "manifest.json does not exist"), (gate, "train.json does not exist"), (index, "verdict.json")],
)
def test_a_step_without_its_predecessor_says_which_to_run(
    layout: Layout, step: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    layout.root.mkdir()
    assert step.main(["--root", str(layout.root), "--day", "2024-01-01"]) == 2
    assert told in caplog.text


def test_a_shard_that_does_not_exist_is_refused(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    arguments = ["--root", str(shop.root), "--day", FIRST.isoformat(), "--run-id", "one"]
    assert score.main([*arguments, "--shard", "2"]) == 2
    assert "--shard 2: the snapshot has the shards 0 to 1" in caplog.text
    assert score.main([*arguments, "--shards", "1-2"]) == 2
    assert "--shards 1-2: the snapshot has the shards 0 to 1" in caplog.text
    with pytest.raises(SystemExit):
        score.main([*arguments, "--shards", "1-0"])
    with pytest.raises(SystemExit):
        score.main([*arguments, "--shard", "0", "--shards", "0-1"])


def test_another_try_of_a_shard_waits_and_other_shards_do_not(shop: Layout, caplog: pytest.LogCaptureFixture) -> None:
    run = shop.run(FIRST, "one")
    shop.config.write_text(f"{shop.config.read_text()}\n[warehouse]\nwait_seconds = 0\n")
    arguments = ["--root", str(shop.root), "--day", FIRST.isoformat(), "--run-id", "one"]
    with run.storage.lock(run.folder, ".score-0000.lock"):
        assert score.main([*arguments, "--shard", "0"]) == 1
        assert "is locked by process" in caplog.text
        assert run.step_metrics("score", 0).is_file()  # that of the other try
        assert score.main([*arguments, "--shard", "1"]) == 0
    assert score.main([*arguments, "--shard", "0"]) == 0


def test_a_range_of_shards_is_scored_as_its_shards_are(shop: Layout, capsys: pytest.CaptureFixture[str]) -> None:
    run = shop.run(FIRST, "one")
    parts = [run.candidate_part(shard) for shard in range(2)]
    before = [part.read_bytes() for part in parts]
    metrics = [json.loads(run.step_metrics("score", shard).read_text()) for shard in range(2)]
    for path in (*parts, *(run.step_metrics("score", shard) for shard in range(2))):
        path.unlink()
    capsys.readouterr()
    arguments = ["--root", str(shop.root), "--day", FIRST.isoformat(), "--run-id", "one"]
    assert score.main([*arguments, "--shards", "0-1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [part.read_bytes() for part in parts] == before
    keys = ("step", "day", "shard", "users", "fallback_users", "rows")
    again = [json.loads(run.step_metrics("score", shard).read_text()) for shard in range(2)]
    assert [{key: fact[key] for key in keys} for fact in again] == [
        {key: fact[key] for key in keys} for fact in metrics
    ]
    assert (told["shards"], told["users"], told["rows"]) == ("0-1", USERS, USERS * 5)
    assert publish.main(arguments) == 0
