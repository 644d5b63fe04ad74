"""The readers: what they take from a file, and what they do with one that is not what it claims to be."""

import bz2
import contextlib
import gzip
import io
import lzma
import pickle
import pickletools
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.gate.contents import Contents
from insitu.gate.effort import Effort, Limits, OutOfEffortError
from insitu.gate.readers.any import read_any
from insitu.gate.readers.numpy import NotReadableError, array_of, parse_dtype, parse_npy_header
from insitu.gate.readers.pickle_machine import _STEPS
from insitu.gate.readers.skops import parse_schema, walk
from insitu.gate.readers.sparse import dense_of
from insitu.gate.readers.zip import Member
from tests.unit.gate.gate_world import joblib_bytes, npz, skops_bytes

VALUES = np.arange(200.0).reshape(20, 10) * 1.37


def read(data: bytes, **limits) -> Contents:
    contents = Contents(Effort(Limits(**limits)))
    read_any(data, "file", contents)
    return contents


def holds(contents: Contents, values: np.ndarray = VALUES) -> bool:
    flat = values.reshape(-1).tolist()
    return any(found.values.reshape(-1).tolist() == flat for found in contents.numbers)


def npy(array: np.ndarray, **options) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **options)
    return out.getvalue()


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


class Runs:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('a pickle was loaded')",))


@pytest.mark.parametrize("wrap", [gzip.compress, bz2.compress, lzma.compress, zlib.compress])
def test_compressed_content_is_read(wrap):
    assert holds(read(wrap(npy(VALUES))))


def test_two_compressed_streams_one_after_the_other_are_both_read():
    assert holds(read(gzip.compress(npy(VALUES)[:500]) + gzip.compress(npy(VALUES)[500:])))
    contents = read(gzip.compress(b"one, two") + b"\x00rest")
    assert "compressed" in contents.kinds


def test_damaged_compression_is_not_readable_and_no_crash():
    assert read(gzip.compress(b"x" * 100)[:12]).unread
    assert read(b"\x1f\x8b" + b"\x00" * 30).unread
    assert read(b"BZh9" + b"\x01" * 30).unread


def test_archives_in_archives_are_read():
    assert holds(read(zipped(a=zipped(b=gzip.compress(npy(VALUES))))))


def test_a_pickle_is_never_run():
    contents = read(pickle.dumps([Runs(), VALUES]))
    assert contents.kinds["pickle"] == "file"
    assert holds(contents)


def test_everything_after_a_pickle_and_after_an_array_is_read():
    assert holds(read(pickle.dumps({"a": 1}) + pickle.dumps(VALUES)))
    assert holds(read(npy(np.zeros(3)) + npy(VALUES)))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "<i4", "u1", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_in_every_protocol_dtype_and_order(protocol, dtype, order):
    array = np.asarray(VALUES.astype(dtype), order=order)
    assert holds(read(pickle.dumps({"x": (array, [array])}, protocol=protocol)), array)
    assert holds(read(npy(array)), array)


def test_objects_arrays_and_structures_are_read_from_joblib():
    mixed = np.array([1.5, "text", VALUES, None], dtype=object)
    contents = read(joblib_bytes({"mixed": mixed, "after": VALUES * 2}))
    assert holds(contents)
    assert holds(contents, VALUES * 2)
    assert not contents.unread
    structured = np.array([(1, 2.5), (3, 4.5), (5, 6.5)], dtype=[("a", "i8"), ("b", "f8")])
    assert holds(read(joblib_bytes(structured)), structured["b"])
    assert holds(read(pickle.dumps(structured)), structured["b"])


def test_object_arrays_in_npy_are_read_as_the_pickles_that_they_are():
    contents = read(npy(np.array([VALUES, Runs()], dtype=object), allow_pickle=True))
    assert "pickle" in contents.kinds
    assert holds(contents)


def test_numbers_text_and_bytes_in_a_pickle_are_collected():
    contents = read(pickle.dumps({"a": [1, 2.5, 2**70, True], "b": "words", "c": np.float64(7.25), "d": 10**400}))
    assert any(set(found.values.tolist()) >= {1.0, 2.5, 2.0**70, 7.25} for found in contents.numbers)
    assert any("words" in found.text for found in contents.texts)


def test_classic_classes_sets_and_odd_opcodes_are_followed():
    old = b"(i__main__\nThing\np0\n(dp1\nS'x'\nF1.5\nsS'y'\nI3\nsb."
    assert not read(old).unread
    by_obj = b"(c__main__\nThing\nI1\no."
    assert not read(by_obj).unread
    odd = b"\x80\x04\x8f(K\x01K\x02\x90(K\x03\x91\x860N2." + b""
    assert "pickle" in read(odd).kinds
    for value in (
        {1, 2, 3},
        frozenset([1.5, 2.5, 3.5]),
        {"a": {"b": ()}},
        bytearray(b"x" * 70),
        (1, 2, 3, 4),
        [None, False],
    ):
        for protocol in range(6):
            assert not read(pickle.dumps(value, protocol=protocol)).unread
    persistent = b"\x80\x02X\x01\x00\x00\x00aQ."
    assert not read(persistent).unread
    assert not read(b"Pabc\n.").unread
    assert not read(b"\x80\x02\x82\x01.").unread
    assert not read(b"\x80\x02K\x01(K\x02K\x031.").unread
    assert not read(pickle.dumps([1, 2], protocol=1) + b"\n").unread


def test_every_opcode_of_pickletools_is_either_followed_or_of_a_plain_kind():
    plain = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "MARK"}
    plain |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
    plain |= {"UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    assert {opcode.name for opcode in pickletools.opcodes} == plain | set(_STEPS)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04K\x01K\x02",  # no STOP
        b"\x80\x04\x85.",  # a tuple of nothing
        b"\x80\x04h\x07.",  # a memo that is not there
        b"\x80\x04(\x85.",  # a mark where a value is due
        b"\x80\x04K\x01t.",  # no mark
        b"\x80\x04N\x85R.",  # a call of nothing
        b"\x80\x04\xff.",  # no opcode
        pickle.dumps(VALUES)[:-40],
        joblib_bytes(VALUES)[:-600],
    ],
)
def test_a_broken_pickle_is_not_readable_and_no_crash(data):
    assert read(data).unread


def test_joblib_arrays_without_shape_or_with_an_unknown_dtype_are_not_readable():
    class NumpyArrayWrapper:
        pass

    for state in (
        {"dtype": np.dtype("f8")},
        {"dtype": "f8", "shape": (3,)},
        {"dtype": np.dtype("f8"), "shape": (3, -1)},
    ):
        wrapper = NumpyArrayWrapper()
        wrapper.__dict__ = state
        NumpyArrayWrapper.__module__ = NumpyArrayWrapper.__qualname__ = "NumpyArrayWrapper"
        data = pickle.dumps({"state": state}).replace(b"state", b"sstat")
        assert read(data).kinds
    by_hand = b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}X\x05\x00\x00\x00dtypeNsb."
    assert read(by_hand).unread
    by_hand = b"\x80\x02cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}(X\x05\x00\x00\x00dtypeNX\x05\x00\x00\x00shapeK\x03\x85ub."
    assert read(by_hand).unread


def test_a_stack_that_grows_without_end_is_not_followed():
    assert read(b"\x80\x02" + b"N" * 1_100_000 + b".").unread


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (99999,)}",
        "{'descr': '<f8', 'fortran_order': 1, 'shape': (3,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-3,)}",
        "{'descr': '<f8', 'fortran_order': False}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "{'descr': '<q77', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': [1], 'fortran_order': False, 'shape': (1,)}",
        "{'descr': {}, 'fortran_order': False, 'shape': (1,)}",
        "{'descr': 'V0', 'fortran_order': False, 'shape': (1,)}",
        "__import__('os').system('true')",
        "(" * 300,
    ],
)
def test_a_header_that_numpy_would_not_write_is_not_readable(header):
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + b"\x00" * 24
    assert read(data).unread


def test_headers_of_other_versions_and_lengths_are_judged():
    assert parse_npy_header(npy(VALUES)).shape == (20, 10)
    out = io.BytesIO()
    np.lib.format.write_array(out, VALUES, version=(3, 0))
    assert holds(read(out.getvalue()))
    for data in (b"\x93NUMPY\x09\x00aaaaaaaa", b"\x93NUMPY\x01\x00\xff\xff" + b"a" * 70_000, b"\x93NUMPY"):
        assert read(data).unread
    assert parse_dtype([("a", "O")]) is None
    assert parse_dtype([("a", "f8", (2, 3))]) == np.dtype([("f0", "f8", (2, 3))])
    with pytest.raises(NotReadableError):
        array_of(b"", np.dtype("f8"), (1,), fortran_order=False)


def test_text_and_times_in_arrays_are_read():
    contents = read(npy(np.array([["Ada", "London"], ["Bob", "Leeds"]])))
    assert contents.texts[0].text == "Ada\tLondon\nBob\tLeeds"
    assert read(npy(np.array([b"abc", b"def"]))).texts
    assert read(npy(np.array(["2020-01-01", "2021-01-01"], dtype="M8[D]"))).numbers[0].values.tolist() == [18262, 18628]
    assert read(npy(np.zeros(3, dtype="U0"))).numbers == []


def test_a_bomb_is_not_unpacked_beyond_its_bounds():
    bomb = gzip.compress(b"\x00" * 50_000_000)
    with pytest.raises(OutOfEffortError, match="expansion over 1 MB"):
        read(bomb, expansion_bytes=1_000_000)
    with pytest.raises(OutOfEffortError, match="expansion over 1 MB"):
        read(zipped(a=b"\x00" * 5_000_000), expansion_bytes=1_000_000)


def test_many_members_deep_nesting_and_many_numbers_are_bounded():
    with pytest.raises(OutOfEffortError, match="members"):
        read(zipped(**{f"m{number}": b"x" for number in range(50)}), members=20)
    data = b"end"
    for _ in range(12):
        data = zipped(a=data)
    with pytest.raises(OutOfEffortError, match="nested"):
        read(data)
    with pytest.raises(OutOfEffortError, match="numbers"):
        read(npy(np.zeros(1000)), values=100)


def test_time_is_bounded():
    ticks = iter(range(1000))
    contents = Contents(Effort(Limits(time_s=5), clock=lambda: next(ticks)))
    with pytest.raises(OutOfEffortError, match="5 s"):
        read_any(zipped(**{f"m{number}": b"x" for number in range(50)}), "file", contents)


def test_an_archive_that_two_readers_see_differently_is_not_readable():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", b"2")
    assert read(out.getvalue()).unread
    damaged = bytearray(zipped(a=b"hello hello hello"))
    damaged[35] ^= 0xFF
    assert read(bytes(damaged)).unread
    encrypted = bytearray(zipped(a=b"hello"))
    encrypted[6] |= 1
    at = encrypted.index(b"PK\x01\x02")
    encrypted[at + 8] |= 1
    assert read(bytes(encrypted)).unread
    assert read(b"PK\x03\x04 and no archive").unread


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (b'{"a": [1, 2, 3.5]}', [1, 2, 3.5]),
        (b'[{"x": 1, "y": "2.5"}, {"x": 3, "y": null}]', [1, 2.5, 3]),
        (b"a,b\n1,2\n3,4\n", [1, 2, 3, 4]),
        (b"1 2\n3 4 5\n6 7 8\n", [3, 4, 5, 6, 7, 8]),
        (b'{"a": 1}\n{"a": 2}\n{"a": 3}\n', [1, 2, 3]),
        (b'["1", "2", "3", "x"]', [1, 2, 3]),
        (b'{"a": 1e999, "b": [NaN, 1, 2, 3]}', [1, 2, 3]),
        (b"[" + b"9" * 400 + b",1,2,3]", [1, 2, 3]),
    ],
)
def test_numbers_in_text_are_found_with_their_table(text, values):
    found = [[v for v in numbers.values.reshape(-1).tolist() if abs(v) < 1e300] for numbers in read(text).numbers]
    assert [float(value) for value in values] in found


def test_very_deep_json_is_not_readable_and_no_crash():
    assert read(b"[" * 90 + b"1,2" + b"]" * 90).unread
    read(b"[" * 100_000)


def test_bytes_of_no_known_form_are_looked_at_as_numbers():
    assert any(found.raw for found in read(b"\xff\x00junk" + (VALUES + 1).tobytes()).numbers)
    assert read(bytes(range(256)) * 4).kinds["binary"] == "file"
    assert read(b"\xff\x00\x01").numbers == []
    assert read(b"").kinds == {}


def test_an_encoded_run_that_decodes_to_nothing_is_left():
    assert "encoded" not in read(b"A" * 65 + b"=").kinds


def test_the_schema_of_skops_is_walked_and_not_built():
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=0.123).fit(VALUES, np.arange(20) % 2)
    model.note_ = [1.25, 2.25, 3.25, "free text"]
    contents = read(skops_bytes(model))
    assert contents.kinds["skops"] == "file"
    assert any({1.25, 2.25, 3.25} <= set(found.values.reshape(-1).tolist()) for found in contents.numbers)
    assert any({"free text", "note_"} <= set(found.text.splitlines()) for found in contents.texts)


def schema_member(text: str) -> list[Member]:
    return [Member("schema.json", text.encode())]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"__loader__": "a", "__loader__": "b"}', "[" * 100_000])
def test_a_schema_that_is_none_is_not_readable(text):
    with pytest.raises(NotReadableError):
        parse_schema(schema_member(text))


def test_a_schema_too_deep_is_not_walked_and_odd_values_in_it_are_noted():
    node: dict = {"__loader__": "ListNode", "content": []}
    for _ in range(150):
        node = {"__loader__": "ListNode", "content": [node]}
    with pytest.raises(NotReadableError, match="too deep"):
        list(walk(node))
    json_node = '{"__loader__": "JsonNode", "content": %s}'
    assert read(zipped(**{"schema.json": (json_node % '"{"').encode()})).unread
    huge = json_node % ('"' + "9" * 400 + '"')
    assert read(zipped(**{"schema.json": huge.encode()})).texts
    assert read(zipped(**{"schema.json": (json_node % '"[1, 2]"').encode()})).texts


def test_sparse_parts_that_do_not_fit_are_not_readable():
    assert dense_of({}) is None
    ints = np.array([2, 3])
    assert dense_of({"shape": ints, "data": np.ones(2)}) is None
    assert dense_of({"shape": np.array([10**6, 10**6]), "data": np.ones(2)}) is None
    bad = npz()
    out = io.BytesIO()
    np.savez(out, shape=ints, data=np.ones(2), indices=np.array([7, 8]), indptr=np.array([0, 1, 2]))
    assert read(out.getvalue()).unread
    assert not read(bad).unread
    square = {
        "shape": np.array([2, 2]),
        "data": np.array([1.0, 2.0]),
        "indices": np.array([1, 0]),
        "indptr": np.array([0, 1, 2]),
    }
    for form, rows in ((b"csr", [[0, 1], [2, 0]]), (b"csc", [[0, 2], [1, 0]])):
        assert np.array_equal(np.array(dense_of({**square, "format": np.array(form)})), rows)
    out = io.BytesIO()
    np.savez(out, shape=np.array([None], dtype=object), data=np.ones(2))
    read(out.getvalue())


@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=400),
    start=st.sampled_from([b"", b"\x80\x04", b"\x80\x02(", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"x\x9c", b"{", b"("]),
)
def test_no_bytes_crash_the_readers(data, start):
    with contextlib.suppress(OutOfEffortError):
        read(start + data, expansion_bytes=1_000_000)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_damage_to_real_files_crashes_the_readers(data):
    original = data.draw(st.sampled_from([pickle.dumps(VALUES), joblib_bytes([VALUES]), npz(VALUES), npy(VALUES)]))
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(OutOfEffortError):
        read(bytes(damaged), expansion_bytes=10_000_000, members=1000)


def by_hand(*parts: bytes) -> Contents:
    return read(b"\x80\x02" + b"".join(parts) + b".")


def text_op(text: bytes) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text


F8 = b"cnumpy\ndtype\n" + text_op(b"f8") + b"\x89\x88\x87R"
BLOB = b"T" + (80).to_bytes(4, "little") + VALUES[0].tobytes()


def test_arrays_are_recognised_by_what_builds_them_whatever_its_name():
    """Rows behind a function or class of any name: a shape, a dtype and bytes are an array."""
    assert holds(by_hand(b"cany\nthing\n(K\x0a\x85", F8, b"\x89", BLOB, b"tR"), VALUES[0])
    assert holds(by_hand(b"cany\nthing\n)\x81(K\x01K\x0a\x85", F8, b"\x89", BLOB, b"tb"), VALUES[0])
    assert holds(by_hand(b"cany\nthing\n(", F8, BLOB, b"tR"), VALUES[0])  # without a shape
    assert holds(by_hand(b"N(K\x01K\x0a\x85", F8, b"\x89", BLOB, b"tb"), VALUES[0])  # built upon nothing
    keyword_only = by_hand(b"cany\nthing\n(K\x0a\x85", F8, b"\x89", BLOB, b"t}\x92")
    assert not keyword_only.unread


def test_bytes_too_few_for_their_shape_are_looked_at_as_they_are():
    contents = by_hand(b"cany\nthing\n(K\x63\x85", F8, b"\x89", BLOB, b"tR")
    assert any(found.raw for found in contents.numbers)


@pytest.mark.parametrize("code", [b"zz", b"f3", b"f", b"", b"V16"])
def test_a_dtype_that_is_none_claims_nothing(code):
    dtype = b"cnumpy\ndtype\n" + text_op(code) + b"\x89\x88\x87R"
    contents = by_hand(b"cany\nthing\n(K\x0a\x85", dtype, b"\x89", BLOB, b"tR")
    assert all(found.raw for found in contents.numbers if found.values.size == 10) or code == b"V16"
    assert not contents.unread


def test_a_structured_dtype_that_is_broken_claims_nothing():
    for fields in (b"}", b"}" + text_op(b"a") + b"N\x85s", b"}" + text_op(b"a") + b"K\x01K\x02\x86s"):
        dtype = b"cnumpy\ndtype\n" + text_op(b"V16") + b"\x89\x88\x87R(K\x03X\x01\x00\x00\x00|NN" + fields + b"tb"
        assert by_hand(b"cany\nthing\n(K\x05\x85", dtype, b"\x89", BLOB, b"tR").kinds["pickle"]


def test_dtype_codes_of_python_2_are_read():
    dtype = b"cnumpy\ndtype\nU\x02f8\x89\x88\x87R"
    assert holds(by_hand(b"cany\nthing\n(K\x0a\x85", dtype, b"\x89", BLOB, b"tR"), VALUES[0])


def test_appending_to_something_else_than_a_list_is_followed():
    contents = by_hand(b"cany\nlist\n)\x81(K\x01K\x02K\x03eK\x04a")
    assert any(found.values.tolist() == [1, 2, 3, 4] for found in contents.numbers)
    assert not by_hand(b"cany\ndict\n)\x81(K\x01K\x02uK\x03K\x04s").unread


def test_joblib_arrays_of_an_unknown_dtype_are_not_readable():
    wrapper = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}("
    shape = text_op(b"shape") + b"K\x03\x85"
    assert by_hand(wrapper, text_op(b"dtype"), b"cnumpy\ndtype\n" + text_op(b"zz") + b"\x85R", shape, b"ub").unread
    older = wrapper + text_op(b"dtype") + F8 + text_op(b"shape") + b"K\x0a\x85ub" + VALUES[0].tobytes()
    assert holds(by_hand(older), VALUES[0])  # before joblib aligned its arrays
    cut = wrapper + text_op(b"dtype") + F8 + shape + text_op(b"numpy_array_alignment_bytes") + b"K\x10ub"
    assert read(b"\x80\x02" + cut).unread


def test_pointers_that_fit_neither_rows_nor_columns_are_not_readable():
    out = io.BytesIO()
    np.savez(out, shape=np.array([2, 3]), data=np.ones(2), indices=np.array([0, 1]), indptr=np.arange(7))
    assert read(out.getvalue()).unread
    out = io.BytesIO()
    np.savez(out, shape=np.array([3, 2]), data=np.ones(2), indices=np.array([0, 1]), indptr=np.array([0, 1, 2]))
    assert not read(out.getvalue()).unread
