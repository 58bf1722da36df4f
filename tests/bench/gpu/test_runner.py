"""Processes, time limits, crashes, and the page that tells of them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench.gpu import report, runner
from bench.gpu.__main__ import main
from bench.gpu.parts import PARTS, Part
from bench.gpu.record import Record, shown
from bench.gpu.runner import Result, run_parts

ROOT = Path(__file__).parents[3]

STAND_IN = """#!{python}
import json, os, pathlib, subprocess, sys, time
part = sys.argv[sys.argv.index("--part") + 1]
folder = pathlib.Path(sys.argv[sys.argv.index("--folder") + 1])
with (folder / "order").open("a") as order:
    order.write(f"{{part}} starts\\n")
check = lambda passed: {{"kind": "check", "what": part, "passed": passed, "figures": {{}}}}
found = {{
    "good": [check(True)], "bad": [check(True), check(False)], "crash": [check(True)], "slow": [check(True)],
    "skip": [{{"kind": "skip", "what": part, "why": "no card"}}],
}}.get(part.partition("-")[0], [])
(folder / f"{{part}}.json").write_text(json.dumps(found))
if part.startswith("crash"):
    sys.exit("CUDA error: an illegal memory access was encountered")
if part == "slow":
    child = subprocess.Popen(["sleep", "60"])
    (folder / "child").write_text(str(child.pid))
    time.sleep(60)
if part == "good-beside":
    time.sleep(1.5)
with (folder / "order").open("a") as order:
    order.write(f"{{part}} ends\\n")
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Parts that behave as their names say, in real processes."""
    script = tmp_path / "stand_in"
    script.write_text(STAND_IN.format(python=sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(runner.sys, "executable", str(script))
    return tmp_path


def run(folder, *parts, limit=60.0):
    return {result.part.name: result for result in run_parts(parts, folder, [], limit)}


def test_one_crash_leaves_the_findings_of_the_others(stand_in):
    parts = [Part(name, name, 30) for name in ("crash", "good", "bad", "skip")]
    results = run(stand_in, *parts)
    assert {name: result.status for name, result in results.items()} == {
        "crash": "FAILED",
        "good": "passed",
        "bad": "FAILED",
        "skip": "could not run",
    }
    assert "illegal memory access" in results["crash"].trouble
    assert results["crash"].entries[0]["passed"]
    assert results["good"].trouble == ""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()


def test_a_part_that_overruns_is_stopped_with_its_children_and_keeps_what_it_found(stand_in):
    started = time.monotonic()
    results = run(stand_in, Part("slow", "slow", 6), Part("good", "good", 30))
    assert time.monotonic() - started < 30
    assert results["slow"].status == "not finished in time"
    assert len(results["slow"].entries) == 1
    assert results["good"].status == "passed"
    deadline = time.monotonic() + 10
    child = int((stand_in / "child").read_text())
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(child)


def test_when_no_time_is_left_a_part_is_not_started(stand_in):
    results = run(stand_in, Part("good", "good", 30), limit=1.0)
    assert results["good"].status == "not finished in time"
    assert not (stand_in / "order").exists()


def test_parts_run_beside_others_but_never_beside_one_that_measures_time(stand_in):
    parts = [
        Part("good-beside", "beside", 30, beside=True),
        Part("good", "good", 30),
        Part("good-alone", "alone", 30, alone=True),
    ]
    run(stand_in, *parts)
    order = (stand_in / "order").read_text().splitlines()
    assert order.index("good starts") < order.index("good-beside ends") < order.index("good-alone starts")


def test_every_part_can_be_found():
    import importlib

    for part in PARTS:
        module, _, function = part.name.partition(".")
        assert callable(getattr(importlib.import_module(f"bench.gpu.{module}"), function))
    assert all(part.alone for part in PARTS if part.name in ("speed.speed", "repeat.repeat"))


def result(status, *entries, trouble=""):
    return Result(PARTS[0], status, list(entries), 1.0, trouble)


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (["passed", "could not run"], 0),
        (["passed", "FAILED", "not finished in time"], 1),
        (["passed", "not finished in time"], 3),
    ],
)
def test_the_exit_status_tells_what_became_of_it(states, code):
    assert report.exit_code([result(state) for state in states]) == code


def test_the_page_begins_with_the_table_and_holds_every_figure(tmp_path):
    entries = [
        {"kind": "measure", "what": "card", "figures": {"card": "NVIDIA H200"}},
        {"kind": "check", "what": "a | b", "passed": False, "figures": {"error_of_it": 0.25, "rows": 12345}},
        {"kind": "skip", "what": "faiss", "why": "absent"},
    ]
    results = [result("FAILED", *entries, trouble=f"{ROOT}/x.py crashed")]
    text = report.page(results, data="made up", seconds=3)
    lines = text.splitlines()
    assert lines[0] == "# GPU check: h200"
    assert lines[6] == f"| {PARTS[0].title} | FAILED | 0 of 1 passed | 1 | 1 |"
    assert "| a \\| b | FAILED | error of it 0.25, rows 12,345 |" in lines
    assert "| faiss | could not run: absent |  |" in lines
    assert "./x.py crashed" in lines
    (path,) = report.write(text, f"gpu-{report.card(results)}.md", [tmp_path / "new"])
    assert path.name == "gpu-h200.md"
    assert path.read_text() == text


def test_the_commit_is_unknown_without_git(monkeypatch):
    assert report.commit() != ""
    monkeypatch.setattr(report.shutil, "which", lambda _: None)
    assert report.commit() == "unknown"


def test_findings_are_on_disk_at_once(tmp_path, capsys):
    record = Record(tmp_path / "part.json", "part")
    record.check("it holds", True, error=float("nan"), tolerance=1e-5)
    assert '"passed": true' in (tmp_path / "part.json").read_text()
    assert capsys.readouterr().out == "part: it holds: passed error nan, tolerance 1e-05\n"
    assert shown({"users_a_second": 123456.7}) == "users a second 123,457"


def test_without_cuda_it_says_what_can_be_done(capsys):
    assert not torch.cuda.is_available()
    assert main([]) == 2
    assert "--device cpu --tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "nothing.at.all"], "nothing.at.all"),
        (["--data", "/nowhere.parquet"], "/nowhere.parquet"),
        (["--site", "/nowhere"], "/nowhere"),
    ],
)
def test_what_does_not_exist_is_named(capsys, arguments, told):
    assert main(["--device", "cpu", "--tiny", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_whole_run_of_one_part(tmp_path, capsys):
    assert main(["--device", "cpu", "--tiny", "--only", "machine.machine", "--out", str(tmp_path)]) == 0
    page = (tmp_path / "gpu-cpu.md").read_text()
    assert "1 of 1 passed" in page
    assert str(ROOT) not in page
    assert not (ROOT / "bench" / "results" / "gpu-cpu.md").exists()


def test_the_target_runs_the_given_interpreter():
    # The tests may themselves be run by make, whose flags would reach this one.
    apart = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "-n", "gpu-check", "PYTHON=some/python", "DATA=a b.parquet", "OUT=out", "SITE=site"]
    told = subprocess.run(command, cwd=ROOT, env=apart, capture_output=True, text=True, check=True).stdout.strip()
    assert told == "some/python -m bench.gpu --data 'a b.parquet' --out 'out' --site 'site'"
