"""What the documentation says exists, and what it shows runs."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import tomllib
from pathlib import Path

import duckdb
import pytest

from hmamba.config import parse
from hmamba.contracts.models import ModelMetrics
from hmamba.rules import document as rules
from hmamba.steps import NIGHT
from hmamba.storage.layout import Layout
from jobs.cli import main
from jobs.commands.table import COMMANDS
from tests.report.metrics_of_night import DAY, VERSION
from tests.report.night import publish, write_night
from tests.synthetic import make_catalogue, make_interactions

REPOSITORY = Path(__file__).parents[1]
README = REPOSITORY / "README.md"
INDEX = REPOSITORY / "docs" / "README.md"
PAGES = [README, *sorted({*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")} - {README})]
CODE = re.compile(r"```(\w*)\n(.*?)```|`([^`\n]+)`", re.DOTALL)


def code(page: Path) -> list[tuple[str, str]]:
    """Fenced blocks and inline code of a page: language ("" for none) and text, continued lines joined."""
    found = CODE.findall(page.read_text(encoding="utf-8"))
    return [(language, (block or inline).replace("\\\n", " ")) for language, block, inline in found]


def commands(pattern: str) -> list[tuple[str, str]]:
    """Page and text of each line of code that is a command matching ``pattern``."""
    lines = [(page.name, line.strip()) for page in PAGES for _, text in code(page) for line in text.splitlines()]
    return sorted({(page, line) for page, line in lines if re.match(pattern, line)})


def options(line: str) -> set[str]:
    """The long options that a command line uses."""
    return {word.partition("=")[0] for word in shlex.split(line, comments=True) if word.startswith("--")}


def help_of(call: object, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert callable(call)
    with pytest.raises(SystemExit) as left:
        call(arguments)
    assert left.value.code == 0
    return capsys.readouterr().out


HMAMBA = commands(r"(\.venv/bin/)?hmamba \w")
MODULES = commands(r"(\.venv/bin/)?python -m (jobs|hmamba)\.[a-z]\w*")
MAKE = commands(r"make \w")
AIRFLOW = commands(r"airflow dags (trigger|test) hmamba")


def test_the_documentation_names_commands() -> None:
    """The tests below are only worth something if these lists are not empty."""
    assert len(HMAMBA) > 5
    assert len(MODULES) > len(NIGHT)
    assert len(MAKE) > 2
    assert AIRFLOW


@pytest.mark.parametrize(("page", "line"), HMAMBA)
def test_hmamba_commands_exist_with_their_options(
    page: str, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    command = line.removeprefix(".venv/bin/").split()[1]
    text = help_of(main, [command, "--help"], capsys)
    assert "Example:" in text
    assert options(line) <= set(re.findall(r"--[\w-]+", text)), f"{page}: {line}"


@pytest.mark.parametrize(("page", "line"), MODULES)
def test_modules_can_be_run_with_their_options(page: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = re.findall(r"-m ([\w.]+)", line)[0]
    module = importlib.import_module(name)
    assert '__name__ == "__main__"' in Path(str(module.__file__)).read_text(encoding="utf-8")
    if name.startswith("jobs."):
        assert options(line) - {"--help"} <= set(re.findall(r"--[\w-]+", help_of(module.main, ["--help"], capsys)))


@pytest.mark.parametrize("step", NIGHT)
def test_every_step_is_documented_and_has_help(step: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert any(f"python -m jobs.{step} " in line for page, line in MODULES if page == "README.md")
    text = help_of(importlib.import_module(f"jobs.{step}").main, ["--help"], capsys)
    for option in ("--root", "--day", "--config", "--run-id", "--any-day"):
        assert option in text


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_is_documented(command: str) -> None:
    assert any(f"hmamba {command} " in line for page, line in HMAMBA if page == "README.md")


@pytest.mark.parametrize(("page", "line"), MAKE)
def test_make_targets_exist(page: str, line: str) -> None:
    targets = set(re.findall(r"(?m)^([\w-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8")))
    words = shlex.split(line, comments=True)[1:]
    assert {word for word in words if "=" not in word} <= targets, f"{page}: {line}"


def test_the_two_commands_come_first() -> None:
    readme = PAGES[0].read_text(encoding="utf-8")
    block = readme[readme.index("## Quick start") :].split("```")[1]
    assert [shlex.split(line, comments=True) for line in block.strip().splitlines()] == [
        ["make", "demo"],
        ["make", "test"],
    ]


@pytest.mark.parametrize(("page", "line"), AIRFLOW)
def test_triggers_name_a_dag_and_its_params(page: str, line: str) -> None:
    words = shlex.split(line)
    dag = words[3]
    sources = (REPOSITORY / "dags" / f"{dag}.py").read_text(encoding="utf-8")
    sources += (REPOSITORY / "dags" / "hmamba_steps.py").read_text(encoding="utf-8")
    if "--conf" in words:
        for key in json.loads(words[words.index("--conf") + 1]):
            assert re.search(rf'"{key}": Param\(', sources), f"{page}: {key}"


def anchors(page: Path) -> set[str]:
    """What a link can name after #: headings as GitHub spells them."""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


def test_every_page_is_in_the_index() -> None:
    listed = {(INDEX.parent / target).resolve() for target in re.findall(r"\]\(([^)#]+)\)", INDEX.read_text("utf-8"))}
    assert listed == {*PAGES} - {INDEX}


def said() -> set[str]:
    """Every string of the product, with what is put into it as an ellipsis."""
    found = set()
    for path in (path for folder in ("hmamba", "jobs", "dags") for path in (REPOSITORY / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
            found.add(re.sub(r"%(\.\d+)?[dfgs]", "…", text))
    return found


def test_messages_that_troubleshooting_explains_are_said() -> None:
    text = (REPOSITORY / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    tables = re.findall(r"(?m)^\| Message \|.*\n\|[-|]+\n((?:\|.*\n)+)", text)
    explained = [message for table in tables for message in re.findall(r"(?m)^\| `([^`]+)`", table)]
    assert len(explained) > 30
    everything = said()
    assert [message for message in explained if not any(message in text for text in everything)] == []


def test_configurations_that_are_shown_are_valid() -> None:
    shown = [(page.name, text) for page in PAGES for language, text in code(page) if language == "toml"]
    assert shown
    for page, text in shown:
        read = rules.parse if page == "rules.md" else parse
        read(tomllib.loads(text), page)


def test_pinned_versions_are_those_of_the_constraints() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text[text.index("| Library | Pinned") : text.index("Looked at and left out")]
    rows = re.findall(r"(?m)^\| ([\w-]+) \| (\d[\w.]*) \|", table)
    assert len(rows) == table.strip().count("\n") - 1
    assert {name: version for name, version in rows if pinned.get(name) != version} == {}


def test_every_layer_of_the_import_contract_is_described_in_its_order() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    layers = [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    described = [set(re.findall(r"`hmamba\.(\w+)`", row)) for row in re.findall(r"(?m)^\| (`hmamba\..*?) \|", text)]
    flat = [name for group in described for name in sorted(group)]
    assert sorted(flat) == sorted(name for layer in layers for name in layer)
    place = {name: number for number, layer in enumerate(layers) for name in layer}
    assert [place[name] for name in flat] == sorted(place[name] for name in flat)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a published root named demo."""
    folder = tmp_path_factory.mktemp("docs")
    layout = Layout.at(folder / "demo")
    catalogue = make_catalogue()
    catalogue["category_path"] = [[name] for name in catalogue["department"]]
    write_night(layout, make_interactions(), catalogue, k=12)
    publish(layout)
    return folder


def section(heading: str, page: str = "candidates.md") -> str:
    """The code blocks of one section of a page."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    body = re.split(r"(?m)^## ", text[text.index(f"## {heading}\n") + 3 :])[0]
    return "\n".join(re.findall(r"```\w+\n(.*?)```", body, re.DOTALL))


def test_the_duckdb_examples_run(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    with duckdb.connect() as connection:
        statements = duckdb.extract_statements(section("DuckDB"))
        answers = [connection.execute(statement).fetchall() for statement in statements]
    assert len(answers[1]) == 40 * 10
    assert [str(row[0]) for row in answers[2]] == [DAY.isoformat()]


def test_the_query_about_many_nights_runs(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    ModelMetrics(training=None).write(Layout.at("demo").model_metrics("quiet"))  # never judged
    with duckdb.connect() as connection:
        rows = connection.execute(section("Model quality over time", "operations.md")).fetchall()
    assert rows == [(DAY.isoformat(), VERSION, True, pytest.approx(0.176), pytest.approx(0.176 / 0.08))]


def test_the_pandas_example_runs(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    names: dict[str, object] = {}
    exec(compile(section("pandas"), "docs/candidates.md", "exec"), names)
    frame = names["frame"]
    assert list(frame.columns) == ["user_id", "rank", "item_id", "score", "model_version"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("heading", ["Polars", "Spark"])
def test_examples_for_what_is_not_installed_are_python(heading: str) -> None:
    assert ast.parse(section(heading)).body
