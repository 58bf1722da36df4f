"""The command from end to end on small files: it learns, goes on after a kill, and runs nothing twice."""

from __future__ import annotations

import re
import stat
import sys
from pathlib import Path

import pytest

from bench import accuracy, first_baskets, floors, systems
from bench.geometry import __main__ as geometry
from hmamba.training import fit
from tests.bench.files import cyclic, order_only
from tests.synthetic import make_interactions

TINY = {
    "model.dim": 16,
    "model.d_state": 8,
    "model.head_dim": 16,
    "model.dropout": 0.1,
    "train.epochs": 8,
    "train.tokens": 128,
    "train.learning_rate": 0.02,
}


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs the command with a small model; returns what it printed."""
    monkeypatch.delenv("HMAMBA_DATA", raising=False)

    def call(data, *options, work="work", status=0):
        arguments = [str(data), "--work", str(tmp_path / work), "--out", str(tmp_path / "results")]
        if "--peers-python" not in options:
            arguments += ["--peers-python", str(tmp_path / "absent" / "python")]
        for name, value in TINY.items():
            arguments += ["--set", f"{name}={value}"]
        assert accuracy.main([*arguments, *options]) == status
        return capsys.readouterr().out

    return call


def cells(text, heading, row):
    """The cells of the row that starts so, in the section with this heading."""
    part = next(part for part in re.split(r"(?m)^## ", text) if part.startswith(heading))
    line = next(line for line in part.splitlines() if line.startswith(f"| {row}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_leave_one_out(command, tmp_path):
    """What comes next is certain here, and nothing else than the order of events tells it."""
    text = command(cyclic(tmp_path / "cycle.parquet"), "--seeds", "1,2", "--set", "candidates.exclude_seen=false")
    (page,) = (tmp_path / "results").glob("accuracy-cycle-*.md")
    assert text.strip() == page.read_text(encoding="utf-8").strip()
    mine = cells(text, "test, all users, masked", "HMamba")
    assert float(mine[2].split(" ± ")[0]) > 0.9
    assert "±" in mine[5]
    floor = cells(text, "test, all users, unmasked", "popularity")
    assert float(floor[5]) < float(cells(text, "test, all users, unmasked", "HMamba")[5].split(" ± ")[0])
    assert "make bench-peers" in cells(text, "test, all users, masked", "SASRec")[0]
    runs = cells(text, "Runs", "HMamba")
    assert runs[1] == "1, 2"
    assert "model.dim = 16" in runs[-1]
    assert "train.seed" not in runs[-1]


def test_parts_of_the_model_are_measured_with_it(command, tmp_path):
    """Co-occurrence alone knows what comes next here; an untrained model knows nothing."""
    options = ("--set", "train.learning_rate=1e-9", "--set", "train.epochs=1")
    text = command(cyclic(tmp_path / "cycle.parquet"), *options)
    heading = "test, all users, masked"
    without, alone = (
        cells(text, heading, f"HMamba: {part}") for part in ("without counted terms", "counted terms alone")
    )
    whole = cells(text, heading, "HMamba (tuned) |")
    assert float(alone[5]) == 1.0 > float(without[5])
    assert float(whole[5]) > float(without[5])
    assert "counted terms alone" not in text.partition("## Runs")[2]
    served = "HMamba: validation events counted"
    assert float(cells(text, heading, served)[5]) >= float(whole[5])
    chosen = command(tmp_path / "cycle.parquet", *options, "--split", "validation")
    assert set(cells(chosen, "validation, all users, masked", served)[1:]) == {"-"}


def test_last_day_and_its_validation(command, tmp_path):
    path = tmp_path / "shop.parquet"
    make_interactions().to_parquet(path, index=False)
    common = ("--protocol", "last-day", "--days", "7", "--set", "candidates.exclude_seen=false", "--set",
              "train.validation_days=3")  # fmt: skip
    tested = command(path, *common)
    chosen = command(path, *common, "--split", "validation")
    for split, text in (("test", tested), ("validation", chosen)):
        for group in ("last day within the last 7 days", "all users"):
            heading = f"{split}, {group}, unmasked"
            names = ("popularity", "most recent", "most bought", "HMamba")
            values = {name: float(cells(text, heading, name)[5]) for name in names}
            assert values["most bought"] > values["popularity"]
            assert float(cells(text, heading, "most bought")[-1]) == 1.0
            assert float(cells(text, heading, "HMamba")[-1]) == pytest.approx(
                values["HMamba"] / values["most bought"], abs=2e-3
            )
    assert "masked" not in re.sub("unmasked", "", tested.partition("## Runs")[0])
    pages = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert len(pages) == 2
    assert pages[1] == pages[0].replace("shop-", "shop-validation-")


def without_origins(text):
    """The tables without what differs between two calls: the command, and seconds."""
    kept = [line for line in text.splitlines() if not line.startswith("| command")]
    return "\n".join(kept[: kept.index("## Runs")])


def test_a_killed_training_goes_on_and_ends_the_same(command, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="hmamba")
    data = order_only(tmp_path / "order.parquet")
    whole = command(data, "--systems", "hmamba", work="whole")
    validate, calls = fit.validate, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return validate(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "validate", killed)
        with pytest.raises(KeyboardInterrupt):
            command(data, "--systems", "hmamba")
    caplog.clear()
    resumed = command(data, "--systems", "hmamba")
    assert "resuming at epoch 3" in caplog.text
    assert without_origins(resumed) == without_origins(whole)


def test_finished_runs_are_not_run_again_unless_asked(command, tmp_path, monkeypatch):
    data = order_only(tmp_path / "order.parquet")
    first = command(data)
    trained = []
    train = systems.train

    def counted(*arguments):
        trained.append(1)
        return train(*arguments)

    monkeypatch.setattr(systems, "train", counted)
    monkeypatch.setattr(floors, "floor", lambda name, _: pytest.fail(f"{name} was measured again"))
    assert without_origins(command(data)) == without_origins(first)
    assert not trained
    command(data, "--set", "model.dropout=0.2")
    assert len(trained) == 1
    again = command(data, "--systems", "hmamba", "--again")
    assert len(trained) == 2
    assert without_origins(again) == without_origins(first)


def test_a_system_that_is_not_run_is_shown_only_if_it_is_stored(command, tmp_path):
    data = order_only(tmp_path / "order.parquet")
    text = command(data, "--systems", "floors", "--print-only")
    assert "not run" in cells(text, "test, all users, masked", "HMamba")[0]
    assert not (tmp_path / "results").exists()
    command(data, "--systems", "hmamba")
    text = command(data, "--systems", "sasrec")
    assert float(cells(text, "test, all users, masked", "HMamba")[3]) > 0
    assert float(cells(text, "test, all users, masked", "item-kNN")[3]) > 0


def test_ablation(command, tmp_path):
    rows = tmp_path / "rows.toml"
    rows.write_text(
        '[[row]]\nname = "as it is"\nset = {}\n[[row]]\nname = "half"\nset = { "model.variant" = "half" }\n'
        '[[row]]\nname = "elsewhere"\ndata = ["beauty"]\nset = {}\n'
    )
    data = order_only(tmp_path / "order.parquet")
    text = command(data, "--ablation", "--ablation-file", str(rows))
    assert len(list((tmp_path / "results").glob("ablation-order-*.md"))) == 1
    first, second = (cells(text, "test, all users, masked", name) for name in ("as it is", "half"))
    assert first[-1] == "1.000"
    assert second[1:-1] != first[1:-1]
    assert "model.variant = half" in cells(text, "Runs", "half")[-1]
    assert "elsewhere" not in text


def page_of(tmp_path, *options):
    """Name and text of the page that floors alone write with these options; nothing is trained."""
    folder = tmp_path / "pages"
    before = set(folder.glob("*"))
    command = [str(tmp_path / "order.parquet"), "--systems", "floors", "--work", str(tmp_path), "--out", str(folder)]
    assert accuracy.main([*command, *options]) == 0
    (page,) = set(folder.glob("*")) - before
    return page.name, page.read_text(encoding="utf-8")


def test_each_set_of_settings_has_a_page_of_its_own(tmp_path, monkeypatch, capsys):
    """The page of the defaults has the plain name; others name what differs, and none overwrites another one."""
    monkeypatch.setattr(accuracy, "FLOORS", {"leave-one-out": ("popularity",), "last-day": ()})
    order_only(tmp_path / "order.parquet")
    name, text = page_of(tmp_path)
    assert name == "accuracy-order.md"
    assert "| other than the defaults of order | none |" in text
    assert "tuned" not in text.lower()
    for options, shown, tuned in (
        (["--set", "model.layers=2"], "model.layers = 2", True),
        (["--set", "model.layers=3", "--set", "model.dropout=0.1"], "model.layers = 3, model.dropout = 0.1", True),
        (["--length", "7"], "--length = 7", False),
        (["--item-id", "user_id", "--user-id", "item_id"], "--user-id = item_id, --item-id = user_id", False),
        (["--peer-set", "lr=0.1"], "sasrec.lr = 0.1", False),
    ):
        name, text = page_of(tmp_path, *options)
        suffix = re.fullmatch(r"accuracy-order-([0-9a-f]{8})\.md", name)[1]
        assert shown in text
        assert f"({suffix} in the name of this file)" in text
        assert ("| HMamba (tuned; not run) |" in text) == tuned
        assert ("| SASRec (RecTools) (tuned; " in text) == (shown == "sasrec.lr = 0.1")
    (tmp_path / "same.toml").write_text("[candidates]\nexclude_seen = true\n", encoding="utf-8")
    (tmp_path / "pages" / "accuracy-order.md").unlink()
    assert page_of(tmp_path, "--settings", str(tmp_path / "same.toml"), "--seeds", "5")[0] == "accuracy-order.md"
    capsys.readouterr()


def test_other_columns_of_a_file_are_another_run(tmp_path, command):
    data = order_only(tmp_path / "order.parquet")
    first = command(data, "--systems", "floors", "--print-only")
    other = command(data, "--systems", "floors", "--print-only", "--item-id", "user_id", "--user-id", "item_id")
    heading = "test, all users, unmasked"
    assert cells(first, heading, "popularity") != cells(other, heading, "popularity")


def test_tables_name_no_folder_of_the_machine(command, tmp_path):
    given = ["/data/x.parquet", "--folder=/data", "--work", "/w", "--set", "model.layers=2", "--out", "/o", "--again"]
    assert accuracy.command_of(given) == "python -m bench.accuracy x.parquet --set model.layers=2 --again"
    assert str(tmp_path) not in command(order_only(tmp_path / "order.parquet"), "--systems", "floors")


STAND_IN = """#!{python}
import json, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
folder = Path(sys.argv[2])
job = json.loads((folder / "job.json").read_text())
stop = pq.read_table(folder / "stop.parquet").to_pydict()
answer = dict(zip(stop["user"], stop["item"]))
for name, depth in job["depth"].items():
    users = list(dict.fromkeys(pq.read_table(folder / f"past-{{name}}.parquet")["user"].to_pylist()))[:-1]
    found = pa.table({{"user": users, "item": [answer[user] for user in users], "rank": [1] * len(users)}})
    pq.write_table(found, folder / f"ranked-{{name}}.parquet")
good = job["settings"]["dropout_rate"] == 0.3 and job["masked"]
rows = [{{"epoch": 1, "ndcg@10": 0.5, "seconds": 2.0, "validation_seconds": 1.0}}]
(folder / "epochs.json").write_text(json.dumps(rows))
(folder / "facts.json").write_text(json.dumps({{"parameters": 10}}))
if not good:
    pq.write_table(found.slice(0, 0), folder / "ranked-validation.parquet")
"""


def stand_in(folder: Path, text: str) -> str:
    """An interpreter of the peers' environment that does what the text says; the real one is not part of the tests."""
    path = folder / "python"
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_peer_gets_the_split_and_its_rankings_are_measured_here(command, tmp_path):
    """The stand-in ranks the validation's answer first for all users but the last, if its dropout is 0.3."""
    data = order_only(tmp_path / "order.parquet")
    python = stand_in(tmp_path, STAND_IN.format(python=sys.executable))
    peer = ("--systems", "sasrec", "--peers-python", python, "--peer-set", "lr=0.01")
    text = command(data, *peer, "--split", "validation", "--seeds", "4,5")
    users = int(re.search(r"queries: validation \| (\d+) users", text)[1])
    row = cells(text, "validation, all users, masked", "SASRec")
    assert row[1] == f"{(users - 1) / users:.4f} ± 0.0000"
    runs = cells(text, "Runs", "SASRec")
    assert "lr = 0.01" in runs[-1]
    assert "dropout_rate = 0.3" in runs[-1]
    assert runs[1] == "4, 5"
    tested = command(data, *peer, "--seeds", "4")
    assert float(cells(tested, "test, all users, masked", "SASRec")[1]) == 0.0


def test_a_peer_is_stopped_and_chosen_unmasked_where_users_repeat(command, tmp_path):
    """The stand-in ranks nothing on validation if it has to mask."""
    python = stand_in(tmp_path, STAND_IN.replace('job["masked"]', 'not job["masked"]').format(python=sys.executable))
    data = order_only(tmp_path / "order.parquet", repeats=True)
    peer = ("--systems", "sasrec", "--peers-python", python, "--peer-set", "lr=0.01", "--split", "validation")
    text = command(data, *peer)
    assert "dropout_rate = 0.3" in cells(text, "Runs", "SASRec")[-1]
    assert float(cells(text, "validation, all users, unmasked", "SASRec")[1]) > 0.9
    assert "validation, all users, masked" not in text


def test_a_peer_that_fails_is_a_sentence_and_leaves_the_other_rows(command, tmp_path):
    python = stand_in(tmp_path, "#!/bin/sh\nexit 9\n")
    text = command(order_only(tmp_path / "order.parquet"), "--systems", "floors,sasrec", "--peers-python", python)
    row = cells(text, "test, all users, masked", "SASRec")
    assert "failed with exit status 9, see its output after 0 minutes; run the same command again to resume" in row[0]
    assert set(row[1:]) == {"-"}
    assert float(cells(text, "test, all users, masked", "item-kNN")[3]) > 0


@pytest.mark.parametrize(
    ("how", "options", "sentence"),
    [
        ("import time; time.sleep(60)", ("--peer-minutes", "0.1"), "stopped after 0 minutes"),
        ("import os; os.kill(os.getpid(), 15)", (), "killed by signal 15 after 0 minutes"),
    ],
)
def test_a_stopped_peer_shows_what_is_finished_and_how_to_resume(command, tmp_path, how, options, sentence):
    """The stand-in does not finish with a dropout of 0.2, the third of five settings; that of 0.3 is the best."""
    text = STAND_IN.replace("stop = pq", f"if job['settings']['dropout_rate'] == 0.2: {how}\nstop = pq")
    peer = ("--systems", "sasrec", "--peers-python", stand_in(tmp_path, text.format(python=sys.executable)))
    data = order_only(tmp_path / "order.parquet")
    row = cells(command(data, *peer, *options, "--split", "validation"), "validation, all users, masked", "SASRec")
    assert f"({sentence}; run the same command again to resume; 3 settings of its search are missing)" in row[0]
    assert float(row[1]) > 0.9


def test_an_interrupted_peer_leaves_the_tables(command, tmp_path):
    """The stand-in does what Ctrl-C does to the command."""
    interrupting = f"#!{sys.executable}\nimport os, time\nos.kill(os.getppid(), 2)\ntime.sleep(60)\n"
    peer = ("--systems", "floors,sasrec", "--peers-python", stand_in(tmp_path, interrupting))
    text = command(order_only(tmp_path / "order.parquet"), *peer)
    assert re.search(r"interrupted after \d+ minutes?;", cells(text, "test, all users, masked", "SASRec")[0])
    assert float(cells(text, "test, all users, masked", "item-kNN")[3]) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "one"], "--seeds one: give whole numbers"),
        (["--systems", "all"], "choose among hmamba, floors, sasrec"),
        (["--length", "1"], "--length 1: give 2 or more"),
        (["--protocol", "last-day"], "has no times"),
        (["--settings", "none.toml"], "none.toml: no such file"),
    ],
)
def test_wrong_options_are_explained(command, tmp_path, caplog, options, message):
    command(order_only(tmp_path / "order.parquet"), *options, status=2)
    assert message in caplog.text


def test_the_documentation_names_options_that_exist(capsys):
    for command in (accuracy, first_baskets, geometry):
        with pytest.raises(SystemExit):
            command.main(["--help"])
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    text = (accuracy.ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert {"--seeds", "--set", "--split", "--dims"} <= used <= known
