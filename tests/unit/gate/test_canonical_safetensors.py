"""Safetensors rewritten: what the library loads stays, and nothing else."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy as library
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from insitu.gate.canonical.precision import Rounding
from insitu.gate.canonical.safetensors import rewrite_safetensors
from insitu.gate.contents import NotReadableError
from insitu.gate.effort import Effort
from insitu.gate.readers.safetensors import parse_layout, values_of

RNG = np.random.default_rng(0)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,12}", fullmatch=True)
ARRAYS = hnp.arrays(
    st.sampled_from(["f2", "f4", "f8", "i1", "u1", "i2", "i4", "i8", "bool"]), hnp.array_shapes(max_dims=3, max_side=5)
)


def rewrite(data: bytes, precision=None):
    return rewrite_safetensors(data, Rounding(precision), Effort())


def network(**changes) -> dict[str, np.ndarray]:
    """An MLP 20-64-1 as PyTorch names it."""
    tensors = {
        "fc1.weight": RNG.normal(size=(64, 20)).astype(np.float32),
        "fc1.bias": RNG.normal(size=64).astype(np.float32),
        "fc2.weight": RNG.normal(size=(1, 64)).astype(np.float32),
        "fc2.bias": np.array([0.25], dtype=np.float32),
    }
    return {**tensors, **changes}


def predict(tensors, rows):
    hidden = np.maximum(rows @ tensors["fc1.weight"].T + tensors["fc1.bias"], 0)
    return hidden @ tensors["fc2.weight"].T + tensors["fc2.bias"]


def by_hand(header, body: bytes, *, padding: bytes = b"") -> bytes:
    text = (header if isinstance(header, bytes) else json.dumps(header).encode()) + padding
    return len(text).to_bytes(8, "little") + text + body


@given(st.dictionaries(NAMES, ARRAYS, min_size=1, max_size=5))
def test_without_a_precision_the_library_loads_the_same_tensors(tensors):
    written = rewrite(library.save(tensors))
    assume("dead neurons" not in written.dropped)
    copy = library.load(written.data)
    assert set(copy) == set(tensors)
    for name, values in tensors.items():
        assert (copy[name].dtype, copy[name].shape) == (values.dtype, values.shape)
        assert np.array_equal(copy[name], values, equal_nan=values.dtype.kind == "f")


@given(st.dictionaries(NAMES, ARRAYS, min_size=1, max_size=5), st.sampled_from([None, "bfloat16", "float32"]))
def test_a_copy_of_a_copy_is_the_copy(tensors, precision):
    once = rewrite(library.save(tensors), precision).data
    assert rewrite(once, precision).data == once


def test_metadata_padding_order_and_spelling_of_the_header_do_not_survive():
    tensors = network()
    plain = rewrite(library.save(tensors)).data
    noted = rewrite(library.save(tensors, metadata={"rows": "17.99,10.38,122.8"}))
    assert noted.data == plain
    assert noted.dropped == ("metadata",)
    header, body, at = {}, b"", 0
    for name in sorted(tensors, reverse=True):
        part = tensors[name].tobytes()
        shape = list(tensors[name].shape)
        header[name] = {"shape": shape, "dtype": "F32", "data_offsets": [at, at + len(part)]}
        body, at = body + part, at + len(part)
    text = json.dumps(header, indent=3).replace("fc1", "\\u0066c1").encode()
    assert rewrite(by_hand(text, body, padding=b" " * 333)).data == plain


def test_a_network_predicts_nearly_the_same_after_rounding():
    tensors, rows = network(), RNG.normal(size=(200, 20))
    copy = library.load(rewrite(library.save(tensors), "bfloat16").data)
    before, after = predict(tensors, rows), predict(copy, rows)
    assert np.abs(after - before).max() < 0.05 * before.std()
    assert copy["fc1.weight"].dtype == np.float32


def test_bytes_in_the_low_halves_of_weights_do_not_survive():
    secret = RNG.integers(0, 2**16, 1280).astype(np.uint32)
    weights = network()["fc1.weight"]
    marked = ((weights.view(np.uint32).ravel() & np.uint32(0xFFFF0000)) | secret).view(np.float32).reshape(64, 20)
    copy = library.load(rewrite(library.save(network(**{"fc1.weight": marked})), "bfloat16").data)
    assert not (copy["fc1.weight"].view(np.uint32) & 0xFFFF).any()


def test_integers_that_hide_bytes_are_counted_in_full():
    secret = RNG.integers(0, 256, 50_000).astype(np.uint8)
    assert rewrite(library.save({"weight": secret}), "bfloat16").carries_bits >= 8 * 50_000


def test_bfloat16_tensors_stay_bfloat16():
    values = RNG.normal(size=(4, 4)).astype(ml_dtypes.bfloat16)
    stored = library.save({"w": values})
    assert rewrite(stored, "bfloat16").data == rewrite(stored).data
    (tensor,) = parse_layout(rewrite(stored, "bfloat16").data).tensors
    assert tensor.dtype == "BF16"
    assert np.array_equal(values_of(rewrite(stored, "bfloat16").data, tensor), values.astype(np.float32))


def test_names_that_are_not_ordinary_are_replaced_whatever_their_order():
    rows = {f"Ada Lovelace 1815-12-{day:02d}, {day}": np.full(3, day, dtype=np.float32) for day in range(10, 20)}
    first = rewrite(library.save(rows))
    assert set(library.load(first.data)) == {f"tensor_{number}" for number in range(1, 11)}
    assert "odd tensor names" in first.dropped
    others = {f"x{'!' * at}": values for at, values in enumerate(reversed(list(rows.values())), start=1)}
    assert rewrite(library.save(others)).data == first.data
    encoded = {"MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U": np.ones(1)}
    assert list(library.load(rewrite(library.save(encoded)).data)) == ["tensor_1"]


@pytest.mark.parametrize("outgoing", [0.0, 1e-9], ids=["silent", "nearly silent"])
@pytest.mark.parametrize("transposed", [False, True], ids=["out,in", "in,out"])
def test_neurons_that_nothing_listens_to_are_cleared(outgoing, transposed):
    tensors = network()
    rows = RNG.normal(size=(10, 20)).astype(np.float32)
    tensors["fc1.weight"][:10] = rows
    tensors["fc2.weight"][0, :10] = outgoing
    given = {n: v.T.copy() if transposed and v.ndim == 2 else v for n, v in tensors.items()}
    found = rewrite(library.save(given), "bfloat16")
    copy = library.load(found.data)
    copy = {n: v.T if transposed and v.ndim == 2 else v for n, v in copy.items()}
    assert found.dropped == ("dead neurons",)
    assert not copy["fc1.weight"][:10].any()
    assert not copy["fc1.bias"][:10].any()
    assert copy["fc1.weight"][10:].all()
    inputs = RNG.normal(size=(50, 20))
    assert np.abs(predict(copy, inputs) - predict(tensors, inputs)).max() < 0.5


@pytest.mark.parametrize("incoming", [0.0, 1e-6, 2.0], ids=["zero", "nothing beside the bias", "never awake"])
def test_neurons_that_say_nothing_are_cleared_with_what_listens_to_them(incoming):
    tensors = network()
    tensors["fc1.weight"][:10] = incoming * RNG.normal(size=(10, 20))
    tensors["fc1.bias"][:10] = -1e4
    found = rewrite(library.save(tensors), "bfloat16")
    copy = library.load(found.data)
    assert found.dropped == ("dead neurons",)
    assert not copy["fc2.weight"][0, :10].any()
    assert not copy["fc1.bias"][:10].any()
    assert copy["fc2.weight"][0, 10:].all()
    inputs = RNG.normal(size=(50, 20))
    assert np.abs(predict(copy, inputs) - predict(tensors, inputs)).max() < 0.5


def test_a_neuron_that_always_speaks_is_kept():
    tensors = network()
    tensors["fc1.weight"][3], tensors["fc1.bias"][3] = 0, 2.0
    assert library.load(rewrite(library.save(tensors), "bfloat16").data)["fc2.weight"][0, 3] != 0


def test_of_equal_neurons_one_speaks_for_all():
    tensors = network()
    tensors["fc1.weight"][1:4], tensors["fc1.bias"][1:4] = tensors["fc1.weight"][0], tensors["fc1.bias"][0]
    tensors["fc2.weight"][0, :4] = [50, -30, 7, -26]
    copy = library.load(rewrite(library.save(tensors), "bfloat16").data)
    assert copy["fc2.weight"][0, :4].tolist() == [1, 0, 0, 0]
    assert not copy["fc1.weight"][1:4].any()
    assert copy["fc1.weight"][0].all()


def test_dead_channels_of_a_convolution_are_cleared_through_a_flattening():
    tensors = {
        "conv1.weight": RNG.normal(size=(8, 1, 3, 3)).astype(np.float32),
        "conv1.bias": RNG.normal(size=8).astype(np.float32),
        "fc.weight": RNG.normal(size=(2, 8 * 16)).astype(np.float32),
    }
    tensors["fc.weight"][:, 32:48] = 0  # all that comes of the third channel
    copy = library.load(rewrite(library.save(tensors), "bfloat16").data)
    assert not copy["conv1.weight"][2].any()
    assert copy["conv1.bias"][2] == 0
    assert copy["conv1.weight"][[0, 1, 3, 4, 5, 6, 7]].all()


def test_layers_that_make_no_chain_are_left_as_they_are():
    tensors = network(**{"other.weight": np.ones((7, 5), dtype=np.float32)})
    tensors["fc2.weight"][0, :10] = 0
    copy = library.load(rewrite(library.save(tensors), "float32").data)
    assert copy["fc1.weight"][:10].all()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02\x00\x00\x00\x00\x00\x00\x00{",
        by_hand([], b""),
        by_hand(
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
            b"1",
        ),
        by_hand({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"12"),
        by_hand({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"12"),
        by_hand({n: {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]} for n in "ab"}, b"12"),
        by_hand({"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, b"12345678"),
        by_hand({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1], "note": 1}}, b"1"),
        by_hand({"a": {"dtype": "U8", "shape": [1] * 9, "data_offsets": [0, 1]}}, b"1"),
        by_hand({"a": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, b"7"),
    ],
    ids=["empty", "cut off", "a list", "twice", "gap", "behind", "overlap", "type", "field", "dimensions", "boolean"],
)
def test_what_is_not_whole_is_not_rewritten(data):
    with pytest.raises(NotReadableError):
        rewrite(data)
