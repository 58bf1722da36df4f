"""The library trains and ranks where only PyTorch, NumPy and pyarrow are installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.gpu import data

ROOT = Path(__file__).parents[3]

MODULES = (
    "hmamba.model.hmamba",
    "hmamba.model.kernels",
    "hmamba.training.batches",
    "hmamba.training.checkpoint",
    "hmamba.training.fit",
    "hmamba.training.loss",
    "hmamba.training.prepare",
    "hmamba.evaluation.baselines",
    "hmamba.evaluation.likelihood",
    "hmamba.evaluation.metrics",
    "hmamba.evaluation.evaluation_set",
    "hmamba.evaluation.ranking",
    "hmamba.evaluation.split",
    "hmamba.candidates.score",
    "hmamba.sequences.candidate_items",
    "hmamba.sequences.histories",
)

SCRIPT = r'''
import importlib, re, sys
from importlib import metadata
from importlib.abc import MetaPathFinder


def closure(names):
    """Distributions, with all that they require without extras."""
    seen, waiting = set(), list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        seen.add(name)
        waiting += [re.match(r"[\w.-]+", need)[0] for need in needs if "extra ==" not in need]
    return seen


there = closure(["torch", "numpy", "pyarrow", "pytest"])
owners = metadata.packages_distributions()
hidden = {
    module
    for module, names in owners.items()
    if module not in ("hmamba", "bench", "jobs", "tests")
    and not any(re.sub(r"[-_.]+", "-", name).lower() in there for name in names)
}


class Hiding(MetaPathFinder):
    """A finder that does not find what is hidden, as if it were not installed."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else self.finder.find_spec(name, path, target)


sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
assert {"pydantic", "duckdb", "faiss", "safetensors", "tqdm", "pandas"} <= hidden
assert not {"torch", "numpy", "pyarrow"} & hidden
for name in MODULES:
    importlib.import_module(name)
from bench.gpu.__main__ import main

for part in ("night.night", "search.search"):
    assert main(["--part", part, "--folder", FOLDER, "--device", "cpu", "--tiny"]) == 0
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & hidden, loaded & hidden
'''


def test_a_night_runs_with_pytorch_numpy_and_pyarrow_alone(tmp_path):
    data.save(data.synthetic(40, 30, 60, days=30), tmp_path / data.HISTORIES)
    script = SCRIPT.replace("MODULES", repr(MODULES)).replace("FOLDER", repr(str(tmp_path)))
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert "every user's point is finite: passed" in done.stdout
    assert "faiss does not import" in done.stdout
