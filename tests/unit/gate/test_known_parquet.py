"""A parquet file's rows are known as a CSV file's are, whatever its pages, encodings and compression."""

from __future__ import annotations

import tracemalloc
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from insitu.domain.errors import InvalidInputError
from insitu.gate.known.data import KnownData, build_index
from insitu.gate.known.parquet import ParquetFiles

KEY = b"k" * 32
ROWS = 3_000


def table(rows: int = ROWS, *, seed: int = 1) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "level": rng.normal(size=rows),
            "count": pa.array([None if at % 11 == 0 else at * 3 for at in range(rows)], type=pa.int64()),
            "name": [f"Patient {at % 97}" if at % 5 else None for at in range(rows)],
            "code": [f"QX{at * 7919 % 100_003:06d}" for at in range(rows)],
            "yes": rng.random(rows) > 0.5,
            "small": rng.normal(size=rows).astype("float32"),
        }
    )


def index(folder: Path, *tables: pa.Table, memory_bytes: int = 64 << 20, **options: Any) -> KnownData:
    files = []
    for number, one in enumerate(tables):
        files.append(folder / f"part-{number}.parquet")
        pq.write_table(one, files[-1], **options)
    (folder / "index").mkdir()
    build_index(files, "parquet", folder / "index", KEY, memory_bytes=memory_bytes)
    return KnownData.open(folder / "index")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "none", "use_dictionary": False},
        {"compression": "zstd", "data_page_version": "2.0"},
        {"compression": "gzip", "data_page_size": 900},
        {"compression": "lz4", "row_group_size": 701},
        {"use_dictionary": ["name"], "data_page_size": 4096, "row_group_size": 1_999},
    ],
)
def test_its_rows_are_those_of_the_same_table_as_csv(tmp_path, options):
    ours = table()
    known = index(tmp_path, ours, **options)
    assert known.rows == ROWS
    assert known.columns == (
        ("level", "number"),
        ("count", "integer"),
        ("name", "text"),
        ("code", "text"),
        ("yes", "integer"),
        ("small", "number"),
    )
    (tmp_path / "csv").mkdir()
    frame = ours.to_pandas()
    frame["yes"] = frame["yes"].astype(int)
    frame.to_csv(tmp_path / "same.csv", index=False)
    build_index([tmp_path / "same.csv"], "csv", tmp_path / "csv", KEY)
    same = KnownData.open(tmp_path / "csv")
    # A float32 as CSV has fewer digits than as a double.
    np.testing.assert_allclose(known.numbers, same.numbers, rtol=1e-6)
    exact = frame[["level", "count", "yes", "small"]].to_numpy(dtype=np.float64)
    np.testing.assert_array_equal(known.numbers, exact)
    np.testing.assert_array_equal(known.text, same.text)


def test_several_files_are_one_table(tmp_path):
    known = index(tmp_path, table(500), table(700, seed=2))
    assert known.rows == 1_200
    np.testing.assert_array_equal(known.numbers[500:, 0], table(700, seed=2)["level"].to_numpy())


def test_its_text_is_known_as_text(tmp_path):
    known = index(tmp_path, table())
    print_ = known.text_prints
    assert print_ is not None
    assert known.hash_of("QX007919") in set(known.text[:, 1].tolist())
    assert known.hash_of("Patient 500") not in set(known.text[:, 0].tolist())


def test_decimals_dates_and_times_are_numbers(tmp_path):
    known = index(
        tmp_path,
        pa.table(
            {
                "price": pa.array([Decimal("12.34"), Decimal("-0.05"), None], type=pa.decimal128(9, 2)),
                "day": pa.array([1, 2, 3], type=pa.date32()),
                "at": pa.array([10, 20, 30], type=pa.timestamp("ms")),
            }
        ),
    )
    assert [kind for _, kind in known.columns] == ["number", "integer", "integer"]
    np.testing.assert_allclose(known.numbers[:, 0], [12.34, -0.05, np.nan])
    np.testing.assert_array_equal(known.numbers[:, 1], [1, 2, 3])


def test_fields_of_fields_are_columns(tmp_path):
    known = index(tmp_path, pa.table({"person": [{"age": 3, "name": "a"}, {"age": 4, "name": "b"}]}))
    assert known.columns == (("person.age", "integer"), ("person.name", "text"))


def test_what_it_takes_of_memory_does_not_grow_with_the_file(tmp_path):
    def peak(rows: int) -> int:
        rng = np.random.default_rng(3)
        path = tmp_path / f"{rows}.parquet"
        big = pa.table({f"c{at}": rng.normal(size=rows) for at in range(8)})
        pq.write_table(big, path, row_group_size=rows, use_dictionary=False, data_page_size=1 << 16)
        del big
        tracemalloc.start()
        assert sum(block.rows for block in ParquetFiles([path], block_bytes=1 << 16).blocks()) == rows
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(300_000) < 1.2 * peak(50_000)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: path.write_bytes(b"no parquet at all"), "encrypted or cut off"),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: pq.write_table(pa.table({"a": [[1, 2], [3]]}), path), "lists"),
        (lambda path: pq.write_table(table(50), path, column_encoding="DELTA_BYTE_ARRAY", use_dictionary=False), ""),
    ],
)
def test_what_can_t_be_read_by_row_is_refused(tmp_path, write, said):
    try:
        write(tmp_path / "x.parquet")
    except (ValueError, OSError):
        pq.write_table(
            table(50).select(["code"]), tmp_path / "x.parquet", column_encoding="DELTA_BYTE_ARRAY", use_dictionary=False
        )
    (tmp_path / "index").mkdir()
    with pytest.raises(InvalidInputError, match=said or "parquet") as refused:
        build_index([tmp_path / "x.parquet"], "parquet", tmp_path / "index", KEY)
    assert refused.value.code == "data-broken"
    assert "x.parquet" in refused.value.what


def test_files_of_other_columns_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"part-1\.parquet"):
        index(tmp_path, table(50), pa.table({"a": [1, 2]}))


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    pq.write_table(table(), tmp_path / "x.parquet")
    data = (tmp_path / "x.parquet").read_bytes()
    middle = len(data) // 2
    (tmp_path / "x.parquet").write_bytes(data[: middle - 200] + b"\xff" * 400 + data[middle + 200 :])
    (tmp_path / "index").mkdir()
    with pytest.raises(InvalidInputError):
        build_index([tmp_path / "x.parquet"], "parquet", tmp_path / "index", KEY)
