"""The index of a dataset version: what it keeps, what it tells, what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest

from insitu.domain.errors import IntegrityError, InvalidInputError
from insitu.gate.known.data import IndexSummary, KnownData, build_index, row_count_band
from tests.unit.gate.gate_world import KEY

CSV = "name,age,score,city\nAda,36,1.5,London\nBob,41,,Leeds\nEve,29,2.25,\n"


def built(folder: Path, *texts: str, format: str = "csv") -> tuple[KnownData, IndexSummary]:
    files = []
    for number, text in enumerate(texts):
        files.append(folder / f"part-{number}.csv")
        files[-1].write_text(text)
    (folder / "index").mkdir()
    summary = build_index(files, format, folder / "index", KEY)
    return KnownData.open(folder / "index"), summary


def refused(folder: Path, *texts: str, format: str = "csv") -> InvalidInputError:
    with pytest.raises(InvalidInputError) as caught:
        built(folder, *texts, format=format)
    assert not (folder / "index" / "meta.json").exists()
    return caught.value


def test_columns_get_their_types_and_rows_their_band(tmp_path):
    known, summary = built(tmp_path, CSV)
    assert summary.rows == known.rows == 3
    assert summary.row_count_band == "<100"
    assert summary.columns == (("name", "text"), ("age", "integer"), ("score", "number"), ("city", "text"))
    assert known.column_names == ("name", "age", "score", "city")


def test_numbers_are_kept_and_missing_ones_match_nothing(tmp_path):
    known, _ = built(tmp_path, CSV)
    assert known.numbers[:, 0].tolist() == [36, 41, 29]
    assert np.isnan(known.numbers[1, 1])
    assert known.table.columns[1].ordered.tolist() == [1.5, 2.25]


def test_text_is_kept_as_keyed_hashes_alone(tmp_path):
    known, _ = built(tmp_path, CSV)
    assert known.text[0, 0] == known.hash_of("  ADA ")
    assert known.text[2, 1] == 0
    for path in (tmp_path / "index").iterdir():
        assert b"London" not in path.read_bytes()
        assert KEY not in path.read_bytes()


def test_another_key_gives_other_hashes(tmp_path):
    known, _ = built(tmp_path, CSV)
    (tmp_path / "other").mkdir()
    build_index([tmp_path / "part-0.csv"], "csv", tmp_path / "other", b"another key")
    assert KnownData.open(tmp_path / "other").text[0, 0] != known.text[0, 0]


def test_several_files_are_one_dataset(tmp_path):
    known, summary = built(tmp_path, CSV, "name,age,score,city\nMax,50,3,Rome\n")
    assert summary.rows == 4
    assert known.numbers[3].tolist() == [50, 3]


def test_a_column_that_turns_to_text_in_a_later_file_is_text(tmp_path):
    _, summary = built(tmp_path, "a,b\n1,2\n", "a,b\nx,2.5\n")
    assert summary.columns == (("a", "text"), ("b", "number"))


@pytest.mark.parametrize(
    ("texts", "what"),
    [
        (("a,b\n1,2\n1\n",), "part-0.csv, line 3"),
        (("a,b\n1,2\n", "a,b\n1,2,3\n"), "part-1.csv, line 2"),
        (("a,a\n1,2\n",), "part-0.csv, line 1"),
        (("a,\n1,2\n",), "part-0.csv, line 1"),
        (("",), "part-0.csv, line 1"),
        (("a,b\n1,2\n", "a,c\n1,2\n"), "part-1.csv, line 1"),
        (('a,b\n"1,2\n',), "part-0.csv"),
        (("a,b\n",), "no rows"),
        ((",".join(f"c{n}" for n in range(5000)) + "\n",), "more than 4096 columns"),
    ],
)
def test_a_broken_file_is_refused_whole_and_names_its_line(tmp_path, texts, what):
    assert what in refused(tmp_path, *texts).what


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"a,b\n\xff,1\n")
    (tmp_path / "index").mkdir()
    with pytest.raises(InvalidInputError, match="UTF-8"):
        build_index([tmp_path / "x.csv"], "csv", tmp_path / "index", KEY)


def test_a_format_that_is_not_indexed_is_refused(tmp_path):
    assert refused(tmp_path, CSV, format="orc").code == "data-format"
    with pytest.raises(InvalidInputError, match="at least one file"):
        build_index([], "csv", tmp_path, KEY)


def test_npy_tables_are_indexed(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(12.0).reshape(4, 3))
    np.save(tmp_path / "b.npy", np.arange(6.0).reshape(2, 3))
    (tmp_path / "index").mkdir()
    summary = build_index([tmp_path / "a.npy", tmp_path / "b.npy"], "npy", tmp_path / "index", KEY)
    assert summary.rows == 6
    assert summary.columns == (("column 0", "number"), ("column 1", "number"), ("column 2", "number"))
    assert KnownData.open(tmp_path / "index").numbers[5].tolist() == [3, 4, 5]


def test_named_fields_of_an_npy_file_are_columns(tmp_path):
    np.save(tmp_path / "a.npy", np.array([(1, 2.5), (3, 4.5)], dtype=[("age", "i4"), ("score", "f4")]))
    (tmp_path / "index").mkdir()
    summary = build_index([tmp_path / "a.npy"], "npy", tmp_path / "index", KEY)
    assert summary.columns == (("age", "integer"), ("score", "number"))


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.array([1, "x"], dtype=object), "Python objects"),
        (np.arange(3.0), "not a table of numbers"),
        (np.array([["a", "b"]]), "not a table of numbers"),
    ],
)
def test_other_npy_files_are_refused_without_loading_objects(tmp_path, array, what):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InvalidInputError, match=what):
        build_index([tmp_path / "a.npy"], "npy", tmp_path, KEY)


def test_npy_files_must_agree_and_be_npy(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    np.save(tmp_path / "b.npy", np.zeros((2, 4)))
    with pytest.raises(InvalidInputError, match="differ"):
        build_index([tmp_path / "a.npy", tmp_path / "b.npy"], "npy", tmp_path, KEY)
    (tmp_path / "c.npy").write_bytes(b"no npy")
    with pytest.raises(InvalidInputError, match="not an npy file"):
        build_index([tmp_path / "c.npy"], "npy", tmp_path, KEY)


def test_a_dataset_of_text_alone_has_an_index(tmp_path):
    known, _ = built(tmp_path, "name,city\nAda,London\n")
    assert known.numbers.shape == (1, 0)
    assert known.table.width == 0


def damage(folder: Path, part: str) -> None:
    meta = json.loads((folder / "meta.json").read_text())
    if part == "rows":
        meta["rows"] = 99
    elif part == "format":
        meta["format"] = 1  # of an older version
    elif part == "columns":
        del meta["columns"]
    (folder / "meta.json").write_text(json.dumps(meta))
    if part == "json":
        (folder / "meta.json").write_text("{")
    if part == "numbers":
        (folder / "numbers.npy").unlink()


@pytest.mark.parametrize("part", ["rows", "format", "columns", "json", "numbers"])
def test_a_damaged_index_is_none(tmp_path, part):
    built(tmp_path, CSV)
    damage(tmp_path / "index", part)
    with pytest.raises(IntegrityError):
        KnownData.open(tmp_path / "index")


@pytest.mark.parametrize(
    ("rows", "band"), [(3, "<100"), (100, "100-499"), (569, "500-999"), (1000, "1000-4999"), (99_999, "50000-99999")]
)
def test_bands_are_two_for_each_power_of_ten(rows, band):
    assert row_count_band(rows) == band
