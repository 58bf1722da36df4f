"""Accuracy on public data: the product's model, a tuned peer and floors, on one split with the same metrics.

python -m bench.accuracy beauty --folder DATA --seeds 1,2,3

Finished runs are stored and the tables are made from them, so a long measurement can be stopped and resumed.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import settings
from bench.command import run_command, write_page
from bench.datasets import Columns, Data, load
from bench.machine import commit, machine, today
from bench.new_items import header_of, lines_of
from bench.protocols import (
    MASKED,
    TEST,
    VALIDATION,
    Experiment,
    Protocol,
    last_day,
    launch_late,
    leave_one_out,
    repeat_share,
)
from bench.store import ROOT, Store
from bench.systems import FLOORS, HMAMBA, REFERENCE, Bench, Row
from bench.tables import metrics_table, origins, runs_table, table
from hmamba.config import Config, read_toml
from hmamba.errors import ConfigError
from hmamba.storage.local import digest, sha256

log = logging.getLogger("hmamba")

SYSTEMS = ("hmamba", "floors", "sasrec")
LAST_DAY = frozenset({"complete-journey"})
LENGTHS = {"ml-latest-small": 200}
"""Newest events of a user that the literature reads, where it is not ``PUBLISHED_LENGTH``."""

PUBLISHED_LENGTH = 50
PLACES = frozenset({"--folder", "--work", "--out", "--peers-python"})


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("data", help="beauty, sports, toys, video-games, complete-journey, ml-latest-small, foursquare, or a file")
    add(
        "--folder", type=Path, default=os.environ.get("HMAMBA_DATA"), help="folder of the named data sets (HMAMBA_DATA)"
    )
    add("--user-id", default=Columns.user, help="user column of a file (%(default)s)")
    add("--item-id", default=Columns.item, help="item column of a file (%(default)s)")
    add("--time", help="column of times or positions (event_time if it exists, else position)")
    add("--protocol", choices=list(FLOORS), help="last-day for complete-journey, leave-one-out otherwise")
    add("--split", choices=[VALIDATION, TEST], default=TEST, help="use validation to choose settings (%(default)s)")
    add(
        "--length",
        type=int,
        help=f"leave-one-out: newest events of each user, 0 for all ({PUBLISHED_LENGTH}; 200 for ml-latest-small)",
    )
    add(
        "--launch-late",
        type=float,
        default=0.0,
        help="leave-one-out: share of the items that are new, of which only users' last events are kept (%(default)s)",
    )
    add("--days", type=int, default=28, help="last-day: days from the cut to the end (%(default)s)")
    add("--settings", type=Path, help="a .toml file (bench/settings/DATA.toml if it exists)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="override a setting, such as model.layers=2")
    add(
        "--peer-set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="fix a setting of SASRec instead of searching it",
    )
    add("--peer-minutes", type=float, help="stop SASRec after this time; the same command resumes it (no limit)")
    add("--seeds", default="1", help="such as 1,2,3 (%(default)s)")
    add(
        "--systems",
        default=",".join(SYSTEMS),
        help="systems to run; of others only stored runs are shown (%(default)s)",
    )
    add("--ablation", action="store_true", help="train each row of --ablation-file instead")
    add("--ablation-file", type=Path, default=settings.FOLDER / "ablation.toml", help="rows of overrides")
    add("--again", action="store_true", help="run finished runs again")
    add("--print-only", action="store_true", help="write no results file")
    add("--work", type=Path, default=ROOT / "build" / "bench" / "accuracy", help="folder of stored runs (%(default)s)")
    add("--out", type=Path, default=ROOT / "bench" / "results", help="folder of the Markdown files (%(default)s)")
    add("--peers-python", type=Path, default=ROOT / ".venv-peers" / "bin" / "python", help="(%(default)s)")
    return parser


def numbers(option: str, text: str) -> list[int]:
    """The whole numbers of an option.

    Raises:
        ConfigError: the text is something else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} {text}: give whole numbers with commas, such as 1,2,3.") from None


def _systems(text: str) -> frozenset[str]:
    systems = frozenset(text.split(","))
    if systems - set(SYSTEMS):
        raise ConfigError(f"--systems {text}: choose among {', '.join(SYSTEMS)}, with commas.")
    return systems


def split_of(
    data: Data, protocol: Protocol, options: argparse.Namespace, config: Config
) -> tuple[Experiment, dict[str, Any]]:
    """The experiment, and everything that it depends on."""
    if protocol == "leave-one-out":
        if options.length < 0 or options.length == 1:
            raise ConfigError(f"--length {options.length}: give 2 or more, or 0 for all events.")
        if not 0 <= options.launch_late < 1:
            raise ConfigError(f"--launch-late {options.launch_late}: give a share of the items, below 1.")
        facts: dict[str, Any] = {"protocol": protocol, "length": options.length}
        if options.launch_late:
            data, facts["launch_late"] = launch_late(data, options.launch_late), options.launch_late
        experiment = leave_one_out(data, options.length or None)
    else:
        if options.days < 1:
            raise ConfigError(f"--days {options.days}: give 1 or more.")
        facts = {
            "days": options.days,
            "validation_days": config.train.validation_days,
            "min_item_events": config.train.min_item_events,
            "split": options.split,
        }
        experiment = last_day(data, **facts)
        facts["protocol"] = protocol
    return experiment, {**facts, "data": data.sha256}


def usual_length(data: Data) -> int:
    """Newest events of a user that are read under leave-one-out."""
    return LENGTHS.get(data.name, PUBLISHED_LENGTH)


def default_protocol(data: Data) -> Protocol:
    """The protocol of a data set, if none is chosen."""
    return "last-day" if data.name in LAST_DAY else "leave-one-out"


def _setting(config: Config, name: str) -> Any:
    section, _, key = name.partition(".")
    return getattr(getattr(config, section), key)


def tuned_settings(data: Data, config: Config) -> dict[str, Any]:
    """The model's settings that are not the defaults of the data set; the seed is not among them."""
    standard = settings.configure(settings.standard(data.name, data.repeats), {})
    names = [name for side in (config, standard) for name in settings.differences(side)]
    return {name: value for name in names if (value := _setting(config, name)) != _setting(standard, name)}


def other_options(data: Data, protocol: Protocol, options: argparse.Namespace) -> dict[str, Any]:
    """The options that figures depend on and that are not the defaults; the split is not among them."""
    changed = {f"sasrec.{name}": value for name, value in settings.pairs(options.peer_set).items()}
    if protocol != default_protocol(data):
        changed["--protocol"] = protocol
    defaults = _arguments()
    of_protocol = ("length", "launch_late") if protocol == "leave-one-out" else ("days",)
    for name in ("user_id", "item_id", "time", *of_protocol):
        usual = usual_length(data) if name == "length" else defaults.get_default(name)
        if getattr(options, name) != usual:
            changed[f"--{name.replace('_', '-')}"] = getattr(options, name)
    if options.ablation and options.ablation_file != defaults.get_default("ablation_file"):
        changed["--ablation-file"] = f"{options.ablation_file.name}, sha256 {sha256(options.ablation_file)[:8]}"
    return changed


def file_name(kind: str, data: str, split: str, changed: dict[str, Any]) -> str:
    """The name of a results file: with the split if it is not the test, and a digest of what is not default."""
    parts = [kind, data, *([split] if split != TEST else []), *([digest(changed)[:8]] if changed else [])]
    return f"{'-'.join(parts)}.md"


def command_of(given: list[str], program: str = "bench.accuracy") -> str:
    """The command without this machine's folders, so that it can be run elsewhere."""
    shown: list[str] = []
    words = iter(given)
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in PLACES:
            shown.append(Path(word).name if word.endswith(".parquet") else word)
        elif not equals:
            next(words, None)
    return shlex.join(["python", "-m", program, *shown])


def _conditions(bench: Bench, data: Data, options: argparse.Namespace, changed: dict[str, Any]) -> str:
    histories, experiment = data.histories, bench.experiment
    shown = ", ".join(f"{name} = {value}" for name, value in changed.items())
    suffix = f" ({digest(changed)[:8]} in the name of this file)" if changed else ""
    lines = [
        ["command", f"`{command_of(options.given)}`"],
        [f"other than the defaults of {data.name}", (shown or "none") + suffix],
        ["commit, date", f"{commit()}, {today()}"],
        ["machine", machine()],
        ["data", f"{data.name}: {histories.events:,} events, {len(histories):,} users, {data.size - 1:,} items"],
        ["sha256", data.sha256],
        ["training", f"{experiment.train.events:,} events; {len(experiment.candidate_items):,} candidate items"],
    ]
    for name, exam in experiment.exams.items():
        for group, rows in exam.groups.items():
            lines.append([f"queries: {name}", f"{len(rows):,} users ({group})"])
        share = repeat_share(exam.evaluation_set, exam.seen)
        lines.append([f"repeats among the relevant items: {name}", f"{share:.1%}"])
    if bench.protocol == "leave-one-out":
        lines.append(["events read of a user", f"the last {options.length}" if options.length else "all"])
    else:
        note = (
            f"training ends before the last {options.days} days and the validation days before those. In the group "
            "'all users' other users' training events may be later than a user's last day."
        )
        lines.append(["cut in time", f"{options.split}: {note}"])
    return table(["", ""], lines)


def _places(experiment: Experiment, split: str) -> list[tuple[str, str, str]]:
    shown = split if split in experiment.exams else TEST
    exam = experiment.exams[shown]
    return [(shown, group, view) for group in exam.groups for view in exam.views]


def _report(
    bench: Bench, data: Data, rows: list[Row], reference: str, options: argparse.Namespace, changed: dict[str, Any]
) -> str:
    title = f"# {'Ablation' if options.ablation else 'Accuracy'} on {data.name}, {bench.protocol}"
    parts = [title, _conditions(bench, data, options, changed)]
    comparable = options.split == TEST and bench.protocol == "leave-one-out" and options.length == PUBLISHED_LENGTH
    comparable = comparable and not options.launch_late
    figures = read_toml(settings.FOLDER / "published.toml")["figure"] if comparable else []
    for place in _places(bench.experiment, options.split):
        _, group, view = place
        known = [figure for figure in figures if figure["data"] == data.name and view == MASKED]
        parts += [f"## {options.split}, {group}, {view}", metrics_table(rows, place, reference, known)]
    for row in rows:
        if row.whole and (new := [found for result in row.results if (found := result.get("new_items"))]):
            parts += [f"## {TEST}, new and rare items, {row.label}", table(header_of(new), lines_of(new))]
    run_apart = [row for row in rows if row.whole]
    notes = "Spread: standard deviation over seeds. R@100: share of the relevant items among the first 100."
    if any(row.tuned for row in rows):
        notes += f" Tuned: with other settings than the defaults of {data.name}."
    parts += ["## Runs", runs_table(run_apart), notes, origins(run_apart)]
    return "\n\n".join(parts) + "\n"


def _compare(
    bench: Bench, standard: dict[str, Any], overrides: dict[str, Any], options: argparse.Namespace, *, tuned: bool
) -> list[Row]:
    seeds = numbers("--seeds", options.seeds)
    rows = [bench.floor(name) for name in FLOORS[bench.protocol]]
    configs = [settings.configure(standard, {**overrides, "train.seed": seed}) for seed in seeds]
    ours = bench.hmamba(HMAMBA, configs, tuned=tuned)
    if bench.protocol == "leave-one-out":
        length = options.length or int(bench.experiment.train.lengths.max())
        seconds = None if options.peer_minutes is None else 60 * options.peer_minutes
        floor_rows, peer = rows.copy(), settings.pairs(options.peer_set)
        sasrec = bench.sasrec(peer, seeds, length, options.peers_python, seconds)
        rows += [sasrec, bench.merged(sasrec, floor_rows, length)]
    return [*rows, ours, *ours.parts()]


def _ablate(
    bench: Bench,
    name: str,
    standard: dict[str, Any],
    overrides: dict[str, Any],
    options: argparse.Namespace,
    *,
    tuned: bool,
) -> list[Row]:
    seeds, rows = numbers("--seeds", options.seeds), []
    for entry in read_toml(options.ablation_file).get("row", []):
        if name not in entry.get("data", [name]):
            continue
        configs = [settings.configure(standard, {**overrides, **entry["set"], "train.seed": seed}) for seed in seeds]
        row = bench.hmamba(entry["name"], configs, tuned=tuned)
        rows += [row, *row.parts()]
    if not rows:
        raise ConfigError(f"{options.ablation_file} has no [[row]] for {name}.")
    return rows


def run(options: argparse.Namespace) -> str:
    """Run what is not stored yet, and write the tables.

    Returns:
        The Markdown.

    Raises:
        HMambaError: a file, a setting or an option is invalid.
    """
    columns = Columns(options.user_id, options.item_id, options.time)
    data = load(options.data, Path(options.folder) if options.folder else None, columns)
    if options.length is None:
        options.length = usual_length(data)
    standard = settings.standard(data.name, data.repeats, options.settings)
    overrides = settings.pairs(options.set)
    config = settings.configure(standard, overrides)
    protocol: Protocol = options.protocol or default_protocol(data)
    tuned = tuned_settings(data, config)
    changed = {**tuned, **other_options(data, protocol, options)}
    experiment, facts = split_of(data, protocol, options, config)
    store = Store(options.work, again=options.again)
    bench = Bench(experiment, protocol, {**facts, "columns": asdict(columns)}, store, _systems(options.systems))
    with store.alone():
        if options.ablation:
            rows = _ablate(bench, data.name, standard, overrides, options, tuned=bool(tuned))
        else:
            rows = _compare(bench, standard, overrides, options, tuned=bool(tuned))
    reference = rows[0].name if options.ablation else REFERENCE[protocol]
    text = _report(bench, data, rows, reference, options, changed)
    if not options.print_only:
        kind = "ablation" if options.ablation else "accuracy"
        write_page(options.out / file_name(kind, data.name, options.split, changed), text)
    return text


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run_command(_arguments(), run, arguments)


if __name__ == "__main__":
    sys.exit(main())
