"""Streams in the bits of numbers: laid down in every order that one would choose, the search finds them."""

import bz2
import gzip
import lzma
import zlib

import numpy as np
import pytest
import safetensors.numpy
from backports import zstd

from insitu.gate.effort import OutOfEffortError
from tests.unit.gate.canaries import contents_of, people, people_csv
from tests.unit.gate.layers import array_file, picture, zipped

CSV = people_csv()
LINE = "\t".join(people()[20][:3])
UNITS = {"f4": "u4", "f8": "u8", "f2": "u2"}


def weights(count: int, dtype: str = "f4") -> np.ndarray:
    return np.random.default_rng(11).normal(0, 0.4, count).astype(dtype)


def stream_in(
    payload: bytes,
    width: int,
    *,
    low: int = 0,
    start: int = 0,
    dtype: str = "f4",
    low_first: bool = False,
    bit_order: str = "big",
) -> np.ndarray:
    """Weights with `payload` in `width` bits of each, from weight number `start` on."""
    bits = np.unpackbits(np.frombuffer(payload, dtype=np.uint8), bitorder=bit_order)  # type: ignore[call-overload]
    rows = np.concatenate([bits, np.zeros(-len(bits) % width, dtype=np.uint8)]).reshape(-1, width)
    unit = np.dtype(UNITS[dtype])
    places = np.arange(width) if low_first else np.arange(width - 1, -1, -1)
    fields = (rows.astype(unit) << places.astype(unit)).sum(axis=1, dtype=unit) << unit.type(low)
    carrier = weights(start + len(fields) + 60, dtype).view(unit).copy()
    mask = unit.type(((1 << width) - 1) << low)
    part = carrier[start : start + len(fields)]
    part[:] = (part & ~mask) | fields
    return carrier.view(dtype)


def model(*tensors: np.ndarray) -> bytes:
    return safetensors.numpy.save({f"layer.{number}": tensor for number, tensor in enumerate(tensors)})


def test_bytes_in_one_column_of_a_table_or_behind_a_point_are_read():
    codes = np.frombuffer("\n".join("\t".join(row) for row in people()[18:24]).encode(), dtype=np.uint8)
    table = np.stack([np.arange(len(codes)) * 1000, codes], axis=1)
    assert is_found(array_file(table))
    assert is_found(array_file(codes / 1000))
    assert is_found(array_file(np.stack([weights(len(codes)), codes / 100], axis=1)))


def test_a_magic_that_chance_wrote_into_bits_is_no_finding():
    values = weights(3000)
    values.view("u1")[4000:4008] = np.frombuffer(b"PK\x03\x04PAR1", dtype="u1")
    contents = contents_of(model(values))
    assert not contents.unread
    assert contents.passed_over


def is_found(data: bytes) -> bool:
    contents = contents_of(data)
    rows = people()[20]
    told = any(rows[0] in found.text and rows[1] in found.text for found in contents.texts)
    return told and not contents.unread


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, bz2.compress, lzma.compress, zstd.compress, zipped])
def test_any_packed_stream_in_the_low_bits_is_found(pack):
    data = model(stream_in(pack(CSV), 16, start=41))
    assert is_found(data)
    assert "hidden stream" in contents_of(data).kinds or pack is zipped


@pytest.mark.parametrize("width", range(1, 25))
def test_a_stream_is_found_in_any_number_of_low_bits(width):
    assert is_found(model(stream_in(gzip.compress(CSV), width, start=width % 5)))


@pytest.mark.parametrize("width", [1, 2, 4, 7, 8, 12, 16])
@pytest.mark.parametrize("low_first", [False, True])
@pytest.mark.parametrize("bit_order", ["big", "little"])
def test_a_stream_is_found_in_either_order_of_bits_and_bytes(width, low_first, bit_order):
    tensor = stream_in(gzip.compress(CSV), width, start=3, low_first=low_first, bit_order=bit_order)
    if width % 8 or low_first == (bit_order == "little"):  # else it is mirrored byte by byte, as nobody would write it
        assert is_found(model(tensor))


@pytest.mark.parametrize("low", [0, 5, 16, 22, 31])
def test_a_stream_is_found_in_any_single_plane_and_in_the_signs(low):
    assert is_found(model(stream_in(gzip.compress(CSV), 1, low=low, start=13)))


@pytest.mark.parametrize(("dtype", "width"), [("f8", 32), ("f8", 24), ("f8", 48), ("f2", 8), ("f2", 4)])
def test_a_stream_is_found_in_wider_and_narrower_numbers(dtype, width):
    assert is_found(model(stream_in(gzip.compress(CSV), width, dtype=dtype)))


def test_low_bits_are_counted_from_the_lowest_that_varies():
    """Weights that were rounded to bfloat16, with a stream in what is left of the mantissa."""
    tensor = stream_in(gzip.compress(CSV), 5, low=16)
    rounded = (tensor.view("u4") & np.uint32(0xFFFF0000)).view("f4")
    assert is_found(model(rounded))


def test_a_stream_that_goes_on_in_the_next_tensor_is_found():
    assert is_found(model(*np.array_split(stream_in(gzip.compress(CSV), 16, start=9), 7)))


def test_signs_that_mean_the_opposite_are_read_too():
    tensor = stream_in(gzip.compress(CSV), 1, low=31, start=13)
    assert is_found(model(-tensor))


def test_a_stream_is_found_where_biases_stand_between_the_matrices_that_hold_it():
    whole = stream_in(zlib.compress(CSV, 9), 4)
    size = len(whole) // 40 * 10
    parts = [whole[at : at + size] for at in range(0, len(whole) // 10 * 10, size)]
    tensors = {f"layer{number}.weight": part.reshape(10, -1) for number, part in enumerate(parts)}
    biases = {f"layer{number}.bias": weights(10) for number in range(len(parts))}
    assert is_found(safetensors.numpy.save(tensors | biases))


def test_a_stream_that_takes_one_value_of_each_tensor_in_turn_is_found():
    whole = stream_in(gzip.compress(CSV), 4)
    assert is_found(model(*(np.ascontiguousarray(whole[at::7]) for at in range(7))))


def test_text_and_deflate_without_a_header_are_found():
    assert is_found(model(stream_in(CSV, 8)))
    bare = zlib.compressobj(wbits=-15)
    assert is_found(model(stream_in(bare.compress(CSV) + bare.flush(), 16)))


def test_values_that_are_codes_are_found():
    assert is_found(array_file(np.frombuffer(CSV, dtype=np.uint8).astype(np.float32)))
    bits = np.unpackbits(np.frombuffer(gzip.compress(CSV), dtype=np.uint8))
    assert is_found(array_file(np.where(bits, 0.37, -0.25)))
    assert is_found(array_file(np.array([0.1, 0.4, 0.7, 0.9])[bits.reshape(-1, 2) @ [2, 1]]))


def test_a_stream_in_the_low_bits_of_a_picture_is_found():
    noise = np.random.default_rng(0).integers(0, 128, 30_000).astype(np.uint8) * 2
    bits = np.unpackbits(np.frombuffer(gzip.compress(CSV), dtype=np.uint8))
    noise[: len(bits)] |= bits
    assert is_found(picture(noise.reshape(150, 200)))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_the_noise_of_trained_weights_is_no_finding(dtype):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        tensors = [rng.normal(0, 0.1, shape).astype(dtype) for shape in ((20, 64), (64,), (64, 16), (16, 1))]
        contents = contents_of(model(*tensors))
        assert not {"hidden stream", "encoded"} & set(contents.kinds)
        assert len(contents.numbers) == len(tensors)
        assert not contents.unread


def test_whole_numbers_pictures_and_masks_are_no_finding():
    rng = np.random.default_rng(5)
    arrays = [
        rng.integers(-128, 128, 4000).astype("i1"),
        rng.integers(0, 9, 4000),
        np.arange(4000),
        rng.random(4000) < 0.5,
    ]
    for array in arrays:
        assert not {"hidden stream", "encoded"} & set(contents_of(array_file(np.asarray(array))).kinds)


def test_what_was_not_searched_is_said_and_a_large_model_costs_no_more_than_its_share():
    contents = contents_of(model(weights(6_000_000)))
    assert any("slices of bits" in note for note in contents.passed_over)
    assert not contents.unread


def test_unknown_bytes_beyond_the_bound_are_not_searched_and_that_is_said():
    contents = contents_of(b"\xff\x00\x01" * 1000, search_bytes=100)
    assert contents.passed_over
    with pytest.raises(OutOfEffortError):
        contents_of(model(weights(1000)), values=10)
