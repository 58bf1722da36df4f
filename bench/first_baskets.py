"""First baskets: what is popular in a user's segment against what is popular among all users.

Users without history get popular items (:mod:`hmamba.candidates.fallback`). Their first basket is what can be
evaluated: users are divided at random into ``--folds`` groups, and the first basket of each is ranked by the events of
the users of the other groups, as the product counts and shrinks them. No event of the user itself is known. Most first
baskets of a data set lie at its beginning, so the counts are of the other users' whole histories, for all systems.

Only users of the users file are evaluated; all others are counted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.command import run_command, write_page
from bench.datasets import Columns, Data, load
from bench.machine import commit, machine, today
from bench.tables import table
from hmamba.errors import InputError
from hmamba.evaluation.baselines import popular
from hmamba.evaluation.comparison import compare
from hmamba.evaluation.metrics import metrics_by_query
from hmamba.sequences.histories import Histories, IntArray
from hmamba.sequences.segments import Group, Segments

ALL = "all users"
_K = 10
_METRICS = (f"hr@{_K}", f"ndcg@{_K}")

Values = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Described:
    """Users and the columns that describe them.

    Attributes:
        users: (D,) positions of the described users among those of the data.
        values: (U,) value of each user of the data by column, as text; None where there is none.
    """

    users: IntArray
    values: dict[str, npt.NDArray[np.object_]] = field(default_factory=dict)


def described(data: Data, path: Path, user_column: str) -> Described:
    """Read a users file.

    Raises:
        InputError: it cannot be read, lacks the column of the ids, or describes no user of the data.
    """
    try:
        found = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a Parquet file ({error}).") from error
    if user_column not in found.column_names:
        raise InputError(f"{path} has no column {user_column!r}. Name one of {', '.join(found.column_names)}.")
    ids = found[user_column].cast(pa.string()).combine_chunks()
    place = pc.index_in(data.histories.users.cast(pa.string()), value_set=ids)
    users = np.flatnonzero(place.is_valid().to_numpy(zero_copy_only=False))
    if not len(users):
        raise InputError(f"{path} describes no user of {data.name}. Check --users and --user-column.")
    columns = [name for name in found.column_names if name != user_column]
    values = {name: found[name].cast(pa.string()).combine_chunks().take(place) for name in columns}
    return Described(users, {name: texts.to_numpy(zero_copy_only=False) for name, texts in values.items()})


def first_baskets(histories: Histories, users: IntArray) -> tuple[IntArray, IntArray]:
    """Row (of ``users``) and item of each item of their first baskets, each once."""
    first = histories.times == histories.times[histories.offsets[histories.owner]]
    baskets = histories.keep(first).select(users)
    pairs = np.unique(np.stack([baskets.owner, baskets.items]), axis=1)
    return pairs[0], pairs[1]


def ranked(
    data: Data, known: Described, columns: tuple[str, ...], *, folds: int, min_users: int, seed: int
) -> IntArray:
    """The ten best items (D, 10) of each described user, by the users of the other folds."""
    histories, size = data.histories, data.size
    fold = np.random.default_rng(seed).integers(0, folds, len(histories))
    best = np.full((len(known.users), _K), -1, dtype=np.int64)
    for number in range(folds):
        others = np.flatnonzero(fold != number)
        counts = histories.select(others).item_events(size)
        groups = {}
        for column in columns:
            values = known.values[column]
            for value in sorted({value for value in values[others] if value is not None}):
                members = others[values[others] == value]
                if len(members) >= min_users:
                    events = histories.select(members).item_events(size)
                    items = np.flatnonzero(events)
                    groups[column, value] = Group(items, events[items], len(members))
        segments, lists = Segments(columns, min_users, groups), dict[tuple[tuple[str, str], ...], IntArray]()
        for row in np.flatnonzero(fold[known.users] == number):
            own = tuple((column, known.values[column][known.users[row]]) for column in columns)
            key = tuple(name for name in own if name in groups)
            if key not in lists:
                shares = segments.shares(tuple(groups[name] for name in key), counts)
                lists[key] = popular(_nobody(), shares, _K, exclude_seen=False)[0]
            best[row] = lists[key]
    return best


def _nobody() -> Histories:
    """One user without events."""
    nothing = np.zeros(0, dtype=np.int64)
    return Histories(pa.array([""]), np.zeros(2, dtype=np.int64), nothing, nothing)


def measure(
    data: Data, known: Described, systems: Sequence[tuple[str, ...]], *, folds: int, min_users: int, seed: int
) -> dict[str, Values]:
    """Metrics (D,) of each described user, by system; that without columns is first."""
    rows, items = first_baskets(data.histories, known.users)
    found = {}
    for columns in ((), *systems):
        best = ranked(data, known, columns, folds=folds, min_users=min_users, seed=seed)
        values = metrics_by_query(best, rows, items, cutoffs=[_K])
        found[", then ".join(columns) or ALL] = {name: values[name] for name in _METRICS}
    return found


def page(data: Data, known: Described, measured: dict[str, Values], given: Sequence[str], min_users: int) -> str:
    """The results in Markdown, with the interval of each difference from all users."""
    lines = []
    for name, values in measured.items():
        cells = [f"{values[metric].mean():.4f}" for metric in _METRICS]
        for metric in _METRICS:
            if name == ALL:
                cells.append("")
                continue
            entry = compare((name, ALL), metric, values[metric], measured[ALL][metric])
            cells.append(f"{entry.difference:+.4f} ({entry.low:+.4f} to {entry.high:+.4f})")
        lines.append([name, *cells])
    header = [
        "popular in the segment",
        *map(str.upper, _METRICS),
        *(f"{name.upper()}, difference" for name in _METRICS),
    ]
    return f"""# First baskets: {data.name}

{len(known.users):,} of {len(data.histories):,} users are described. Values with fewer than {min_users:,} users are left
out. Differences are from the items that are popular among all users, with 95 % intervals over users.

{table(header, lines)}

Commit {commit()}, {today()}, {machine()}. Command: `python -m bench.first_baskets {" ".join(given)}`
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.first_baskets", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("data", help="name of a data set, or the path of a Parquet file of interactions")
    parser.add_argument("--folder", type=Path, default=os.environ.get("HMAMBA_DATA"), help="folder of the data sets")
    parser.add_argument("--users", type=Path, required=True, help="Parquet file of users")
    parser.add_argument("--user-column", default="user_id", help="its column with the user's id")
    parser.add_argument(
        "--segments",
        action="append",
        default=[],
        metavar="COLUMN,COLUMN",
        help="columns, the narrowest first; may repeat",
    )
    parser.add_argument("--min-users", type=int, default=100, help="users.min_users")
    parser.add_argument("--folds", type=int, default=5, help="groups of users")
    parser.add_argument("--seed", type=int, default=0, help="of the division into folds")
    parser.add_argument("--page", type=Path, help="also write the results to this file")

    def run(options: argparse.Namespace) -> str:
        data = load(options.data, None if options.folder is None else Path(options.folder), Columns())
        known = described(data, options.users, options.user_column)
        systems = [tuple(text.split(",")) for text in options.segments] or [(name,) for name in known.values]
        unknown = {name for columns in systems for name in columns} - known.values.keys()
        if unknown:
            raise InputError(
                f"--segments: {options.users} has no column {min(unknown)!r}, but {', '.join(known.values)}."
            )
        measured = measure(data, known, systems, folds=options.folds, min_users=options.min_users, seed=options.seed)
        shown = [Path(word).name if "/" in word else word for word in options.given]
        text = page(data, known, measured, shown, options.min_users)
        if options.page is not None:
            write_page(options.page, text)
        return text

    return run_command(parser, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
