"""Copied text, bytes, columns and pictures are found in any layer; what honest outputs share with data is not."""

import gzip
import io
import json
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.domain.errors import InvalidInputError
from insitu.domain.outputs import OutputType, ReleaseContract
from insitu.gate.checks import CHECKS
from insitu.gate.contents import Contents
from insitu.gate.effort import Effort
from insitu.gate.known.content import ContentFound, ContentScan
from insitu.gate.known.data import KnownData, build_index
from insitu.gate.known.fingerprints import CERTAIN_BYTES
from insitu.gate.known.runs import CERTAIN_VALUES
from insitu.gate.known.text import CERTAIN_CHARACTERS, normal_text
from insitu.gate.policy.loading import DEFAULT_POLICY_TEXT, load_policy
from insitu.gate.readers.any import read_any
from insitu.gate.subject import Subject, Terms
from tests.unit.gate.gate_world import KEY, npz

RNG = np.random.default_rng(0)
WORDS = ["".join(RNG.choice(list("abcdefghijklmnoprstuw"), RNG.integers(3, 10))) for _ in range(2000)]
NOTES = "\n".join(" ".join(RNG.choice(WORDS, RNG.integers(9, 25))).capitalize() + "." for _ in range(400))
BLOB = RNG.bytes(60_000)
TABLE = np.round(RNG.normal(size=(400, 6)) @ RNG.normal(size=(6, 6)) * 50 + 100, 2)


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def png(pixels: np.ndarray) -> bytes:
    """Grey or RGB, without a filter."""
    height, width = pixels.shape[:2]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def smooth(shape: tuple[int, ...]) -> np.ndarray:
    """Noise blurred a little, as pictures are."""
    noise = RNG.integers(0, 256, shape).astype(float)
    return ((noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)) / 3).astype(np.uint8)


GREY, COLOUR = smooth((30, 20, 20)), smooth((20, 16, 16, 3))


def index(folder: Path, format: str, *files: bytes, **options: int) -> KnownData:
    (folder / "index").mkdir(parents=True)
    paths = [folder / f"file-{number}" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    build_index(paths, format, folder / "index", KEY, **options)
    return KnownData.open(folder / "index")


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> dict[str, KnownData]:
    lines = ["a,b,c,d,e,f", *(",".join(str(value) for value in row) for row in TABLE.tolist())]
    sources = {
        "text": (NOTES.encode(),),
        "files": (BLOB[:30_000], BLOB[30_000:]),
        "npy": (npy(TABLE),),
        "csv": ("\n".join(lines).encode(),),
        "images": (npy(GREY),),
        "colour": tuple(png(picture) for picture in COLOUR),
    }
    folder = tmp_path_factory.mktemp("known")
    return {
        name: index(folder / name, "images" if name == "colour" else name, *files) for name, files in sources.items()
    }


def look(known: KnownData, data: bytes) -> ContentFound:
    effort = Effort()
    scan = ContentScan(known, effort)
    contents = Contents(effort, watch=scan.look_at_bytes)
    read_any(data, "file", contents)
    scan.look_at_texts(contents.texts)
    scan.look_at_numbers(contents.numbers)
    return scan.found


# ── Text ────────────────────────────────────────────────────────────────────


@settings(max_examples=60, deadline=None)
@given(start=st.integers(0, 20_000))
def test_any_text_of_the_certain_length_is_found_wherever_it_begins(known, start):
    normal = normal_text(NOTES).tobytes()
    copied = normal[start : start + CERTAIN_CHARACTERS].decode()
    assert look(known["text"], f"x {start} {copied} y {start}".encode()).runs


@pytest.mark.parametrize(
    "form",
    [
        str.upper,
        lambda text: text.replace(" ", "  \t"),
        lambda text: json.dumps({"notes": [text]}),
        lambda text: "“" + text.replace(" ", '" "') + "”",
        lambda text: text.replace(" ", ","),
    ],
)
def test_text_is_found_in_other_case_space_and_quotes(known, form):
    found = look(known["text"], form(NOTES[3000:3400]).encode())
    assert found.runs
    assert found.size_bytes >= 300


def test_text_is_found_inside_compressed_layers(known):
    assert look(known["text"], gzip.compress(NOTES[500:700].encode())).runs


def test_words_and_short_phrases_of_the_text_are_no_copy(known):
    phrases = [NOTES[at : at + 22] for at in range(0, 4000, 40)]
    assert look(known["text"], " / ".join(WORDS).encode()) == ContentFound()
    assert (
        look(known["text"], json.dumps([f"{number} {phrase}" for number, phrase in enumerate(phrases)]).encode()).runs
        == 0
    )


def test_a_form_that_stands_in_many_lines_tells_nothing(tmp_path):
    form = "the patient was seen in the outpatient clinic and discharged without further findings"
    known = index(tmp_path, "text", "\n".join(f"{form}, {word}" for word in WORDS[:300]).encode())
    assert look(known, f"Reports say that {form}.".encode()) == ContentFound()


def test_rows_of_a_csv_are_found_as_text_and_its_header_is_not(known):
    assert look(known["csv"], "\n".join(" ".join(map(str, row)) for row in TABLE[20:24].tolist()).encode()).runs
    assert look(known["csv"], b"a,b,c,d,e,f\n1,2,3,4,5,6\n") == ContentFound()


# ── Bytes ───────────────────────────────────────────────────────────────────


@settings(max_examples=60, deadline=None)
@given(start=st.integers(64, 29_000), before=st.integers(0, 40))
def test_any_bytes_of_the_certain_length_are_found_at_any_offset(known, start, before):
    data = b"\x00\xff" * 20 + b"\x01" * before + BLOB[start : start + CERTAIN_BYTES] + b"\x00\xfe" * 20
    found = look(known["files"], data)
    assert found.runs == 1
    assert 24 <= found.size_bytes <= CERTAIN_BYTES


def test_the_first_bytes_of_a_file_are_its_formats_and_tell_nothing(known):
    assert look(known["files"], b"\x00\xff" * 50 + BLOB[:64] + b"\x00\xfe" * 50) == ContentFound()


def test_the_bytes_of_a_table_are_found_whatever_type_they_are_stored_as(known):
    copied = TABLE[50:60].tobytes()
    for kind in ("u1", "<i4", ">u2"):
        assert look(known["npy"], npz(np.frombuffer(copied, dtype=kind))).runs


def test_zeros_counts_and_repetition_are_no_copy(tmp_path):
    table = np.zeros((500, 4))
    table[:, 0], table[:, 1] = np.arange(500), np.arange(500) % 7
    known = index(tmp_path, "npy", npy(table))
    for honest in (np.zeros(5000), np.ones(5000), np.arange(2000.0), np.arange(2000) % 7, np.linspace(0, 1, 999)):
        assert look(known, npz(honest)) == ContentFound()


# ── Columns and pictures, under any scaling ─────────────────────────────────


def as_bfloat16(values: np.ndarray) -> np.ndarray:
    return (values.astype("f4").view("u4") + 0x8000 & 0xFFFF0000).view("f4")


STANDARD = (TABLE - TABLE.mean(axis=0)) / TABLE.std(axis=0)
COLUMNS = {
    "one, standardised": STANDARD[:, 2],
    "one, in half precision": STANDARD[:, 2].astype("f2"),
    "one, in bfloat16": as_bfloat16(STANDARD[:, 2]),
    "one, big-endian": STANDARD[:, 2].astype(">f4"),
    "one, turned over": 5 - 3 * TABLE[:, 4],
    "a part of one": STANDARD[100 : 100 + CERTAIN_VALUES, 1],
    "two, by rows": STANDARD[:, [5, 0]],
    "all, by columns": np.asfortranarray(STANDARD).T.copy(),
    "one, as it is": TABLE[:, 3],
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("format", ["csv", "npy"])
def test_columns_in_the_datasets_order_are_found_under_any_scaling(known, name, format):
    assert look(known[format], npz(COLUMNS[name])).runs


@settings(max_examples=60, deadline=None)
@given(
    start=st.integers(0, 400 - CERTAIN_VALUES),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-100, 100),
    down=st.booleans(),
)
def test_any_part_of_a_column_of_the_certain_length_is_found(known, start, scale, shift, down):
    part = TABLE[start : start + CERTAIN_VALUES, 1] * (-scale if down else scale) + shift
    assert look(known["csv"], npz(np.concatenate([[7.0, 8.0], part, [1.0]]))).runs


LAID_OUT = {
    "a row in each filter": np.concatenate([TABLE[:60], RNG.normal(size=(60, 3))], axis=1).reshape(60, 1, 3, 3),
    "seven rows in each line": TABLE[:280].reshape(40, 42),
    "five columns of them, seven rows in each line": np.ascontiguousarray(TABLE[:280, :5]).reshape(40, 35),
}


@pytest.mark.parametrize("form", LAID_OUT)
@pytest.mark.parametrize("format", ["csv", "npy"])
def test_scaled_rows_are_found_in_arrays_of_another_shape(known, form, format):
    assert look(known[format], npz((LAID_OUT[form] / 40 - 2).astype("f4"))).runs


PICTURES = {
    "as it is": GREY[3],
    "divided by 255": GREY[3] / np.float32(255),
    "normalised, in half precision": ((GREY[3:9] / 255 - 0.13) / 0.3).astype("f2"),
    "normalised, in bfloat16": as_bfloat16((GREY / 255 - 0.13) / 0.3),
    "inverted": 1 - GREY[5] / 255,
    "one long row each": (GREY[:4].reshape(4, -1) / 255).astype("f4"),
    "one column each": np.ascontiguousarray((GREY[:4].reshape(4, -1) / 255).T),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_found_raw_and_normalised(known, name):
    assert look(known["images"], npz(PICTURES[name])).runs


def test_pictures_are_found_with_a_map_for_each_channel(known):
    normalised = ((COLOUR[:2] / 255 - [0.48, 0.45, 0.4]) / [0.2, 0.22, 0.25]).astype("f4")
    for layout in (normalised, normalised.transpose(0, 3, 1, 2).copy(), normalised.reshape(2, -1)):
        assert look(known["colour"], npz(layout)).runs


def test_a_picture_is_found_in_another_png(known):
    assert look(known["colour"], png(COLOUR[4])).runs


@pytest.mark.parametrize("name", ["images", "colour", "csv", "npy"])
def test_honest_numbers_raise_no_alarm(known, name):
    rng = np.random.default_rng(7)
    honest = [
        rng.normal(size=(64, 20)).astype("f4"),
        rng.normal(size=(16, 3, 5, 5)).astype("f4"),
        rng.integers(-127, 128, (64, 64)).astype("i1"),
        np.sort(rng.normal(size=500)),
        TABLE.mean(axis=0),
        TABLE.std(axis=0),
        np.quantile(TABLE, np.linspace(0, 1, 50), axis=0),
        as_bfloat16(rng.normal(size=(200, 200))),
    ]
    assert look(known[name], npz(*honest)) == ContentFound()


# ── The index ───────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("format", "data"), [("csv", None), ("text", NOTES.encode() * 40), ("files", BLOB * 30)])
def test_an_index_made_in_little_memory_is_the_one_made_in_much(tmp_path, format, data):
    if data is None:
        lines = (f"{n},name {n % 97},{n * 0.37:.3f},{(n * 7919) % 10007}" for n in range(60_000))
        data = ("id,name,score,code\n" + "\n".join(lines)).encode()
    small = index(tmp_path / "small", format, data, memory_bytes=1)._folder
    large = index(tmp_path / "large", format, data, memory_bytes=1 << 30)._folder
    names = sorted(path.name for path in large.iterdir())
    assert names == sorted(path.name for path in small.iterdir())
    for name in names:
        assert (small / name).read_bytes() == (large / name).read_bytes(), name


def test_memory_is_bounded_by_the_setting(tmp_path):
    lines = (f"{n},name {n},{n * 0.37:.3f},{(n * 7919) % 10007}" for n in range(250_000))
    source = tmp_path / "table.csv"
    source.write_text("id,name,score,code\n" + "\n".join(lines))

    def peak(memory_bytes: int) -> int:
        folder = tmp_path / str(memory_bytes)
        folder.mkdir()
        tracemalloc.start()
        build_index([source], "csv", folder, KEY, memory_bytes=memory_bytes)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(16 << 20) < 24 << 20 < peak(1 << 30)


def test_no_words_of_the_data_stand_in_the_index(known):
    for name in ("text", "files", "colour"):
        for path in known[name]._folder.iterdir():
            stored = path.read_bytes()
            assert NOTES[1000:1012].encode() not in stored
            assert BLOB[1000:1012] not in stored


def test_lines_files_and_pictures_are_counted_as_rows(known):
    assert [known[name].rows for name in ("text", "files", "images", "colour")] == [400, 2, 30, 20]
    assert known["text"].columns == (("line", "text"),)
    assert known["colour"].columns == ()


@pytest.mark.parametrize(
    ("format", "data"), [("text", b"\xff\xfe\x00"), ("images", b"no picture"), ("images", npy(np.arange(3.0)))]
)
def test_files_of_another_format_are_refused(tmp_path, format, data):
    with pytest.raises(InvalidInputError) as caught:
        index(tmp_path, format, data)
    assert caught.value.code == "data-broken"


def test_the_rule_says_how_much_and_where_and_never_what(known):
    found = look(known["text"], NOTES[3000:3400].encode())
    terms = Terms(load_policy(DEFAULT_POLICY_TEXT).release, ReleaseContract())
    finding = CHECKS["known-content"](Subject("model", OutputType.MLFLOW_MODEL, None, 0, content=(found,)), terms)
    assert finding is not None
    assert finding.measure == f"1 run, {found.size_bytes} bytes, of the dataset's files"
    assert finding.where == "file"
    assert (
        CHECKS["known-content"](Subject("model", OutputType.MLFLOW_MODEL, None, 0, content=(ContentFound(),)), terms)
        is None
    )
