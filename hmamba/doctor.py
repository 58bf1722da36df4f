"""Check the machine and a root: what is installed, what is missing, and the command that fixes it.

Libraries are looked up, not imported, so that a missing or broken one is reported and does not crash the command. torch
is the exception: only torch itself can report whether it sees a GPU.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from hmamba.config import Config
    from hmamba.storage.layout import Layout

DISTRIBUTION = "hmamba-nightly"
PYTHONS = ((3, 11), (3, 12))
MEMORY_GB = 6.0
DISK_GB = 5.0
GIB = 2**30
_UNKNOWN_DAY = "YYYY-MM-DD"

State = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Check:
    """One finding. ``missing`` stops the nights; ``note`` does not stop them, but may need attention."""

    name: str
    state: State
    found: str
    advice: str = ""


def diagnose(root: Path | None = None) -> list[Check]:
    """Check the machine and, if given, a root. Changes nothing and raises no errors."""
    checks = [_python(), *_libraries(), _faiss(), *_gpu(), _cores(), _memory()]
    if root is not None:
        checks += [_writable(root), _disk(root), *_root_contents(root)]
    return checks


def healthy(checks: list[Check]) -> bool:
    """Whether nothing that is required is missing."""
    return all(check.state != "missing" for check in checks)


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:2] in PYTHONS:
        return Check("Python", "ok", version)
    return Check("Python", "missing", version, "Python 3.11 or 3.12 is needed: make PYTHON=python3.11 venv")


def _requirements() -> Iterator[tuple[str, str, str]]:
    """Name, required versions and extra ("" for none) of each requirement of the package."""
    from packaging.requirements import Requirement

    for line in metadata.requires(DISTRIBUTION) or []:
        requirement = Requirement(line)
        _, _, extra = str(requirement.marker or "").partition("extra == ")
        yield requirement.name, str(requirement.specifier), extra.strip("\"'")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _install(extra: str = "") -> str:
    return f"pip install -c constraints.txt -e '.{f'[{extra}]' if extra else ''}'"


def _libraries() -> Iterator[Check]:
    """Check the libraries of the base installation, and Airflow."""
    try:
        requirements = list(_requirements())
    except (ImportError, metadata.PackageNotFoundError) as error:
        yield Check("libraries", "missing", f"cannot be listed: {error}", _install())
        return
    for name, versions, extra in requirements:
        if extra in ("", "airflow"):
            yield _library(name, versions, extra)


def _library(name: str, versions: str, extra: str) -> Check:
    from packaging.specifiers import SpecifierSet

    found = _version(name)
    absent: State = "note" if extra else "missing"
    if found is None:
        reason = "not installed" + (f"; needed only for the extra [{extra}]" if extra else "")
        return Check(name, absent, reason, _install(extra))
    if not SpecifierSet(versions).contains(found, prereleases=True):
        return Check(name, absent, f"{found}, but {versions} is needed", _install(extra))
    return Check(name, "ok", found)


def _faiss() -> Check:
    """Check FAISS, whose module is part of either of two packages."""
    present = [f"{name} {version}" for name in ("faiss-gpu", "faiss-cpu") if (version := _version(name))]
    if importlib.util.find_spec("faiss") is None:
        return Check("faiss", "missing", "not installed", f"{_install('cpu')}   (or [gpu])")
    if len(present) > 1:
        advice = "pip uninstall faiss-cpu faiss-gpu, then install one of them"
        return Check("faiss", "note", f"{' and '.join(present)}: two packages share one module", advice)
    return Check("faiss", "ok", present[0] if present else "built from source")


def _gpu() -> Iterator[Check]:
    """Check CUDA as torch sees it, and the fused kernels if there is a GPU."""
    if importlib.util.find_spec("torch") is None:
        return
    try:
        torch = importlib.import_module("torch")
        build, visible = torch.version.cuda, torch.cuda.is_available()
        names = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())] if visible else []
    except Exception as error:
        advice = "pip install --force-reinstall -c constraints.txt torch"
        yield Check("torch import", "missing", f"{type(error).__name__}: {error}", advice)
        return
    if visible:
        yield Check("GPU", "ok", f"{', '.join(names)} (CUDA {build})")
        yield _kernels(torch.device("cuda"))
    elif shutil.which("nvidia-smi"):
        reason = f"its CUDA {build} cannot use it" if build else "it is a build without CUDA"
        advice = "install the torch build that fits your driver; constraints.txt says how"
        yield Check("GPU", "note", f"there is a driver, but not for torch {torch.__version__}: {reason}", advice)
    else:
        yield Check("GPU", "ok", "none; everything runs on the CPU")


def _kernels(device: object) -> Check:
    """Load the fused scan as training does. Importing mamba_ssm itself needs libraries that the kernels do not need."""
    try:
        importlib.import_module("hmamba.model.kernels").choose("fused", device)
    except Exception as error:
        return Check("mamba_ssm kernels", "note", f"PyTorch's own scan is used: {error}", _install("gpu"))
    return Check("mamba_ssm kernels", "ok", _version("mamba-ssm") or "present")


def _cores() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("cores", "ok", str(usable))


def _first_number(paths: tuple[str, ...]) -> int | None:
    for path in paths:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            return int(text)
    return None


def _memory() -> Check:
    """Check the physical memory, or a container's limit if that is lower."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return Check("memory", "note", "unknown on this system")
    limit = _first_number(("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"))
    usable = min(total, limit or total) / GIB
    if usable < MEMORY_GB:
        advice = "lower warehouse.memory_limit and train.tokens in hmamba.toml"
        return Check("memory", "note", f"{usable:.1f} GiB; the demo needs {MEMORY_GB:g} GiB", advice)
    return Check("memory", "ok", f"{usable:.1f} GiB")


def _nearest(path: Path) -> Path:
    """The path itself, or its closest parent that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def _writable(root: Path) -> Check:
    if root.exists() and not root.is_dir():
        return Check("root", "missing", f"{root} is not a folder", "give --root the path of a folder")
    place = _nearest(root)
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".hmamba-doctor-"):
            pass
    except OSError as error:
        return Check(
            "root",
            "missing",
            f"{place} cannot be written ({error.strerror})",
            f"chown -R $USER {shlex.quote(str(place))}",
        )
    if place != root:
        return Check("root", "note", f"{root} does not exist yet", _start(root))
    return Check("root", "ok", f"{root} is writable")


def _start(root: Path) -> str:
    return f"hmamba init {shlex.quote(str(root))}"


def _disk(root: Path) -> Check:
    free = shutil.disk_usage(_nearest(root)).free / GIB
    if free < DISK_GB:
        return Check(
            "disk", "note", f"{free:.1f} GiB free", "lower the days in [keep] and run hmamba prune, or free space"
        )
    return Check("disk", "ok", f"{free:.1f} GiB free")


def _root_contents(root: Path) -> Iterator[Check]:
    """Check the root's configuration, source files, catalogue, champion and published candidates."""
    from hmamba.errors import HMambaError
    from hmamba.storage.layout import Layout

    try:
        layout = Layout.at(root)
    except HMambaError as error:
        yield Check("root", "missing", str(error))
        return
    config: Config | None = None
    try:
        from hmamba.config import load

        config = load(None, layout)
    except Exception as error:
        yield Check("configuration", "missing", str(error))
    else:
        yield _configuration(layout, config)
        if config.has_ranker:
            yield _attempt("lightgbm", _lightgbm)
        yield from (_target(layout, config, name) for name in config.deliver.targets)
    if root.is_dir():
        newest = _UNKNOWN_DAY
        if config is not None:
            newest = yield from _landing(layout, config)
            if config.catalogue.path is not None:
                yield _attempt("catalogue", partial(_catalogue, layout, config))
            if layout.rules.exists():
                yield _attempt("rules", partial(_rules, layout, config))
        night = layout.command("run", "--day", newest)
        yield _attempt("champion", partial(_champion, layout, night))
        yield _attempt("published", partial(_published, layout, night))
        yield _attempt("data checks", partial(_data_checks, layout))


def _lightgbm() -> Check:
    from hmamba.ranker import lightgbm

    return Check("lightgbm", "ok", str(lightgbm().__version__))


def _target(layout: Layout, config: Config, name: str) -> Check:
    """Whether a target of deliveries has its library and its address; it is not connected to."""
    from hmamba.delivery.base import Settings
    from hmamba.delivery.registry import open_target
    from hmamba.errors import ConfigError

    settings = config.deliver.targets[name]
    try:
        open_target(Settings(name, settings, layout.root, 0))
    except ConfigError as error:  # it does not stop a night, and Airflow may know what is missing here
        return Check(f"deliver.{name}", "note", f"{settings.kind}; cannot be delivered to from here", str(error))
    return Check(f"deliver.{name}", "ok", settings.kind)


def _attempt(name: str, check: Callable[[], Check]) -> Check:
    """Run a check; an error becomes a finding, because its message says what to do."""
    try:
        return check()
    except Exception as error:
        return Check(name, "missing", str(error))


def _configuration(layout: Layout, config: Config) -> Check:
    if not layout.config.exists():
        return Check("configuration", "note", "none; the defaults are used", _start(layout.root))
    return Check("configuration", "ok", f"{layout.config.name} is valid; it reads {config.source.path}")


def _landing(layout: Layout, config: Config) -> Generator[Check, None, str]:
    """Check a sample of the source files by the rules of the next pull; return the day of the next night."""
    from hmamba import clock
    from hmamba.survey.landing import Examined, examine
    from hmamba.text import counted

    try:
        found: Examined | None = examine(layout, config)
    except Exception as error:
        yield Check("events", "missing" if layout.config.exists() else "note", str(error))
        return _UNKNOWN_DAY
    if found is None:
        advice = "put Parquet, CSV or JSON lines there, or start a new root with: hmamba init ROOT --from FILES"
        yield Check("events", "note", f"{config.source.path} holds no files", advice)
        return _UNKNOWN_DAY
    figures = found.figures
    about = "" if figures.exact else "about "
    looked = "" if figures.looked == figures.total else f", {figures.looked:,} of them read"
    rows = f"{about}{counted(figures.total, 'row')} in {counted(figures.files, 'file')}{looked}"
    held = f"{rows}: {counted(figures.users, 'user')}, {counted(figures.items, 'item')}"
    yield Check("events", "ok" if figures.total else "note", held)
    if figures.oldest is not None and figures.newest is not None:
        yield Check("days", "ok", f"{figures.oldest:%Y-%m-%d} to {figures.newest:%Y-%m-%d}")
    if figures.total:
        yield _repeats(found.repeated, config.candidates.exclude_seen)
    for refusal in found.refusals:
        share = f"{refusal.rows:,} of {figures.looked:,} rows would be refused ({refusal.rule})"
        yield Check("rows", "note", f"{share}: {refusal.example}", refusal.cure)
    yield from (Check("pull", "missing", sentence) for sentence in found.stops)
    if figures.newest is None:
        return clock.now().date().isoformat() if config.source.columns.by_position else _UNKNOWN_DAY
    return figures.newest.date().isoformat()


def _catalogue(layout: Layout, config: Config) -> Check:
    """Check that the catalogue exists and has the configured columns."""
    from hmamba.survey.landing import examine_catalogue
    from hmamba.text import counted

    files = examine_catalogue(layout, config)
    if not files:
        return Check(
            "catalogue", "note", f"no file matches catalogue.path = {config.catalogue.path!r}", "correct catalogue.path"
        )
    return Check(
        "catalogue", "ok", f"{config.catalogue.path}: {counted(len(files), 'file')} with the configured columns"
    )


def _rules(layout: Layout, config: Config) -> Check:
    """Check rules.toml against the columns of the catalogue and of the users file."""
    from hmamba.clock import now
    from hmamba.rules.trial import try_rules
    from hmamba.text import counted

    found = try_rules(layout, config, now().date())
    if not found.rules:
        return Check("rules", "note", "rules.toml has no rules", "add one, see docs/rules.md, or remove the file")
    return Check("rules", "ok", f"{counted(found.rules, 'rule')} fit the columns of {found.columns}")


def _repeats(share: float, exclude_seen: bool) -> Check:
    """Check that ``candidates.exclude_seen`` fits the share of repeated events."""
    from hmamba.survey.measure import REPEATS_FROM

    found = f"{share:.1%} of events repeat an item of their user"
    if exclude_seen and share >= REPEATS_FROM:
        advice = "if users buy or watch items again, set candidates.exclude_seen = false"
        return Check("repeats", "note", f"{found}, and seen items are never recommended", advice)
    return Check("repeats", "ok", found)


def _champion(layout: Layout, night: str) -> Check:
    from hmamba.contracts.models import Promotions
    from hmamba.ranker import RANKER_FILE, lightgbm

    promotions = Promotions.read_if_exists(layout.champion, layout.storage)
    if promotions is None or promotions.version is None:
        if layout.latest.exists():
            return Check("champion", "note", "none: a baseline serves, and each night trains a first model again")
        return Check("champion", "note", "no model has been promoted yet", night)
    version = promotions.version
    if not layout.model(version).is_dir():
        return Check("champion", "missing", f"{version} is named, but {layout.model(version)} is gone", "restore it")
    if (layout.model(version) / RANKER_FILE).exists():
        lightgbm()
    return Check("champion", "ok", version)


def _published(layout: Layout, night: str) -> Check:
    from hmamba.candidates.lookup import published_manifest

    if not layout.latest.exists():
        return Check("published", "note", "no candidates yet", night)
    manifest = published_manifest(layout)
    return Check("published", "ok", f"{manifest.day}: {manifest.users} users, {manifest.rows} rows")


def _data_checks(layout: Layout) -> Check:
    """Check the records and pages of earlier checks, which are derived: damage does not stop a night."""
    from hmamba.quality.checks import examine

    try:
        found = examine(layout.checks)
    except OSError as error:
        return Check("data checks", "note", f"cannot be read: {error}", f"let $USER read {layout.checks.folder}")
    damage = found.in_words("the next check deletes it", "the next check writes it again")
    if damage:
        return Check("data checks", "note", f"{layout.checks.folder}: {damage}")
    return Check("data checks", "ok", f"{len(found.records)} kept" if found.records else "none yet")
