"""The tutorials, word for word: every command runs, and prints what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tutorials import PAIR, REPOSITORY, masked, replay

PAGES = sorted((REPOSITORY / "docs").glob("tutorial-*.md"))


def test_there_are_tutorials() -> None:
    assert [page.name for page in PAGES] == ["tutorial-films.md", "tutorial-sessions.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_has_an_output(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("```sh\n") == text.count("```text\n") == len(PAIR.findall(text)) > 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("index       177 items, matmul (5.6 s)", "index 177 items, flat (12.0 s)"),
        (
            "train  20240531-ec891e4f, from nothing, 19 epochs (1.0 s)",
            "train 20240531-0123cdef, from nothing, 8 epochs (2.0 s)",
        ),
        ("   1  A Film, 2 (1999)  Crime  -3.6211  130", "   1  Other (2001)         Drama  12.0000  9"),
        ("ndcg@10 0.3967 against 0.0415", "ndcg@10 0.4100 against 0.0400"),
    ],
)
def test_what_depends_on_the_machine_is_masked(one: str, other: str) -> None:
    assert masked(one) == masked(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ingest 5,407 rows loaded (1.0 s)", "ingest 5,408 rows loaded (1.0 s)"),
        ("gate promoted: 0.3967", "gate not promoted: 0.3967"),
        ("   1  A  Crime  -3.6211  130", "   2  A  Crime  -3.6211  130"),
        ("items a user  17", "items a user  18"),
        ("  hmamba run --root films --day 2024-05-31", "  hmamba run --root films --day 2024-05-30"),
    ],
)
def test_facts_are_not_masked(one: str, other: str) -> None:
    assert masked(one) != masked(other)


@pytest.mark.tutorial
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_page_is_what_happens(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    compared = []

    def each(command: str, told: str, printed: str) -> None:
        compared.append(command)
        assert masked(printed) == masked(told), f"{page.name}: {command}"

    replay(page.read_text(encoding="utf-8"), folder, each)
    assert len(compared) == page.read_text(encoding="utf-8").count("```sh\n")
