from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hmamba.config import Limits
from hmamba.errors import InputError
from hmamba.sources.discover import SourceFile, find_files
from hmamba.survey.sample import PEEK, Budget, read, samples_of, spread, take, total_rows

SMALL = Budget(text_bytes=64_000, cells=6_000, packed_bytes=2**20)
ROWS = 40_000


def frame(rows: int = ROWS) -> pd.DataFrame:
    return pd.DataFrame({"user_id": [f"u{n % 97}" for n in range(rows)], "n": range(rows), "note": 'a "b", c'})


def write(folder: Path, name: str, rows: int = ROWS) -> SourceFile:
    path, table = folder / name, frame(rows)
    if name.endswith(".parquet"):
        table.to_parquet(path, index=False, row_group_size=1000)
    elif ".csv" in name:
        table.to_csv(path, index=False)
    elif name.endswith("array.json"):
        path.write_text(json.dumps(table.to_dict("records"), indent=1), encoding="utf-8")
    else:
        table.to_json(path, orient="records", lines=True)
    (file,) = find_files(str(path), folder, "x")
    return file


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    return tmp_path / "parts"


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_a_large_file_is_sampled_to_its_end(tmp_path: Path, parts: Path, name: str) -> None:
    file = write(tmp_path, name)
    (sample,) = take([file], parts, SMALL)
    assert not sample.whole
    table = read(sample.file)
    assert table.column_names == ["user_id", "n", "note"]
    numbers = [int(number) for number in table["n"].to_pylist()]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert numbers[-1] > 0.95 * ROWS
    assert 500 < len(numbers) < 0.2 * ROWS
    assert set(table["note"].to_pylist()) == {'a "b", c'}
    total, exact = total_rows([file], [sample], [len(numbers)])
    assert total == pytest.approx(ROWS, rel=0.1)
    assert exact == name.endswith(".parquet")
    assert sample.file.name == file.name


def test_a_large_json_array_is_sampled_at_its_beginning(tmp_path: Path, parts: Path) -> None:
    file = write(tmp_path, "array.json")
    (sample,) = take([file], parts, SMALL)
    numbers = read(sample.file)["n"].to_pylist()
    assert numbers == list(range(len(numbers)))
    assert 10 < len(numbers) < ROWS


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "array.json", "a.parquet"])
def test_a_small_file_represents_itself(tmp_path: Path, parts: Path, name: str) -> None:
    file = write(tmp_path, name, 300)
    (sample,) = take([file], parts, SMALL)
    assert sample.file == file
    assert read(sample.file, ["n"]).num_rows == 300
    assert total_rows([file], [sample], [300]) == (300, True)


def test_records_that_span_lines_are_not_torn(tmp_path: Path, parts: Path) -> None:
    table = frame().assign(note='two\nlines, "quoted"')
    table.to_csv(tmp_path / "a.csv", index=False)
    (file,) = find_files(str(tmp_path / "a.csv"), tmp_path, "x")
    (sample,) = take([file], parts, SMALL)
    assert set(read(sample.file)["note"].to_pylist()) == {'two\nlines, "quoted"'}


def test_the_budget_is_of_all_files_together(tmp_path: Path, parts: Path) -> None:
    files = [write(tmp_path, f"{number}.csv", 4000) for number in range(10)]
    samples = take(files, parts, SMALL)
    assert sum(sample.file.size for sample in samples) <= SMALL.text_bytes
    counts = [read(sample.file).num_rows for sample in samples]
    assert total_rows(files, samples, counts)[0] == pytest.approx(40_000, rel=0.1)


def test_a_damaged_file_represents_itself(tmp_path: Path, parts: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"a,b\n" * 100)[:-9])
    samples = take(find_files(str(tmp_path / "*.*"), tmp_path, "x"), parts)
    assert [sample.file for sample in samples] == [sample.original for sample in samples]


def test_files_are_spread_from_the_first_to_the_last(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02d}.csv").write_text("a\n", encoding="utf-8")
    files = find_files(str(tmp_path), tmp_path, "x")
    assert spread(files, 50) == files
    names = [file.path.stem for file in spread(files, 4)]
    assert (names[0], names[-1], len(names)) == ("00", "19", 4)


def test_json_values_of_several_types_become_text(tmp_path: Path) -> None:
    lines = ['{"id": 1, "x": [1]}', '{"id": "b"}', "no json", '{"id": null, "x": [2]}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (file,) = find_files(str(tmp_path), tmp_path, "x")
    assert read(file).to_pydict() == {"id": ["1", "b", None], "x": [[1], None, [2]]}


def test_the_number_of_rows_can_be_limited(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.parquet"), ["n"], 5)["n"].to_pylist() == [0, 1, 2, 3, 4]
    assert pq.read_metadata(tmp_path / "a.parquet").num_rows == ROWS


def test_lists_of_numbers_are_left_out_of_samples(tmp_path: Path) -> None:
    """A catalogue may have embeddings, whose pages are beyond the bounds and which have no role."""
    path = tmp_path / "items.parquet"
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(50_000, np.float32)), 10)
    pq.write_table(pa.table({"id": range(5_000), "embedding": vectors, "tags": [["a"]] * 5_000}), path)
    (file,) = find_files(str(path), tmp_path, "x", limits=Limits(max_record_bytes=20_000))
    with pytest.raises(InputError, match="lists of row group 0"):
        read(file, None, 100)
    with samples_of([file]) as (sample,):
        assert read(sample.file, None, 100).column_names == ["id", "tags"]
        assert total_rows([file], [sample], [5_000]) == (5_000, True)


def test_a_file_of_lists_of_numbers_only_represents_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"embedding": [[1.0, 2.0]] * 10}), path)
    (file,) = find_files(str(path), tmp_path, "x")
    with samples_of([file]) as (sample,):
        assert sample.whole


def test_many_columns_are_sampled_a_few_at_a_time(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.parquet", 2_000
    schema = pa.schema([pa.field(f"c{number}", pa.int64(), nullable=number > 0) for number in range(150)])
    pq.write_table(pa.table([range(number, number + rows) for number in range(150)], schema), path)
    (file,) = find_files(str(path), tmp_path, "x", limits=Limits(max_record_bytes=150_000))
    with pytest.raises(InputError, match="pages of row group 0"):
        read(file, None, 100)
    with samples_of([file], PEEK) as (sample,):
        head = read(sample.file, None, 2)
    assert head.num_columns == 150
    assert head.to_pylist()[1]["c149"] == 150
