"""An operator who runs steps and does what their messages say, and nothing else."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from tests.faults.processes import Ended, run
from tests.faults.world import FIRST, NIGHT, arguments, day_of

_TRIES = 10
_STEP = re.compile(r"python -m jobs\.(\w+)(?: --shard (\d+))?|Run the (\w+) step(?: for shard (\d+))?")
_RESTORE = re.compile(r"(?:Restore|restore|backup)")
_DELETE = re.compile(r"(?:[Dd]elete|[Rr]emove|Move) (?:it|that file|the file)")
_PATH = re.compile(r"((?:/|landing/)\S+?)[:,;]?(?= |$)")


@dataclass
class Operator:
    """Brings a disturbed root to the end of its night.

    Attributes:
        root: the root.
        backup: the root before the fault, as a backup holds it.
        done: what was done, for the record.
        full_retrain: whether a model was trained from scratch on the way, so that the table is another one.
    """

    root: Path
    backup: Path
    done: list[str] = field(default_factory=list)
    full_retrain: bool = False

    def finish(self, step: str, ended: Ended | None = None) -> Ended:
        """Run the rest of the night, or of the refresh.

        Args:
            step: a step.
            ended: how it has ended, after which the night goes on; None to run it.

        Returns:
            The end of the last step, or of one that still fails after its messages were followed.
        """
        plan = ("ingest", "refresh") if step == "refresh" else NIGHT
        day, place = day_of(step), plan.index(step)
        ended = ended or self._run(step, day)
        for _ in range(_TRIES + 2 * len(plan)):
            if ended.status == 0:
                place += 1
                if place == len(plan):
                    return ended
            elif len(self.done) >= _TRIES:
                return ended
            elif (ended.status or 0) > 0:  # a step that was killed is run again
                place = self._follow(ended, plan, place, day)
            ended = self._run(plan[place], day)
        return ended

    def _run(self, step: str, day: date) -> Ended:
        more = ["--full-retrain"] if step == "train" and self.full_retrain else []
        return run(arguments(self.root, step, day, *more))

    def _follow(self, ended: Ended, plan: tuple[str, ...], place: int, day: date) -> int:
        """Do what the message says; returns the next step's place in the plan."""
        said = ended.message
        self.done.append(said)
        named = _PATH.search(said)
        path = self.root / named[1] if named else None  # an absolute path stays as it is
        if path is not None and "Restore the model's folder" in said and path.parent.parent.name == "models":
            path = path.parent
        asked, restore = _STEP.search(said), _RESTORE.search(said)
        # Of several cures, the first one.
        if restore and (not asked or restore.start() < asked.start()) and path is not None and self._restore(path):
            return place
        if asked:
            name = asked[1] or asked[3]
            shard = asked[2] or asked[4]
            step = f"{name}-{shard or 0}" if name == "score" else name
            if step in plan:
                return plan.index(step)
            self._earlier_night(day)
            return 0
        if "Run that step again" in said and path is not None and path.parent.name == "metrics":
            name, _, shard = path.stem.partition("-")  # the file has the name of its step
            step = f"{name}-{int(shard)}" if shard else name
            return plan.index(step) if step in plan else place
        if path is not None and path.is_relative_to(self.root / "landing"):
            _delete(path)  # every message on a file of the source asks to correct it or to take it away
            return place
        if "--full-retrain" in said:
            self.full_retrain = True
            return plan.index("train") if "train" in plan else place
        if "hmamba run" in said or "Run that night again" in said or "Run the night" in said:
            self._earlier_night(day)
            return 0
        if _DELETE.search(said) and path is not None and path.is_relative_to(self.root):
            _delete(path)
            return place
        return place  # it may succeed when it is tried again

    def _restore(self, path: Path) -> bool:
        """Copy a file or folder from the backup; false if the backup holds none."""
        if not path.is_relative_to(self.root):
            return False
        kept = self.backup / path.relative_to(self.root)
        if not kept.exists():
            return False
        _delete(path)
        if kept.is_dir():
            shutil.copytree(kept, path, symlinks=True, dirs_exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(kept, path)
        return True

    def _earlier_night(self, day: date) -> None:
        """Run the night before a refresh again."""
        earlier = day_of("ingest") if day > day_of("ingest") else FIRST
        for step in NIGHT:
            run(arguments(self.root, step, earlier))


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
