"""A whole night with five rules beside one without, step by step, as processes.

python -m bench.rules [--users 3000]
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.machine import commit, machine, today
from bench.scale.steps import Done, run
from bench.speed.rules import RULES
from bench.tables import table
from hmamba.sequences.histories import MICROSECONDS_A_DAY, midnight

DAY = date(2024, 6, 1)
STEPS = ("ingest", "snapshot", "train", "gate", "index", "score", "publish", "report")
_ITEMS, _TASTES, _EVENTS, _DAYS = 5_000, 20, 40, 90
_SETTINGS = """
[snapshot]
shards = 1
[train]
epochs = 4
[catalogue]
path = "landing/products.parquet"
category_path = ["department"]
[users]
path = "landing/users.parquet"
"""


def write_shop(root: Path, users: int, rules: str | None) -> None:
    """Write a root whose users take mostly items of one of 20 tastes; the rules remove half of the items for a user."""
    draw = np.random.default_rng(0)
    landing = root / "landing"
    (landing / "interactions").mkdir(parents=True)
    (root / "hmamba.toml").write_text(_SETTINGS, encoding="utf-8")
    if rules is not None:
        (root / "rules.toml").write_text(rules, encoding="utf-8")
    user = np.repeat(np.arange(users), _EVENTS)
    taste = np.where(draw.random(len(user)) < 0.8, user % _TASTES, draw.integers(0, _TASTES, len(user)))
    place = np.minimum(draw.zipf(1.3, len(user)) - 1, _ITEMS // _TASTES - 1)
    times = midnight(DAY) + MICROSECONDS_A_DAY - draw.integers(1, _DAYS * MICROSECONDS_A_DAY, len(user))
    events = {
        "user_id": pa.array(user).cast(pa.string()),
        "item_id": pa.array(taste + _TASTES * place).cast(pa.string()),
        "event_time": pa.array(times).cast(pa.timestamp("us")),
    }
    pq.write_table(pa.table(events), landing / "interactions" / "events.parquet")
    number, countries = np.arange(_ITEMS), np.array(["all", "all", "all", "DE", "FR", "AT"])
    products = {
        "item_id": pa.array(number).cast(pa.string()),
        "department": pa.array(number % _TASTES).cast(pa.string()),
        "stock": draw.integers(0, 5, _ITEMS),
        "kind": draw.integers(0, 150, _ITEMS),
        "country": countries[draw.integers(0, 6, _ITEMS)],
    }
    pq.write_table(pa.table(products), landing / "products.parquet")
    people = {
        "user_id": pa.array(np.arange(users)).cast(pa.string()),
        "age": draw.integers(10, 80, users),
        "country": countries[draw.integers(2, 6, users)],
    }
    pq.write_table(pa.table(people), landing / "users.parquet")


def night(root: Path) -> dict[str, Done]:
    """Run all steps of a night."""
    return {name: run(name, root, DAY, *(("--shard", "0") if name == "score" else ())) for name in STEPS}


def report(plain: dict[str, Done], ruled: dict[str, Done], users: int) -> str:
    """The table as Markdown: processor seconds, which other load on the machine changes least."""
    rows = [[name, f"{plain[name].processor:.1f}", f"{ruled[name].processor:.1f}"] for name in STEPS]
    totals = [sum(done.processor for done in steps.values()) for steps in (plain, ruled)]
    rows.append(["**in all**", *(f"**{total:.1f}**" for total in totals)])
    removed = ruled["score"].metrics["effects"]
    note = (
        f"A night with five rules takes {totals[1] / totals[0]:.2f} times the processor time of one without. "
        f"{users:,} users, {_ITEMS:,} items; the rules leave {removed['short_users']:,} users with fewer items, and "
        f"{removed['deepened']:,} needed longer lists. Commit {commit()}, {today()}, {machine()}."
    )
    return "\n\n".join([table(["step", "without rules, s", "with five rules, s"], rows), note])


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.rules", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--users", type=int, default=3_000, help="number of users (%(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    with tempfile.TemporaryDirectory(prefix="hmamba-") as folder:
        roots = {"plain": None, "ruled": RULES}
        for name, rules in roots.items():
            write_shop(Path(folder) / name, options.users, rules)
        plain, ruled = (night(Path(folder) / name) for name in roots)
    print(report(plain, ruled, options.users))
    return 0


if __name__ == "__main__":
    sys.exit(main())
