"""Every rule of the candidates has candidates that break it, and it is that rule alone which says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hmamba import columns
from hmamba.candidates.experiment import in_control
from hmamba.columns import FALLBACK_VERSION
from hmamba.contracts.manifest import Experiment
from hmamba.errors import QualityError
from hmamba.quality import candidates as candidates_quality
from hmamba.quality.candidates import CandidateFiles, ShardFiles, check_candidates
from hmamba.statements import statement
from hmamba.storage.layout import Layout
from tests.landing import DAY
from tests.scored import SHARDS, candidates, write_part, write_run
from tests.synthetic import make_interactions

K = 10
FIRST = "user-000"
Change = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return Layout.at(tmp_path_factory.mktemp("root"))


@pytest.fixture(scope="module")
def files(layout: Layout) -> CandidateFiles:
    write_run(layout, make_interactions(), DAY, k=K)
    run = layout.run(DAY, "manual")
    parts, events = sorted(run.candidates.iterdir()), sorted(run.sequences.glob("shard-*"))
    return CandidateFiles(
        shards=tuple(ShardFiles(part, (path,)) for part, path in zip(parts, events, strict=True)),
        items=run.sequences / "items.parquet",
        indexed=run.vectors / "items.parquet",
        allowed=None,
    )


@pytest.fixture(scope="module")
def good(layout: Layout, files: CandidateFiles) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(shard.part) for shard in files.shards]).sort_values(["user_id", "rank"])


def in_one(files: CandidateFiles, part: Path) -> CandidateFiles:
    """All users in one part."""
    return replace(files, shards=(ShardFiles(part, tuple(path for shard in files.shards for path in shard.events)),))


def instead(files: CandidateFiles, parts: list[Path]) -> CandidateFiles:
    """The same shards with other parts."""
    both = zip(files.shards, parts, strict=True)
    return replace(files, shards=tuple(replace(shard, part=part) for shard, part in both))


def check(layout: Layout, files: CandidateFiles, k: int = K, exclude_seen: bool = True) -> dict[str, object]:
    with duckdb.connect() as connection:
        return vars(check_candidates(layout.checks, connection, files, k, exclude_seen, "a night"))


def test_good_candidates_pass(layout: Layout, files: CandidateFiles, good: pd.DataFrame) -> None:
    assert check(layout, files) == {
        "rows": len(good),
        "users": 40,
        "distinct_items": good.item_id.nunique(),
        "model_version": "v1",
        "guards": {},
        "control_users": None,
    }


def test_some_users_may_have_popular_items_instead(
    layout: Layout, files: CandidateFiles, good: pd.DataFrame, tmp_path: Path
) -> None:
    version = good.model_version.where(good.user_id != FIRST, FALLBACK_VERSION)
    write_part(tmp_path / "part-0000.parquet", good.assign(model_version=version))
    assert check(layout, in_one(files, tmp_path / "part-0000.parquet"))["model_version"] == "v1"


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_fewer_eligible_items_than_k(layout: Layout, files: CandidateFiles, tmp_path: Path, exclude_seen: bool) -> None:
    """With k beyond the catalogue, each user has every item that competes, less those seen."""
    parts = []
    for number, frame in enumerate(candidates(files.items.parent, 1000, exclude_seen)):
        parts.append(tmp_path / f"part-{number}.parquet")
        write_part(parts[-1], frame)
    everything = instead(files, parts)
    lengths = pd.concat(pd.read_parquet(part) for part in parts).groupby("user_id").size()
    assert (lengths.nunique() > 1) == exclude_seen
    assert check(layout, everything, 1000, exclude_seen)["rows"] == lengths.sum()


def test_where_everybody_has_seen_everything_there_are_no_rows(
    layout: Layout, files: CandidateFiles, good: pd.DataFrame, tmp_path: Path
) -> None:
    pd.read_parquet(files.items)[:0][["item_index", "item_id"]].to_parquet(tmp_path / "indexed.parquet", index=False)
    write_part(tmp_path / "part-0000.parquet", good[:0])
    nothing = replace(in_one(files, tmp_path / "part-0000.parquet"), indexed=tmp_path / "indexed.parquet")
    assert check(layout, nothing)["rows"] == 0


BROKEN: list[tuple[Change, set[str]]] = [
    (lambda f: f[f.user_id != FIRST], {"users_missing is 1"}),
    (lambda f: f[(f.user_id != FIRST) | (f["rank"] < K)], {"users_with_wrong_count is 1"}),
    (lambda f: pd.concat([f, f[f.user_id == FIRST].assign(user_id="nobody")]), {"users_unknown is 1"}),
    (lambda f: f.assign(rank=f["rank"].where(f.user_id != FIRST, f["rank"] + 1)), {"users_with_wrong_ranks is 1"}),
    (lambda f: f.assign(rank=f["rank"].where(f.user_id != FIRST, f["rank"].clip(lower=2))), {"users_with_wrong_ranks"}),
    (lambda f: f.assign(score=-f.score), {"rows_with_rising_score is 360"}),
    (lambda f: f.assign(score=f.score.where(f["rank"] > 1, float("inf"))), {"rows_with_infinite_score is 40"}),
    (lambda f: f.assign(score=f.score.where(f["rank"] < K, float("-inf"))), {"rows_with_infinite_score is 40"}),
    (lambda f: f.assign(score=f.score.where(f["rank"] < K)), {"rows_with_null is 40"}),
    (lambda f: f.assign(item_id=f.item_id.where(f["rank"] < K)), {"rows_with_null is 40"}),
    (lambda f: f.assign(item_id=f.item_id.where(f["rank"] < K, "unheard-of")), {"rows_with_unknown_item is 40"}),
    (
        lambda f: f.assign(item_id=f.item_id.where((f["rank"] != 2) | (f.user_id != FIRST), f.item_id.shift())),
        {"users_with_repeated_item is 1"},
    ),
    (lambda f: f.assign(model_version=f.model_version.where(f["rank"] > 1, "v2")), {"model_versions is 2"}),
    (lambda f: f[:0], {"rows is 0", "users_missing is 40"}),
    (lambda f: f.sort_values(["rank", "user_id"]), {"users_with_wrong_ranks is 40", "rows_with_earlier_user is 9"}),
    (lambda f: pd.concat([f[f.user_id != FIRST], f[f.user_id == FIRST]]), {"rows_with_earlier_user is 1"}),
]


@pytest.mark.parametrize("case", range(len(BROKEN)))
def test_broken_candidates_are_named(
    layout: Layout, files: CandidateFiles, good: pd.DataFrame, tmp_path: Path, case: int
) -> None:
    change, expected = BROKEN[case]
    write_part(tmp_path / "part-0000.parquet", change(good))
    with pytest.raises(QualityError) as caught:
        check(layout, in_one(files, tmp_path / "part-0000.parquet"))
    message = str(caught.value)
    named = message.partition("published: ")[2].partition(". Readers")[0].split("; ")
    assert all(any(told.startswith(rule) for told in named) for rule in expected), message
    # Rows without an item also repeat "no item", and a rank that is missing is a score that may rise.
    assert len(named) <= len(expected) + 1, message


def test_where_nobody_has_an_item_left_the_log_says_why(
    layout: Layout,
    files: CandidateFiles,
    good: pd.DataFrame,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    nothing = replace(files, allowed=pa.chunked_array([], pa.string()))
    parts = [tmp_path / shard.part.name for shard in files.shards]
    for part in parts:
        write_part(part, good[:0])
    assert check(layout, instead(nothing, parts))["rows"] == 0
    assert "every user has seen all candidate items" in caplog.text
    assert "set candidates.exclude_seen = false" in caplog.text


def test_a_user_belongs_to_one_part(layout: Layout, files: CandidateFiles, good: pd.DataFrame, tmp_path: Path) -> None:
    parts = []
    for number, shard in enumerate(files.shards):
        frame = pd.read_parquet(shard.part)
        parts.append(tmp_path / f"part-{number}.parquet")
        elsewhere = good[good.user_id == FIRST] if FIRST not in set(frame.user_id) else frame[:0]
        write_part(parts[-1], pd.concat([frame, elsewhere]).sort_values(["user_id", "rank"]))
    with pytest.raises(QualityError, match=r"published: users_unknown is 1, allowed at most 0\. Readers"):
        check(layout, instead(files, parts))


def written(folder: Path, frames: list[pd.DataFrame]) -> list[Path]:
    parts = [folder / f"part-{number}.parquet" for number in range(len(frames))]
    for part, frame in zip(parts, frames, strict=True):
        write_part(part, frame)
    return parts


def test_what_shards_have_is_put_together(layout: Layout, files: CandidateFiles, tmp_path: Path) -> None:
    first, *others = [pd.read_parquet(shard.part) for shard in files.shards]
    assert set(first.item_id) & {item for frame in others for item in frame.item_id}
    parts = written(tmp_path, [first.assign(model_version="v2"), *others])
    with pytest.raises(QualityError, match=r"published: model_versions is 2, allowed at most 1\. Readers"):
        check(layout, instead(files, parts))
    parts = written(tmp_path, [first[:0], *others])
    with pytest.raises(QualityError, match=rf"published: users_missing is {first.user_id.nunique()}, allowed"):
        check(layout, instead(files, parts))


def test_parts_in_each_others_place(layout: Layout, files: CandidateFiles) -> None:
    with pytest.raises(QualityError, match="users_missing is 40, allowed at most 0; users_unknown is 40"):
        check(layout, instead(files, [shard.part for shard in reversed(files.shards)]))


def reasoned(files: CandidateFiles, good: pd.DataFrame, part: Path, **changes: object) -> CandidateFiles:
    """All users in one part, with reasons: half of the rows name an item that their user has had."""
    names = pd.read_parquet(files.items).set_index("item_index").item_id
    events = pd.concat(pd.read_parquet(path) for shard in files.shards for path in shard.events)
    had = events.groupby("user_id").item_index.min().map(names)
    own = good.user_id.map(had).where(good["rank"] % 2 == 0)
    frame = good.assign(because=own.notna().map({True: "together", False: "taste"}), because_item=own)
    write_part(part, frame.assign(**changes))
    return replace(in_one(files, part), columns=tuple(frame.columns))


def test_reasons_are_known_and_of_the_users_history(
    layout: Layout, files: CandidateFiles, good: pd.DataFrame, tmp_path: Path
) -> None:
    part = tmp_path / "part-0000.parquet"
    check(layout, reasoned(files, good, part))
    with pytest.raises(QualityError, match=r"published: rows_with_unknown_reason is 400, allowed at most 0\. Readers"):
        check(layout, reasoned(files, good, part, because="a whim"))
    with pytest.raises(QualityError, match=r"published: rows_with_unknown_reason is 400"):
        check(layout, reasoned(files, good, part, because=None))
    # Items that are recommended while seen ones are excluded are in nobody's own history.
    with pytest.raises(QualityError, match=r"published: rows_with_foreign_reason is 400, allowed at most 0\. Readers"):
        check(layout, reasoned(files, good, part, because_item=good.item_id))
    with pytest.raises(QualityError, match="has the columns user_id"):
        check(layout, in_one(files, part))


def test_described_users_without_events_are_expected_where_a_shard_names_them(
    layout: Layout, files: CandidateFiles, good: pd.DataFrame, tmp_path: Path
) -> None:
    pd.DataFrame({"user_id": [FIRST, "zoe"], "age": [7, 8]}).to_parquet(tmp_path / "users.parquet", index=False)
    everybody = in_one(files, tmp_path / "part-0000.parquet")
    (shard,) = everybody.shards
    named = replace(everybody, shards=(replace(shard, users=tmp_path / "users.parquet"),))
    write_part(shard.part, good)
    check(layout, everybody)
    with pytest.raises(QualityError, match=r"published: users_missing is 1, allowed at most 0\. Readers"):
        check(layout, named)
    zoe = good[good.user_id == FIRST].assign(user_id="zoe", model_version=FALLBACK_VERSION)
    write_part(shard.part, pd.concat([good, zoe]))
    assert check(layout, named)["users"] == 41
    with pytest.raises(QualityError, match=r"published: users_unknown is 1"):
        check(layout, everybody)
    write_part(shard.part, pd.concat([good, zoe[:3]]))
    with pytest.raises(QualityError, match=r"published: users_with_wrong_count is 1"):
        check(layout, named)


def test_rows_are_compared_as_they_lie_whoever_reads_them(tmp_path: Path) -> None:
    """Many groups of rows, several threads: DuckDB's window over nothing still goes through the file in order."""
    users = pd.Series(range(20_000)).map("{:06d}".format)
    frame = pd.DataFrame({"user_id": users.repeat(K), "rank": list(range(1, K + 1)) * len(users), "score": 0.0})
    frame["score"] = 1.0 / frame["rank"]
    frame.to_parquet(tmp_path / "part.parquet", index=False, row_group_size=1_000)
    with duckdb.connect(config={"threads": 4}) as connection:
        bound = {"part": str(tmp_path / "part.parquet")}
        for _ in range(5):
            assert connection.execute(statement("quality/rising_scores"), bound).fetchall() == [(0, 0)]


def test_seen_items_are_found_only_where_they_are_forbidden(
    layout: Layout, files: CandidateFiles, tmp_path: Path
) -> None:
    parts = []
    for number, frame in enumerate(candidates(files.items.parent, K, exclude_seen=False)):
        parts.append(tmp_path / f"part-{number}.parquet")
        write_part(parts[-1], frame)
    assert len(parts) == SHARDS
    with_seen = instead(files, parts)
    check(layout, with_seen, exclude_seen=False)
    with pytest.raises(QualityError, match=r"published: rows_with_seen_item is [0-9]+, allowed at most 0"):
        check(layout, with_seen)


def test_forbidden_items(layout: Layout, files: CandidateFiles, good: pd.DataFrame) -> None:
    check(layout, replace(files, allowed=pa.chunked_array([pd.read_parquet(files.items).item_id])))
    worst = good.item_id.value_counts().index[0]
    allowed = pa.chunked_array([[item for item in pd.read_parquet(files.items).item_id if item != worst]])
    with pytest.raises(QualityError, match=r"rows_with_forbidden_item is \d+"):
        check(layout, replace(files, allowed=allowed))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.drop(columns="score"), "part-0000.parquet has the columns user_id"),
        (lambda f: f.astype({"rank": "int64"}), "rank int64"),
    ],
)
def test_columns_and_types_are_part_of_the_contract(
    layout: Layout, files: CandidateFiles, good: pd.DataFrame, tmp_path: Path, change: Change, told: str
) -> None:
    change(good).to_parquet(tmp_path / "part-0000.parquet", index=False)
    with pytest.raises(QualityError, match=told):
        check(layout, in_one(files, tmp_path / "part-0000.parquet"))


def test_a_part_that_is_cut_off(layout: Layout, files: CandidateFiles, tmp_path: Path) -> None:
    part = tmp_path / "part-0000.parquet"
    part.write_bytes(files.shards[0].part.read_bytes()[:-20])
    with pytest.raises(QualityError, match=r"part-0000\.parquet is not a whole Parquet file"):
        check(layout, in_one(files, part))


def in_groups(frame: pd.DataFrame, experiment: Experiment) -> pd.DataFrame:
    """The candidates with a control group."""
    control = in_control(pa.array(frame.user_id), experiment)
    return frame.assign(
        model_version=frame.model_version.where(~control, experiment.version),
        experiment=np.where(control, "control", "treatment"),
    )


EXPERIMENT = Experiment(control=0.3, salt="s", version="baseline-popularity")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f, None),
        (lambda f: f.assign(experiment="treatment"), "users_in_wrong_group is "),
        (lambda f: f.assign(experiment=f.experiment.where(f["rank"] > 1, "control")), "users_in_wrong_group is "),
        (lambda f: f.assign(experiment=f.experiment.where(f["rank"] > 1, None)), "users_in_wrong_group is "),
        (lambda f: f.assign(model_version="v1"), "rows_with_wrong_version is "),
        (
            lambda f: f.assign(model_version=f.model_version.where(f.user_id != f.user_id.iloc[0], "v2")),
            "model_versions is 2|rows_with_wrong_version is",
        ),
        (lambda f: f.drop(columns="experiment"), "candidates have user_id string.*, experiment string"),
    ],
)
def test_groups_of_an_experiment(
    layout: Layout, files: CandidateFiles, good: pd.DataFrame, tmp_path: Path, change: Change, told: str | None
) -> None:
    write_part(tmp_path / "part-0000.parquet", change(in_groups(good, EXPERIMENT)))
    names = (*columns.CANDIDATES, columns.EXPERIMENT)
    table = replace(in_one(files, tmp_path / "part-0000.parquet"), columns=names, experiment=EXPERIMENT)
    if told is None:
        found = check(layout, table)
        assert (found["model_version"], found["control_users"]) == (
            "v1",
            int(in_control(pa.array(good.user_id.unique()), EXPERIMENT).sum()),
        )
        return
    with pytest.raises(QualityError, match=told):
        check(layout, table)


def test_the_control_group_has_its_share(layout: Layout, files: CandidateFiles, good: pd.DataFrame) -> None:
    counted = {"users": 10_000, "control_users": 1_500}
    figure = candidates_quality._control_share(EXPERIMENT, counted)
    assert figure.value == 0.15
    assert figure.least == pytest.approx(0.3 - 5 * (0.3 * 0.7 / 10_000) ** 0.5 - 1e-4)
    assert figure.value < figure.least
