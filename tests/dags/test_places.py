"""The DAG files work wherever Airflow finds them: a subfolder, a zip file, a bundle, an installed package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.dags.conftest import DAGS

PARSE = """
import json, sys
from airflow.dag_processing.dagbag import BundleDagBag
bag = BundleDagBag(dag_folder=sys.argv[1], bundle_path=sys.argv[1], bundle_name="here")
print(json.dumps([bag.import_errors, sorted(bag.dags)]))
"""


def dags_in(folder: Path, path: Path | None = None) -> list[str]:
    """Names of the DAGs that Airflow finds in a folder, in a process that knows no other copy of the files."""
    known = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*known, *([str(path)] if path else [])])}
    done = subprocess.run(
        [sys.executable, "-c", PARSE, str(folder)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    errors, found = json.loads(done.stdout.splitlines()[-1])
    assert errors == {}
    return [str(name) for name in found]


def test_in_a_subfolder_beside_other_dags(tmp_path: Path) -> None:
    shutil.copytree(DAGS, tmp_path / "teams" / "shop")
    (tmp_path / "other.py").write_text("from airflow.sdk import DAG\nother = DAG('other', schedule=None)\n")
    assert dags_in(tmp_path) == ["hmamba_ingest", "hmamba_refresh", "hmamba_retrain", "other"]


def test_in_a_zip_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        for file in DAGS.glob("*.py"):
            archive.write(file, file.name)
    assert dags_in(tmp_path) == ["hmamba_ingest", "hmamba_refresh", "hmamba_retrain"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site-packages folder with the project's wheel."""
    target = tmp_path_factory.mktemp("site-packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(DAGS.parent)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def test_as_a_bundle_of_the_installed_package(installed: Path) -> None:
    assert dags_in(installed / "hmamba_dags") == ["hmamba_ingest", "hmamba_refresh", "hmamba_retrain"]


def test_imported_from_the_installed_package(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "night.py").write_text("# An Airflow DAG.\nimport hmamba_dags.hmamba_retrain\n")
    assert dags_in(tmp_path, installed) == ["hmamba_retrain"]
