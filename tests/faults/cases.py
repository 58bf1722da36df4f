"""The cases of the matrix, and how one is tried."""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import duckdb

from hmamba.contracts.manifest import Manifest
from hmamba.errors import InputError
from hmamba.storage.layout import Layout
from tests.faults import disks, processes
from tests.faults.damage import HOW, damage, kind_of, targets
from tests.faults.hostile import HOSTILE
from tests.faults.named import NAMED, Fault
from tests.faults.operator import Operator
from tests.faults.processes import Ended, Running, run
from tests.faults.world import (
    FIRST,
    NIGHT,
    SECOND,
    STEPS,
    Published,
    World,
    arguments,
    day_of,
    drop_events,
    held,
)

STATUSES = frozenset({0, 1, 2, 3})
_SENTENCE = re.compile(r" ERROR \w+: .+[.)]$")
"""The last line of a step that has refused. A limit on the size of files cuts the log as well."""

_SIGNALS = {"kill": {signal.SIGKILL}, "memory limit": {signal.SIGSEGV, signal.SIGABRT}}
"""Signals that may end a step, by kind of fault: libraries do not check every allocation."""

HOSTILE_FILES, OTHER_DAYS = "hostile files", "days out of order"


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        step: the step that is disturbed.
        kind: kind of fault, a row of the table.
        seed: seed of everything that the fault leaves to chance.
        target: the damaged file, relative to the root; None if no file is damaged.
    """

    step: str
    kind: str
    seed: int
    target: Path | None = None

    def __str__(self) -> str:
        where = f" {self.target}" if self.target else ""
        return f"{self.step}, {self.kind}{where}, seed {self.seed}"


@dataclass(frozen=True)
class Result:
    """How a case ended.

    Attributes:
        case: the case.
        end: "unharmed" (exit status 0), "refused" (a sentence, and the night was finished by following it), "killed"
            (and the night was finished), or "failed".
        why: what went wrong; empty unless it failed.
    """

    case: Case
    end: str
    why: str = ""


def kinds() -> dict[str, Callable[[Case, Path, World], list[Ended]]]:
    """Each kind of fault with what does it; returns how the disturbed processes ended."""
    return {name: partial(_named, fault) for name, (_, fault) in NAMED.items()} | random_kinds()


def random_kinds() -> dict[str, Callable[[Case, Path, World], list[Ended]]]:
    """The kinds that strike any step, at a random place or moment; the last two are of nights, not of steps."""
    return {
        "kill": _kill,
        "file size limit": _file_size,
        "memory limit": _memory,
        "read-only folders": _read_only,
        "two at once": _twice,
        **({"full disk": _full_disk} if disks.can_mount() else {}),
        **{f"damage: {how}": _damaged for how in HOW},
        HOSTILE_FILES: _hostile,
        OTHER_DAYS: _other_days,
    }


def matrix(world: World, seed: int, number: int) -> list[Case]:
    """``number`` cases: the named ones, then every kind and step in turn, and every kind of file among the damaged."""
    chance = random.Random(seed)
    files: dict[str, list[list[Path]]] = {}
    for step in STEPS:
        by_kind: dict[str, list[Path]] = {}
        for path in targets(world.before(step)):
            by_kind.setdefault(kind_of(path), []).append(path)
        files[step] = list(by_kind.values())
        chance.shuffle(files[step])
    turns = dict.fromkeys(((step, kind) for step in STEPS for kind in random_kinds() if _strikes(kind, step)), 0)
    pairs = list(turns)
    cases = [Case(step, name, seed) for name, (step, _) in NAMED.items()]
    while len(cases) < number:
        chance.shuffle(pairs)
        for step, kind in pairs[: number - len(cases)]:
            turn = turns[step, kind]
            turns[step, kind] += 1
            target = None
            if kind.startswith("damage"):
                if not files[step]:
                    continue
                target = chance.choice(files[step][(turn + hash_of(kind)) % len(files[step])])
            cases.append(Case(step, kind, chance.randrange(1 << 32), target))
    return cases


def _named(fault: Fault, case: Case, root: Path, world: World) -> list[Ended]:
    return fault(root, case.step, world)


def _strikes(kind: str, step: str) -> bool:
    """Whether a kind of fault has a meaning for a step."""
    return step == "ingest" if kind in (HOSTILE_FILES, OTHER_DAYS) else True


def hash_of(text: str) -> int:
    """A number that depends on the text only, also in another process."""
    return sum(map(ord, text))


def _kill(case: Case, root: Path, world: World) -> list[Ended]:
    running = Running(arguments(root, case.step, day_of(case.step)))
    running.kill(random.Random(case.seed).uniform(0, 1.1 * world.seconds[case.step]))
    return [running.wait()]


def _file_size(case: Case, root: Path, world: World) -> list[Ended]:
    limit = int(2 ** random.Random(case.seed).uniform(0, 21))
    return [run(arguments(root, case.step, day_of(case.step)), processes.file_size(limit))]


def _memory(case: Case, root: Path, world: World) -> list[Ended]:
    more = int(2 ** random.Random(case.seed).uniform(16, 28))
    return [run(arguments(root, case.step, day_of(case.step)), processes.memory(more))]


def _read_only(case: Case, root: Path, world: World) -> list[Ended]:
    chance, folders = random.Random(case.seed), sorted(path for path in (root, *root.rglob("*")) if path.is_dir())
    closed = folders if chance.random() < 0.3 else chance.sample(folders, 1)
    for folder in closed:
        for path in (folder, *(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())):
            path.chmod(path.stat().st_mode & ~0o222)
    ended = run(arguments(root, case.step, day_of(case.step)), processes.heed_modes)
    for path in (root, *root.rglob("*")):
        if path.exists() and not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200)
    return [ended]


def _twice(case: Case, root: Path, world: World) -> list[Ended]:
    first = Running(arguments(root, case.step, day_of(case.step)))
    time.sleep(random.Random(case.seed).uniform(0, world.seconds[case.step]))
    second = Running(arguments(root, case.step, day_of(case.step)))
    return [first.wait(), second.wait()]


def _full_disk(case: Case, root: Path, world: World) -> list[Ended]:
    shutil.rmtree(root)
    root.mkdir()
    disks.mount(root, disks.size_of(world.before(case.step)) + int(2 ** random.Random(case.seed).uniform(12, 22)))
    shutil.copytree(world.before(case.step), root, symlinks=True, dirs_exist_ok=True)
    ended = run(arguments(root, case.step, day_of(case.step)))
    disks.enlarge(root)  # as the operator does whom the message tells to free some space
    return [ended]


def _hostile(case: Case, root: Path, world: World) -> list[Ended]:
    """A hostile file among those of the day; the operator removes what the message names."""
    chance = random.Random(case.seed)
    HOSTILE[chance.choice(list(HOSTILE))](root / "landing" / "interactions", chance)
    return [run(arguments(root, case.step, day_of(case.step)))]


def _other_days(case: Case, root: Path, world: World) -> list[Ended]:
    """Nights of the day before, of the day after, and of the day itself, in a random order."""
    chance = random.Random(case.seed)
    after = SECOND + timedelta(days=1)
    drop_events(root, after)
    return [
        run(arguments(root, step, day))
        for day in chance.sample([FIRST, SECOND, after], chance.randrange(1, 4))
        for step in NIGHT
    ]


def _damaged(case: Case, root: Path, world: World) -> list[Ended]:
    assert case.target is not None
    damage(root, case.target, case.kind.removeprefix("damage: "), random.Random(case.seed))
    return [run(arguments(root, case.step, day_of(case.step)))]


def attempt(case: Case, world: World, folder: Path) -> Result:
    """Try a case in a folder of its own, which is deleted afterwards."""
    root = world.copy(case.step, folder / "root")
    try:
        ends = kinds()[case.kind](case, root, world)
        why = _wrong_ends(case, ends) or _wrong_readers(root, case, world)
        if not why:
            why = _finish(case, ends, Operator(root, world.before(case.step)), world)
        statuses = {end.status for end in ends}
        end = "killed" if any((status or 0) < 0 for status in statuses) else "refused"
        return Result(case, "failed" if why else "unharmed" if statuses == {0} else end, why)
    except Exception as error:
        return Result(case, "failed", f"the case itself: {type(error).__name__}: {error}")
    finally:
        disks.unmount(root)
        shutil.rmtree(root, ignore_errors=True)


def _wrong_ends(case: Case, ends: list[Ended]) -> str:
    """What is wrong with how the disturbed processes ended."""
    for end in ends:
        if end.status is None:
            return f"it did not end within two minutes: {end.message}"
        if "Traceback (most recent call last)" in end.log:
            return f"a traceback: {end.message}"
        if end.status not in STATUSES and -end.status not in _SIGNALS.get(case.kind, ()):
            return f"exit status {end.status}: {end.message}"
        if end.status > 0 and case.kind != "file size limit" and not _SENTENCE.search(end.message):
            return f"exit status {end.status} without a sentence: {end.message}"
    return ""


def _wrong_readers(root: Path, case: Case, world: World) -> str:
    """What is wrong with the table that readers have after the fault, before anything is repaired."""
    before = world.tables[case.step]
    if case.kind == OTHER_DAYS:
        before = None  # any of these nights may be the newest
    if case.target is not None and case.target.as_posix().startswith("candidates/"):
        return ""  # the damaged file is the table itself
    try:
        now = Published.of(root)
    except InputError as error:
        return f"readers see a wrong table: {error}"
    known = (before, world.night, world.after)
    if case.kind == OTHER_DAYS or now in known:
        return ""
    return f"readers have another table than without the fault: {now}"


def _finish(case: Case, ends: list[Ended], operator: Operator, world: World) -> str:
    """Finish the night as the messages say; what is wrong with its result."""
    if case.kind == OTHER_DAYS:
        for day in (FIRST, SECOND):
            for step in NIGHT:
                run(arguments(operator.root, step, day))  # in the order of the days
        ended = operator.finish(NIGHT[0])
    else:
        # A step that succeeded is not run again: what it has made of the fault stays in the night.
        ended = operator.finish(case.step, next((end for end in ends if end.status == 0), ends[-1]))
        if ended.status == 0 and case.step != "refresh" and case.target == Path("warehouse.duckdb"):
            ended = operator.finish(NIGHT[0])  # the next pull finds damage that the rest of the night does not read
    story = "; then: ".join([*operator.done[-3:]])
    if ended.status != 0:
        return f"the night cannot be finished: {ended.message} ({story})"
    expected = world.after if case.step == "refresh" else world.night
    if case.kind == OTHER_DAYS:
        files = Manifest.read(Layout.at(operator.root).published_manifest(SECOND)).files
        same = tuple(file.sha256 for file in files) == expected.parts
        return "" if same else "another table of the day than in the order of the days"
    try:
        table, contents = Published.of(operator.root), held(operator.root)
    except (InputError, duckdb.Error) as error:
        return f"after the end: {error}"
    if contents != world.held[case.step if case.step == "refresh" else "ingest"]:
        return f"the warehouse holds other rows than without the fault ({story})"
    if table == expected:
        return ""
    if operator.full_retrain and table is not None and (table.day, table.users) == (expected.day, expected.users):
        return ""
    return f"another table than without the fault: {table}, not {expected} ({story})"
