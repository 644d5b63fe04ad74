"""Whatever bytes a job leaves: a reader ends, within its bounds, and raises nothing but what says so."""

import base64
import bz2
import contextlib
import gzip
import io
import json
import lzma
import pickle
import zipfile
import zlib
from operator import attrgetter

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
import yaml
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from insitu.domain.outputs import OutputType, Verdict
from insitu.gate.contents import Contents
from insitu.gate.effort import Effort, Limits, OutOfEffortError
from insitu.gate.judgement import JudgeLimits
from insitu.gate.readers.any import read_any
from tests.unit.gate.canaries import people_csv
from tests.unit.gate.gate_world import judge_one
from tests.unit.gate.layers import array_file, picture, tarred, zipped

VALUES = np.arange(60.0).reshape(12, 5) * 1.25
CSV = people_csv(0, 6)


def onnx_model() -> bytes:
    node = helper.make_node("Any", ["x"], ["y"], weights=[1.0, 2.0, 3.0], names=["a", "b"])
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in "xy"]
    graph = helper.make_graph([node], "graph", *ends, initializer=[numpy_helper.from_array(VALUES, "w")])
    return helper.make_model(graph).SerializeToString()


def interlaced() -> bytes:
    """A PNG in seven passes: 3 × 3 grey pixels."""
    head = (3).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x01"
    rows = b"\x00\x01" + b"\x00\x02" + b"\x00\x03\x04" + b"\x00\x05" + b"\x00\x06" + b"\x00\x07\x08\x09"

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


FILES = {
    "safetensors": safetensors.numpy.save({"a": VALUES, "b": VALUES.astype("f4")}, metadata={"k": "v"}),
    "onnx": onnx_model(),
    "parquet": pd.DataFrame({"a": VALUES[:, 0], "b": list("abcdefghijkl")}).to_parquet(),
    "parquet, packed and split": pd.DataFrame({"a": VALUES[:, 0]}).to_parquet(
        compression="zstd", use_dictionary=False, use_byte_stream_split=["a"], data_page_version="2.0"
    ),
    "parquet, deltas": pd.DataFrame({"a": np.arange(30)}).to_parquet(
        use_dictionary=False, column_encoding={"a": "DELTA_BINARY_PACKED"}
    ),
    "png": picture((VALUES * 3).astype(np.uint8), chunk=b"something", note="text", zipped="packed"),
    "png in seven passes": interlaced(),
    "zip": zipped(CSV, b"two", comment=b"three"),
    "tar": tarred(CSV, pax={"comment": "a"}),
    "gzip": gzip.compress(CSV),
    "bzip2": bz2.compress(CSV),
    "xz": lzma.compress(CSV),
    "zstd": zstd.compress(CSV),
    "npy": array_file(VALUES),
    "pickle": pickle.dumps({"a": VALUES, "b": ["x", 1, 2.5, b"bytes"]}),
    "yaml": yaml.safe_dump({"a": [1, 2.5, {"b": "c"}], "d": "e"}).encode(),
    "json": json.dumps({"a": [[1, 2], [3, 4]], "b": base64.b64encode(CSV).decode()}).encode(),
    "utf-16": CSV.decode().encode("utf-16"),
    "ascii85": base64.a85encode(CSV),
}
BOUNDS = Limits(expansion_bytes=3_000_000, members=2000, values=2_000_000, time_s=30)


def read(data: bytes) -> Contents:
    contents = Contents(Effort(BOUNDS))
    with contextlib.suppress(OutOfEffortError):
        read_any(data, "file", contents)
    return contents


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_read_to_its_end(name):
    assert not read(FILES[name]).unread


def test_pixels_in_seven_passes_are_put_in_their_places():
    pixels = next(map(attrgetter("values"), read(FILES["png in seven passes"]).numbers))
    assert pixels[..., 0].tolist() == [[1, 5, 2], [7, 8, 9], [3, 6, 4]]


@pytest.mark.parametrize("name", FILES)
def test_no_file_that_is_cut_off_crashes_the_readers(name):
    data = FILES[name]
    for size in {1, 2, 7, 9, 12, len(data) // 3, len(data) // 2, len(data) - 9, len(data) - 1}:
        read(data[:size])
        read(data[-size:])


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_no_damage_crashes_the_readers(name, data):
    damaged = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        kind = data.draw(st.sampled_from(["byte", "bit", "cut", "repeat", "insert"]))
        if kind == "byte":
            damaged[at] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
        elif kind == "bit":
            damaged[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del damaged[at : at + data.draw(st.integers(1, 9))]
        elif kind == "repeat":
            damaged[at:at] = damaged[at : at + 20]
        else:
            damaged[at:at] = data.draw(st.binary(max_size=12))
        if not damaged:
            break
    read(bytes(damaged))


@settings(max_examples=150, deadline=None)
@given(
    data=st.binary(max_size=300),
    start=st.sampled_from([data[:size] for data in FILES.values() for size in (4, 8, 16, 60)]),
)
def test_no_bytes_behind_a_real_beginning_crash_the_readers(data, start):
    read(start + data)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_no_text_crashes_the_readers(text):
    read(text.encode(errors="replace"))
    read(json.dumps({"a": [text, text[::-1]]}).encode())


BOMBS = {
    "gzip": gzip.compress(bytes(20_000_000)),
    "bzip2": bz2.compress(bytes(20_000_000)),
    "xz": lzma.compress(bytes(20_000_000)),
    "zstd": zstd.compress(bytes(20_000_000)),
    "zip": zipped(bytes(20_000_000)),
    "png": picture(note="x") and picture(np.zeros((4000, 5000), dtype=np.uint8)),
    "packed text of a png": picture(znote="a" * 20_000_000),
    "snappy in parquet": pd.DataFrame({"a": ["x" * 20_000_000]}).to_parquet(use_dictionary=False),
    "base64": base64.b64encode(gzip.compress(bytes(20_000_000))),
    "nested": gzip.compress(gzip.compress(bytes(20_000_000))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_the_reading_and_the_reason_says_so(name):
    contents = Contents(Effort(BOUNDS))
    with pytest.raises(OutOfEffortError, match="expansion over 3 MB"):
        read_any(BOMBS[name], "file", contents)


def test_a_stream_that_grows_beyond_all_measure_ends_the_reading():
    contents = Contents(Effort(Limits(ratio=100, ratio_from_bytes=1_000_000)))
    with pytest.raises(OutOfEffortError, match="grows more than 100-fold"):
        read_any(BOMBS["bzip2"], "file", contents)
    contents = Contents(Effort(Limits(ratio=100, ratio_from_bytes=1_000_000)))
    with pytest.raises(OutOfEffortError, match="grows more than 100-fold"):
        read_any(BOMBS["zip"], "file", contents)


def test_encodings_upon_encodings_end():
    data = CSV
    for _ in range(14):
        data = base64.b64encode(data)
    contents = Contents(Effort())
    with pytest.raises(OutOfEffortError, match="encoded more than 12 times"):
        read_any(data, "file", contents)


def test_anchors_of_yaml_are_no_bomb():
    text = "a: &a [x, x]\n" + "".join(
        f"{chr(98 + at)}: &{chr(98 + at)} [*{chr(97 + at)}, *{chr(97 + at)}]\n" for at in range(20)
    )
    assert "yaml" in read(text.encode()).kinds
    assert read(("- " * 100 + "x").encode()).texts


def test_what_is_not_read_here_is_said():
    for data in (b"7z\xbc\xaf\x27\x1c" + bytes(40), b"\x89HDF\r\n\x1a\n" + bytes(40), b"\xff\xd8\xff\xe0" + bytes(40)):
        assert "not read here" in read(data).unread[0]


def test_a_zip_is_read_beside_what_its_directory_says():
    encrypted = bytearray(zipped(CSV))
    encrypted[6] |= 1
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    assert read(bytes(encrypted)).unread
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a", CSV)
    stored = out.getvalue()
    without = read(stored[: stored.index(b"PK\x01\x02")])
    assert without.unread
    assert any("Jansen" in found.text or CSV[:20].decode() in found.text for found in without.texts)


def test_a_tar_with_numbers_out_of_range_is_not_readable():
    data = bytearray(tarred(CSV))
    for field in (b"99999999999\x00", b"\x80" + b"\xff" * 11, b"zzzzzzzzzzzz"):
        changed = bytearray(data)
        changed[124:136] = field
        changed[148:156] = b" " * 8
        changed[148:156] = b"%06o\x00 " % sum(changed[:512])
        assert read(bytes(changed)).unread or field.startswith(b"z")
    sparse = bytearray(data)
    sparse[156:157] = b"S"
    sparse[148:156] = b" " * 8
    sparse[148:156] = b"%06o\x00 " % sum(sparse[:512])
    assert any("sparse" in reason for reason in read(bytes(sparse)).unread)


def test_the_decision_on_a_bomb_names_the_bound_that_it_reached(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"a": base64.b64encode(BOMBS["gzip"]).decode()}))
    limits = JudgeLimits(expansion_bytes=3_000_000)
    decision = judge_one(tmp_path / "metrics.json", None, tmp_path / "out", type=OutputType.URI_FILE, limits=limits)
    finding = next(finding for finding in decision.findings if finding.rule == "not-readable")
    assert finding.measure == "expansion over 3 MB"
    assert decision.verdict is Verdict.HELD


def test_the_decision_on_what_is_hidden_in_weights_says_so(tmp_path):
    (tmp_path / "scores.json").write_text(json.dumps(list(gzip.compress(CSV * 3))))
    decision = judge_one(tmp_path / "scores.json", None, tmp_path / "out", type=OutputType.URI_FILE)
    pieces = json.dumps([base64.b64encode(CSV).decode()[at : at + 9] for at in range(0, 500, 9)])
    (tmp_path / "notes.json").write_text(pieces)
    disguised = judge_one(tmp_path / "notes.json", None, tmp_path / "out2", type=OutputType.URI_FILE)
    assert decision.verdict is disguised.verdict is Verdict.HELD
    assert "encoded-text" in [finding.rule for finding in disguised.findings]
