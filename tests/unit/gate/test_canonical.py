"""Canonical copies: the same meaning, and no room beside it."""

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler

from insitu.gate.canonical.skops import canonical_npy, rewrite_skops, types_of
from insitu.gate.canonical.tables import rewrite_table
from insitu.gate.effort import Effort
from insitu.gate.readers.numpy import NotReadableError
from insitu.gate.safe_types import SAFE_LOADERS, SAFE_TYPES
from tests.unit.gate.gate_world import skops_bytes, training

SECRET = b"17.99,10.38,122.8"


def model() -> Any:
    features, labels = training()
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)


def members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(parts: dict[str, bytes], comment: bytes = b"", prefix: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = comment
        for name, data in parts.items():
            info = zipfile.ZipInfo(name, (2001, 7, 23, 4, 5, 6))
            info.comment = comment
            info.extra = b"\xfe\xca" + len(comment).to_bytes(2, "little") + comment if comment else b""
            archive.writestr(info, data)
    return prefix + out.getvalue()


def rewrite(data: bytes) -> bytes:
    return rewrite_skops(data, Effort()).data


def test_the_copy_predicts_the_same():
    features, _ = training()
    original = model()
    copy = skops.io.loads(rewrite(skops_bytes(original)))
    assert np.array_equal(copy.predict_proba(features), original.predict_proba(features))
    assert copy[-1].get_params() == original[-1].get_params()
    assert list(copy.feature_names_in_) == list(original.feature_names_in_)


@pytest.mark.parametrize(
    "other",
    [
        Ridge(alpha=0.3),
        make_pipeline(MinMaxScaler(), PolynomialFeatures(2), Ridge()),
        ColumnTransformer([("scale", StandardScaler(), slice(0, 3)), ("rest", MinMaxScaler(), [3, 4])]),
    ],
    ids=lambda m: type(m).__name__,
)
def test_other_safe_estimators_survive(other):
    values = training()[0].to_numpy()[:, :5]
    fitted = other.fit(values, values[:, 0])
    written = rewrite_skops(skops_bytes(fitted), Effort())
    copy = skops.io.loads(written.data, trusted=sorted(written.types))
    run = "predict" if hasattr(fitted, "predict") else "transform"
    assert np.array_equal(getattr(copy, run)(values), getattr(fitted, run)(values))


def test_sparse_matrices_survive():
    from scipy import sparse

    fitted: Any = Ridge().fit(training()[0].to_numpy(), training()[1])
    fitted.extra_ = sparse.csr_matrix(np.eye(3))
    written = rewrite_skops(skops_bytes(fitted), Effort())
    copy = skops.io.loads(written.data, trusted=sorted(written.types))
    assert copy.extra_.toarray().tolist() == np.eye(3).tolist()


def test_the_same_model_gives_the_same_bytes_and_a_copy_of_a_copy_too():
    first, second = rewrite(skops_bytes(model())), rewrite(skops_bytes(model()))
    assert first == second
    assert rewrite(first) == first


def test_comments_times_order_extra_members_and_gaps_do_not_survive():
    data = skops_bytes(model())
    parts = {**dict(reversed(members(data).items())), "extra.npy": SECRET, "notes/": SECRET}
    packed = zipped(parts, comment=SECRET, prefix=b"") + SECRET
    assert rewrite(packed) == rewrite(data)


def test_unknown_fields_ids_and_names_of_members_do_not_survive():
    data = skops_bytes(model())
    parts = members(data)
    schema = json.loads(parts.pop("schema.json"))
    schema["__id__"] = int.from_bytes(SECRET[:8], "big")
    schema["comment"] = SECRET.decode()
    schema["content"]["more"] = SECRET.decode()
    text = json.dumps(schema, indent=7)
    for name in list(parts):
        parts[f"{SECRET.decode()}-{name}"] = parts.pop(name)
        text = text.replace(name, f"{SECRET.decode()}-{name}")
    parts["schema.json"] = text.encode()
    assert rewrite(zipped(parts)) == rewrite(data)


def test_padding_of_headers_and_bytes_behind_arrays_do_not_survive():
    array = np.arange(5.0)
    out = io.BytesIO()
    np.save(out, array)
    plain = out.getvalue()
    header = b"{'descr': '<f8',  'fortran_order': False,'shape': (5,)}".ljust(600) + b"\n"
    padded = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + array.tobytes() + SECRET
    assert canonical_npy(padded) == canonical_npy(plain) == plain
    fortran = io.BytesIO()
    np.save(fortran, np.asfortranarray(np.ones((2, 3))))
    assert canonical_npy(fortran.getvalue()) == fortran.getvalue()


def changed(**fields) -> bytes:
    parts = members(skops_bytes(model()))
    schema = json.loads(parts["schema.json"])
    schema.update(fields)
    parts["schema.json"] = json.dumps(schema).encode()
    return zipped(parts)


NODE = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": "1"}


def top(loader: str, **fields) -> bytes:
    node = {"__class__": "list", "__module__": "builtins", "__loader__": loader, **fields}
    return zipped({"schema.json": json.dumps({**node, "protocol": 2, "_skops_version": "0.16.0"}).encode()})


@pytest.mark.parametrize(
    "data",
    [
        changed(protocol=1),
        changed(_skops_version="17.99 10.38"),
        changed(__class__="a b"),
        changed(__module__="os;system"),
        changed(content=None, __loader__="DictNode"),
        top("FunctionNode"),
        top("MethodNode"),
        top("ListNode", content=5),
        top("ListNode", content=[5]),
        top("DictNode", content=5, key_types=NODE),
        top("NdArrayNode", type="numpy", file="nowhere.npy"),
        top("NdArrayNode", type="numpy", file="schema.json"),
        top("SliceNode", content={"start": "x", "stop": None, "step": None}),
        top("SliceNode", content=None),
        top("JsonNode", content="{"),
        top("JsonNode", content=5),
        zipped({"a": b"b"}),
        b"no zip",
    ],
)
def test_what_is_not_plainly_skops_is_not_rewritten(data):
    with pytest.raises(NotReadableError):
        rewrite(data)


def test_nodes_of_each_safe_loader_are_rewritten():
    list_of = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode"}
    part = {"start": 0, "stop": 3, "step": None}
    nodes = [
        {"__class__": "slice", "__module__": "builtins", "__loader__": "SliceNode", "content": part},
        {"__class__": "int", "__module__": "builtins", "__loader__": "TypeNode"},
        {**list_of, "__class__": "set", "__loader__": "SetNode", "content": [NODE]},
        {**list_of, "__class__": "tuple", "__loader__": "TupleNode", "content": [NODE]},
        {**list_of, "__class__": "dtype", "__module__": "numpy", "__loader__": "DTypeNode", "content": NODE},
        {**list_of, "__class__": "Ridge", "__module__": "sklearn.linear_model._ridge", "__loader__": "ObjectNode"},
    ]
    assert rewrite_skops(top("ListNode", content=nodes), Effort()).loaders <= SAFE_LOADERS


def test_a_repeated_object_is_written_once():
    shared = {
        "__class__": "list",
        "__module__": "builtins",
        "__loader__": "ListNode",
        "content": [NODE] * 50,
        "__id__": 7,
    }
    data = rewrite(top("ListNode", content=[shared, shared, shared]))
    assert members(data)["schema.json"].count(b"JsonNode") == 50
    one, two, three = skops.io.loads(data)
    assert one is two is three


@pytest.mark.parametrize(
    "array", [np.array([1, "x"], dtype=object), np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")])]
)
def test_arrays_of_objects_and_structures_are_not_rewritten(array):
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    with pytest.raises(NotReadableError):
        canonical_npy(out.getvalue())


def test_a_sparse_matrix_with_other_parts_is_not_rewritten():
    out = io.BytesIO()
    np.savez(out, data=np.ones(3), more=np.ones(3))
    node = {"__class__": "csr_matrix", "__module__": "scipy.sparse._csr", "__loader__": "SparseMatrixNode"}
    schema = {**node, "type": "scipy", "file": "a.npz", "protocol": 2, "_skops_version": "0.16.0"}
    with pytest.raises(NotReadableError, match="other parts"):
        rewrite(zipped({"schema.json": json.dumps(schema).encode(), "a.npz": out.getvalue()}))


def test_the_types_that_loading_would_make_are_listed():
    types, loaders = types_of(skops_bytes(model()), Effort())
    assert "sklearn.linear_model._logistic.LogisticRegression" in types
    assert types <= SAFE_TYPES
    assert loaders <= SAFE_LOADERS


def test_every_type_on_the_safe_list_is_where_the_list_says():
    import importlib

    for name in SAFE_TYPES:
        module, _, attribute = name.rpartition(".")
        if name.startswith("sklearn."):
            assert getattr(importlib.import_module(module), attribute).__name__ == attribute


def test_tables_get_one_spelling():
    assert rewrite_table(b'{ "a" : [1, 2.50,\n null] }') == ("json", b'{"a":[1,2.5,null]}')
    assert rewrite_table(b'\xef\xbb\xbfa,b\r\n"1",2\r\n\r\n') == ("csv", b"a,b\n1,2\n")
    assert rewrite_table(b"loss\n0.5\n0.25\n") == ("csv", b"loss\n0.5\n0.25\n")


def test_a_number_in_a_table_has_one_spelling_and_codes_and_dates_stay():
    spelled = b"a,b,c\n +0.50,1e-1,1.0\n0.5000,.1,+1\n5E-1,0.10,1.\n"
    assert rewrite_table(spelled)[1] == b"a,b,c\n0.5,0.1,1\n0.5,0.1,1\n0.5,0.1,1\n"
    kept = b"code,day,word\n007,2020-01-02,.\n1e999,e5,two  blanks\n"
    assert rewrite_table(kept)[1] == b"code,day,word\n007,2020-01-02,.\n1e999,e5,two blanks\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe",
        b"a\x00b",
        b"{",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"[1e999]",
        b"",
        b"a,b\n1\n",
        b'a,"b\n',
        b"free text",
        b"a\nb\nc\n",
        b"[" * 100_000,
    ],
)
def test_what_is_no_table_is_not_rewritten(data):
    with pytest.raises(NotReadableError):
        rewrite_table(data)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(alphabet='abc "\\é', max_size=5),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(alphabet="abc", max_size=3), inner, max_size=4)
        ),
        max_leaves=10,
    ).filter(lambda value: isinstance(value, list | dict))
)
def test_json_keeps_its_meaning(value):
    form, data = rewrite_table(json.dumps(value, indent=3).encode())
    assert form == "json"
    assert json.loads(data) == value
    assert rewrite_table(data)[1] == data


def test_an_array_that_is_referred_to_twice_is_written_once():
    out = io.BytesIO()
    np.save(out, np.arange(3.0))
    array = {
        "__class__": "ndarray",
        "__module__": "numpy",
        "__loader__": "NdArrayNode",
        "type": "numpy",
        "file": "a.npy",
    }
    node = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": [array, array]}
    schema = json.dumps({**node, "protocol": 2, "_skops_version": "0.16.0"}).encode()
    assert sorted(members(rewrite(zipped({"schema.json": schema, "a.npy": out.getvalue()})))) == [
        "array-1.npy",
        "schema.json",
    ]
