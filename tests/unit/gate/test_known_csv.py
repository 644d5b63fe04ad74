"""Reading CSV a block at a time gives what Python's own reader gives, cell by cell."""

import csv
import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.gate.known.cells import hash_cell
from insitu.gate.known.csv import CsvFiles, _ListBlock, _PlainBlock, lines_block
from insitu.gate.known.fingerprints import HashKey

KEY = HashKey.of(b"key of an index", b"cells")
CELLS = (
    st.text(st.sampled_from('abZ09.-+e ,"\n\tÄß\u00a0'), max_size=12)
    | st.floats(width=32).map(str)
    | st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=80)
)


def written(rows: list[list[str]], **options: Any) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n", **options).writerows(rows)
    return out.getvalue().encode("utf-8", "replace")


def blocks_of(path, data: bytes, block_bytes: int = 1 << 20):
    path.write_bytes(data)
    files = CsvFiles([path], block_bytes=block_bytes)
    return files, [block() for block, _ in files.blocks()]


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=12), quoted=st.booleans())
def test_cells_have_the_hashes_of_what_pythons_reader_reads(tmp_path_factory, rows, quoted):
    data = written([["x", "y", "z"], *rows], quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    expected = list(csv.reader(io.StringIO(data.decode(), newline="")))[1:]
    _, blocks = blocks_of(tmp_path_factory.mktemp("csv") / "x.csv", data)
    for column in range(3):
        found = np.concatenate([block.hashes(column, KEY) for block in blocks])
        assert found.tolist() == [hash_cell(KEY, row[column]) for row in expected]


NUMBERS = (
    st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.floats(-1e6, 1e6).map("{:.4f}".format)
    | st.integers(-(10**20), 10**20).map(str)
    | st.sampled_from(["", "NA", " 1.5 ", "-0", ".5", "5.", "+3", "1e-3", "inf", "?", "00012.50"])
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30))
def test_numbers_are_what_python_reads_to_the_last_digits(rows):
    data = written([list(row) for row in rows])
    block = _PlainBlock.of(data, 2)
    slow = _ListBlock([list(column) for column in zip(*rows, strict=True)])
    if block is None:
        return
    for column in range(2):
        for found, expected in zip(block.numbers(column).tolist(), slow.numbers(column).tolist(), strict=True):
            assert found == pytest.approx(expected, rel=1e-15, abs=1e-300) or (
                math.isnan(found) and math.isnan(expected)
            )


@pytest.mark.parametrize("text", ["0.1", "17.99", "-122.4", "1000000", "123456789.123456", "0.000001"])
def test_decimals_of_up_to_fifteen_digits_are_exact(text):
    block = _PlainBlock.of(f"{text}\n".encode(), 1)
    assert block is not None
    assert block.numbers(0).tolist() == [float(text)]


@pytest.mark.parametrize("cell", ["12.03.2020", "1-2", "--1", "1.2.3", "0x10", "1 2", "a1", "1a", "-", "."])
def test_words_that_begin_like_numbers_are_none(cell):
    block = _PlainBlock.of(f"{cell}\n".encode(), 1)
    assert block is not None
    with pytest.raises(ValueError, match="float"):
        block.numbers(0)


def test_plain_files_are_read_the_quick_way_and_odd_ones_the_other(tmp_path):
    def kinds(data: bytes) -> set[str]:
        return {type(block).__name__ for block in blocks_of(tmp_path / "x.csv", data)[1]}

    assert kinds(b'a,b\n1,"x, y"\n2,"say ""hi"""\n3,"two\nlines"\n') == {"_PlainBlock"}
    assert kinds(b"a,b\r\n1,2\r\n") == {"_PlainBlock"}
    assert kinds(b'a,b\n1,5" pipe\n2,6"\n') == {"_ListBlock"}
    assert kinds(b"a,b\n1,2\n\n3,4\n") == {"_ListBlock"}


@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1 << 20])
def test_the_size_of_blocks_changes_nothing(tmp_path, block_bytes):
    rows = [[str(n), f"name {n}", f'"{n}"\n'] for n in range(50)]
    files, blocks = blocks_of(tmp_path / "x.csv", written([["a", "b", "c"], *rows]), block_bytes)
    assert files.header == ["a", "b", "c"]
    assert np.concatenate([block.numbers(0) for block in blocks]).tolist() == list(range(50))
    assert np.concatenate([block.hashes(2, KEY) for block in blocks]).tolist() == [
        hash_cell(KEY, f'"{n}"') for n in range(50)
    ]


def test_the_last_line_may_lack_its_end_and_the_first_may_begin_with_a_byte_order_mark(tmp_path):
    files, blocks = blocks_of(tmp_path / "x.csv", b"\xef\xbb\xbfa,b\n1,2\n3,4")
    assert files.header == ["a", "b"]
    assert [value for block in blocks for value in block.numbers(1).tolist()] == [2, 4]


def test_lines_are_cells_as_they_stand():
    block = lines_block('Ada "the first", 36\n\nZoë\n'.encode())
    assert block.hashes(0, KEY).tolist() == [hash_cell(KEY, 'Ada "the first", 36'), 0, hash_cell(KEY, "Zoë")]
