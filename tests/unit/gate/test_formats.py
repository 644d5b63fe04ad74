"""Files as the real libraries write them: the readers take every value out, without those libraries."""

import json
from operator import attrgetter
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pandas as pd
import pytest
import safetensors.numpy
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from insitu.gate.contents import Contents, NotReadableError
from insitu.gate.effort import Effort
from insitu.gate.readers.blocks import unpack_lz4, unpack_snappy
from insitu.gate.readers.protobuf import fields, packed_varints
from insitu.gate.readers.safetensors import parse_layout, values_of
from tests.unit.gate.canaries import HEADER, contents_of, people
from tests.unit.gate.layers import picture

VALUES = np.random.default_rng(3).normal(20, 5, (30, 4))
NOTE = "Ada Lovelace, London"
STRINGS: Any = [NOTE.encode()]  # `make_tensor` takes them, whatever its types say


def holds(contents: Contents, values: np.ndarray) -> bool:
    flat = np.asarray(values).reshape(-1).tolist()
    return any(array.reshape(-1).tolist() == flat for array in arrays_in(contents))


def arrays_of(data: bytes) -> list[np.ndarray]:
    return arrays_in(contents_of(data))


def arrays_in(contents: Contents) -> list[np.ndarray]:
    return list(map(attrgetter("values"), contents.numbers))


def says(contents: Contents, words: str = NOTE) -> bool:
    return any(words in found.text for found in contents.texts)


# ── safetensors ─────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_tensors_of_every_type_are_read(dtype):
    values = VALUES.astype(dtype)
    assert holds(contents_of(safetensors.numpy.save({"a": values, "b": np.zeros(2)})), values)


def test_brain_floats_are_read_as_floats():
    values = VALUES.astype(ml_dtypes.bfloat16)
    assert holds(contents_of(safetensors.numpy.save({"a": values})), values.astype("f4"))


def test_tensors_are_views_of_the_file():
    data = safetensors.numpy.save({"a": VALUES})
    tensor = parse_layout(data).tensors[0]
    assert np.shares_memory(values_of(data, tensor), np.frombuffer(data, dtype=np.uint8))


def test_names_and_metadata_of_tensors_are_text_and_never_places():
    contents = contents_of(safetensors.numpy.save({NOTE: np.zeros(50)}, metadata={"Bob": "Leeds", "more": NOTE}))
    assert says(contents)
    assert says(contents, "Leeds")
    places = [found.where for found in (*contents.numbers, *contents.texts)]
    assert not any("Ada" in where or "Bob" in where for where in places)


def by_hand(header: dict, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_holes_overlaps_and_padding_of_safetensors_are_read():
    hidden = NOTE.encode() * 3
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    assert says(contents_of(by_hand({"a": entry}, bytes(8) + hidden)))
    other = {"dtype": "F32", "shape": [1], "data_offsets": [8 + len(hidden), 12 + len(hidden)]}
    assert says(contents_of(by_hand({"a": entry, "b": other}, bytes(8) + hidden + bytes(4))))
    overlapping = {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}
    assert not contents_of(by_hand({"a": entry, "b": overlapping}, bytes(8))).unread


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}},
        {"a": {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], "more": 1}},
        {"a": 7},
        {"__metadata__": 7},
    ],
)
def test_a_safetensors_header_that_does_not_fit_is_not_readable(header):
    assert contents_of(by_hand(header, bytes(8))).unread


def test_a_repeated_name_in_a_safetensors_header_is_not_readable():
    entry = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
    text = f'{{"a":{entry},"a":{entry}}}'.encode()
    assert contents_of(len(text).to_bytes(8, "little") + text + bytes(8)).unread


# ── ONNX ────────────────────────────────────────────────────────────────────


def model(initializers=(), *, attributes=None, doc="", metadata=None, names=("x", "y")) -> onnx.ModelProto:
    node = helper.make_node("Any", [names[0]], [names[1]], **(attributes or {}))
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in names]
    graph = helper.make_graph([node], "graph", *ends, initializer=list(initializers), doc_string=doc)
    made = helper.make_model(graph)
    for key, value in (metadata or {}).items():
        made.metadata_props.add(key=key, value=value)
    return made


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_initializers_of_every_type_are_read(dtype):
    values = VALUES.astype(dtype)
    contents = contents_of(model([numpy_helper.from_array(values, "w")]).SerializeToString())
    assert "onnx" in contents.kinds
    assert holds(contents, values)


@pytest.mark.parametrize(
    ("type_", "dtype"),
    [
        (TensorProto.FLOAT, "f4"),
        (TensorProto.DOUBLE, "f8"),
        (TensorProto.INT32, "i4"),
        (TensorProto.INT64, "i8"),
        (TensorProto.UINT64, "u8"),
        (TensorProto.FLOAT16, "f2"),
    ],
)
def test_initializers_with_a_field_for_each_type_are_read(type_, dtype):
    values = VALUES.astype(dtype)
    data = model([helper.make_tensor("w", type_, values.shape, values.reshape(-1))]).SerializeToString()
    assert holds(contents_of(data), values)


def test_brain_floats_of_onnx_are_read_as_floats():
    values = VALUES.astype(ml_dtypes.bfloat16)
    raw = helper.make_tensor("w", TensorProto.BFLOAT16, values.shape, values.tobytes(), raw=True)
    assert holds(contents_of(model([raw]).SerializeToString()), values.astype("f4"))


def test_attributes_names_and_notes_of_onnx_are_read():
    lists = {"floats": VALUES.reshape(-1).tolist(), "ints": list(range(100, 160)), "strings": [NOTE, "b"]}
    contents = contents_of(model(attributes=lists).SerializeToString())
    assert holds(contents, VALUES.astype("f4"))
    assert holds(contents, np.arange(100, 160))
    assert says(contents)
    tensor = numpy_helper.from_array(VALUES, "t")
    assert holds(contents_of(model(attributes={"value": tensor}).SerializeToString()), VALUES)
    for made in (
        model(doc=NOTE),
        model(metadata={"k": NOTE}),
        model(metadata={NOTE: "v"}),
        model(names=(NOTE, "y")),
        model([numpy_helper.from_array(VALUES, NOTE)]),
        model([helper.make_tensor("s", TensorProto.STRING, [1], STRINGS)]),
    ):
        assert says(contents_of(made.SerializeToString()))


def test_graphs_inside_of_attributes_and_unknown_fields_are_read():
    inner = model([numpy_helper.from_array(VALUES, "w")]).graph
    assert holds(contents_of(model(attributes={"then_branch": inner}).SerializeToString()), VALUES)
    data = model().SerializeToString()
    unknown = bytes([(25 << 3 | 2) & 0x7F | 0x80, 25 << 3 >> 7, 127]) + (NOTE * 10).encode()[:127]
    assert says(contents_of(data + unknown))


def test_a_tensor_whose_data_are_elsewhere_is_not_readable():
    tensor = numpy_helper.from_array(VALUES, "w")
    tensor.ClearField("raw_data")
    assert contents_of(model([tensor]).SerializeToString()).unread


def test_protobuf_that_is_none_is_told():
    for data in (b"\x00", b"\x0b", b"\x0a\x7f", b"\x09\x01", b"\x0d\x01", b"\xff" * 11):
        with pytest.raises(NotReadableError):
            list(fields(data))
    assert packed_varints(b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01").tolist() == [1, -1]
    for data in (b"\x80", b"\x80" * 12 + b"\x01"):
        with pytest.raises(NotReadableError):
            packed_varints(data)


# ── parquet ─────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    table = pd.DataFrame(people()[:60], columns=pd.Index(HEADER))
    for name in HEADER[4:]:
        table[name] = table[name].astype(float)
    table["age"] = np.arange(60) * 7
    table["well"] = np.arange(60) % 3 == 0
    return table


@pytest.mark.parametrize("compression", [None, "snappy", "gzip", "zstd", "lz4"])
@pytest.mark.parametrize("use_dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_parquet_is_read_in_every_codec_and_form(frame, compression, use_dictionary, version):
    data = frame.to_parquet(
        compression=compression, use_dictionary=use_dictionary, data_page_version=version, row_group_size=25
    )
    contents = contents_of(data)
    assert not contents.unread
    table = frame[[*HEADER[4:], "age", "well"]].to_numpy(dtype=np.float64)
    assert any(array.shape == table.shape and np.array_equal(array, table) for array in arrays_in(contents))
    lines = {line for found in contents.texts for line in found.text.splitlines()}
    assert all("\t".join(row[:4]) in "\n".join(lines) for row in people()[:60])


def test_gaps_split_streams_deltas_and_times_of_parquet_are_read(frame):
    gappy = frame.copy()
    gappy.loc[3:9, "height"] = np.nan
    table = gappy[["height", "weight"]]
    assert any(np.array_equal(array, table.to_numpy(), equal_nan=True) for array in arrays_of(table.to_parquet()))
    numeric = frame[["height", "weight"]]
    split = numeric.to_parquet(use_dictionary=False, use_byte_stream_split=["height", "weight"])
    assert holds(contents_of(split), numeric.to_numpy())
    deltas = frame[["age"]].to_parquet(use_dictionary=False, column_encoding={"age": "DELTA_BINARY_PACKED"})
    assert holds(contents_of(deltas), frame["age"].to_numpy())
    times = pd.DataFrame({"at": pd.date_range("2020-01-01", periods=5).astype("datetime64[ns]")})
    old_times = contents_of(times.to_parquet(use_deprecated_int96_timestamps=True))
    assert holds(old_times, times["at"].astype("int64").to_numpy())


def test_lists_in_parquet_are_read_and_what_is_not_decoded_is_said(frame):
    nested = pd.DataFrame({"of": [[1.5, 2.5], [3.5, 4.5, 5.5]] * 5})
    assert any({1.5, 2.5, 3.5, 4.5, 5.5} <= set(array.reshape(-1)) for array in arrays_of(nested.to_parquet()))
    words = frame[["name"]].to_parquet(use_dictionary=False, column_encoding={"name": "DELTA_BYTE_ARRAY"})
    assert contents_of(words).unread
    assert contents_of(frame[["age"]].to_parquet(compression="brotli")).unread
    assert contents_of(b"PARE" + frame.to_parquet()[4:-4] + b"PARE").unread


def test_metadata_and_gaps_between_the_parts_of_parquet_are_read(frame):
    frame = frame[["age"]].copy()
    frame.attrs = {"note": NOTE}
    data = frame.to_parquet()
    assert says(contents_of(data))
    size = int.from_bytes(data[-8:-4], "little")
    assert says(contents_of(data[: -8 - size] + b"Bob Dent, Leeds" + data[-8 - size :]), "Bob Dent")


def test_blocks_of_snappy_and_lz4_that_are_damaged_are_told():
    for data in (b"\x05\x10abc", b"\x05\x01\x00", b"\x64\x00a", b"\x80"):
        with pytest.raises(NotReadableError):
            unpack_snappy(data, Effort())
    for data in (b"\x50abc", b"\x10a\x00\x00", b"\x10a\x09\x00"):
        with pytest.raises(NotReadableError):
            unpack_lz4(data, Effort())
    assert unpack_snappy(b"\x0c\x04ab\x19\x02", Effort()) == b"ababababab" + b"ab"
    assert unpack_lz4(b"\x22ab\x02\x00\x00", Effort()) == b"abababab"


# ── PNG ─────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "1", "P", "I;16"])
def test_pixels_of_every_kind_are_read(mode, tmp_path):
    wide = np.random.default_rng(1).integers(0, 256, (21, 33, 4)).astype(np.uint8)
    if mode == "I;16":
        pixels = wide[..., 0].astype(np.uint16) * 200
        image = Image.fromarray(pixels)
    else:
        image = Image.fromarray(wide, "RGBA").convert(mode)
        pixels = np.asarray(image).astype(np.uint8)
    image.save(tmp_path / "a.png")
    contents = contents_of((tmp_path / "a.png").read_bytes())
    assert not contents.unread
    assert holds(contents, pixels)


def test_every_filter_of_png_is_undone():
    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    noisy = np.random.default_rng(0).integers(0, 9, (40, 60)).astype(np.uint8) + smooth
    for pixels in (smooth, noisy, np.stack([smooth, noisy, smooth], axis=-1)):
        assert holds(contents_of(picture(pixels)), pixels)


def test_a_png_that_is_damaged_is_not_readable():
    data = picture(VALUES.astype(np.uint8))
    assert contents_of(data[:-20]).unread
    assert contents_of(data.replace(b"IHDR", b"JHDR")).unread
    assert contents_of(data[:30] + b"\xff" + data[31:]).unread
