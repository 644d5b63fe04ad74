"""ONNX rewritten: runs the same in onnxruntime, and has no room beside the graph."""

import warnings
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from insitu.gate.canonical.form import ObjectionError
from insitu.gate.canonical.onnx import rewrite_onnx
from insitu.gate.canonical.precision import SMALL, Rounding
from insitu.gate.contents import NotReadableError
from insitu.gate.effort import Effort
from insitu.gate.onnx.operators import ATTRIBUTES, ML

SECRET = "17.99,10.38,122.8"
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(600, 8)).astype(np.float32)
LABELS = (ROWS[:, 0] + ROWS[:, 1] * ROWS[:, 2] > 0).astype(int)


def rewrite(data: bytes, precision=None):
    return rewrite_onnx(data, Rounding(precision), Effort())


def converted(model: Any) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = model.fit(ROWS, LABELS)
        options = {"zipmap": False} if hasattr(fitted, "predict_proba") else None
        written: Any = to_onnx(fitted, ROWS[:1], options=options)
        return written.SerializeToString()


def run(data: bytes, rows=ROWS) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(data)
    return [np.asarray(each) for each in session.run(None, {session.get_inputs()[0].name: rows})]


def graph(nodes, constants, *, opsets=(("", 21),), inputs=("x",), outputs=("y",), **fields) -> onnx.ModelProto:
    def info(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None])

    made = helper.make_graph(
        nodes,
        "notes: " + SECRET,
        [info(name) for name in inputs],
        [info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid(*one) for one in opsets], ir_version=10)
    for name, value in fields.items():
        setattr(model, name, value)
    return model


def network(**changes) -> onnx.ModelProto:
    constants = {
        "fc1.w": RNG.normal(size=(16, 8)).astype(np.float32),
        "fc1.b": RNG.normal(size=16).astype(np.float32),
        "fc2.w": RNG.normal(size=(1, 16)).astype(np.float32),
        **changes,
    }
    nodes = [
        helper.make_node("Gemm", ["x", "fc1.w", "fc1.b"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Gemm", ["a", "fc2.w"], ["y"], transB=1),
    ]
    return graph(nodes, constants)


MODELS = [
    make_pipeline(StandardScaler(), LogisticRegression()),
    make_pipeline(StandardScaler(), PCA(3), LogisticRegression()),
    make_pipeline(StandardScaler(), MLPClassifier((16,), max_iter=20, random_state=0)),
    RandomForestClassifier(20, min_samples_leaf=10, random_state=0),
    GradientBoostingRegressor(n_estimators=20, random_state=0),
    LinearRegression(),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m[-1] if hasattr(m, "steps") else m).__name__)
def test_converted_models_predict_the_same_and_nearly_the_same_when_rounded(model):
    data = converted(model)
    exact, rounded = rewrite(data), rewrite(data, "bfloat16")
    onnx.checker.check_model(onnx.load_model_from_string(rounded.data))
    for before, after in zip(run(data), run(exact.data), strict=True):
        assert np.allclose(before, after, atol=1e-6)
    before, after = run(data)[0], run(rounded.data)[0]
    if before.dtype.kind == "i":
        assert (before != after).mean() <= 0.01
    else:
        assert np.abs(before - after).mean() < 0.02 * before.std()
    assert rewrite(rounded.data, "bfloat16").data == rounded.data
    assert rounded.carries_bits <= 8 * len(rounded.data)


def test_everything_that_is_said_to_people_alone_does_not_survive():
    plain = network()
    noisy = onnx.ModelProto()
    noisy.CopyFrom(plain)
    noisy.producer_name = noisy.producer_version = noisy.domain = noisy.doc_string = SECRET
    noisy.model_version = 1799
    noisy.metadata_props.add(key="row", value=SECRET)
    noisy.graph.doc_string = SECRET
    noisy.graph.metadata_props.add(key="row", value=SECRET)
    noisy.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [17, 99]))
    for node in noisy.graph.node:
        node.name = node.doc_string = SECRET
        for attribute in node.attribute:
            attribute.doc_string = SECRET
    for tensor in noisy.graph.initializer:
        tensor.doc_string = SECRET
    noisy.graph.initializer.append(numpy_helper.from_array(RNG.normal(size=99), "unused"))
    noisy.graph.node.append(helper.make_node("Relu", ["x"], ["nobody asks"]))
    written = rewrite(noisy.SerializeToString())
    assert written.data == rewrite(plain.SerializeToString()).data
    assert SECRET.encode() not in written.data
    assert written.dropped == ("unused parts of the graph",)


def test_names_and_order_of_what_lies_inside_do_not_survive():
    plain = network()
    other = onnx.ModelProto()
    other.CopyFrom(plain)
    names = {"h": SECRET, "a": "b", "fc1.w": "z", "fc1.b": "y1", "fc2.w": "x1"}
    for node in other.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for tensor in other.graph.initializer:
        tensor.name = names[tensor.name]
    nodes, tensors = list(other.graph.node), list(other.graph.initializer)
    del other.graph.node[:], other.graph.initializer[:]
    other.graph.node.extend(reversed(nodes))
    other.graph.initializer.extend(reversed(tensors))
    assert rewrite(other.SerializeToString()).data == rewrite(plain.SerializeToString()).data


def test_a_name_of_an_input_stays_if_it_is_ordinary():
    node = helper.make_node("Relu", ["Ada Lovelace 1815"], ["probabilities"])
    odd = graph([node], {}, inputs=("Ada Lovelace 1815",), outputs=("probabilities",))
    copy = onnx.load_model_from_string(rewrite(odd.SerializeToString()).data)
    assert (copy.graph.input[0].name, copy.graph.output[0].name) == ("input_1", "probabilities")


def test_bytes_in_low_halves_of_weights_do_not_survive_in_any_field():
    weights = RNG.normal(size=(16, 8)).astype(np.float32)
    plain = (weights.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    marked = (plain.view(np.uint32) | RNG.integers(0, 2**15, (16, 8)).astype(np.uint32)).view(np.float32)
    model = network(**{"fc1.w": marked})
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    tensor = typed.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.float_data.extend(marked.ravel().tolist())
    clean = network(**{"fc1.w": plain, "fc1.b": array_of(model, 1), "fc2.w": array_of(model, 2)})
    assert coarse(typed.SerializeToString()) == coarse(model.SerializeToString()) == coarse(clean.SerializeToString())


def coarse(data: bytes) -> bytes:
    """Rounded, with nothing left for small arrays to be finer with."""
    rounding = Rounding("bfloat16")
    while rounding.fine_left:
        rounding.small(np.zeros(SMALL))
    return rewrite_onnx(data, rounding, Effort()).data


def array_of(model, at):
    return numpy_helper.to_array(model.graph.initializer[at])


def test_neurons_that_nothing_listens_to_are_cleared():
    model = network()
    first, second = array_of(model, 0).copy(), array_of(model, 2).copy()
    second[0, :4] = 0
    written = rewrite(network(**{"fc1.w": first, "fc2.w": second}).SerializeToString())
    copy = onnx.load_model_from_string(written.data)
    assert not array_of(copy, 0)[:4].any()
    assert array_of(copy, 0)[4:].all()
    assert "dead neurons" in written.dropped


@pytest.mark.parametrize("between", ["Relu", "Tanh", "Sigmoid"])
def test_what_a_neuron_always_says_is_added_to_the_next_bias(between):
    first = RNG.normal(size=(16, 8)).astype(np.float32)
    bias = RNG.normal(size=16).astype(np.float32)
    first[:6], bias[:6] = 0, [-1e4, 3, 0, 0.5, -0.5, 1]
    constants = {
        "w1": first,
        "b1": bias,
        "w2": RNG.normal(size=(2, 16)).astype(np.float32),
        "b2": RNG.normal(size=2).astype(np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], transB=1),
        helper.make_node(between, ["h"], ["a"]),
        helper.make_node("Gemm", ["a", "w2", "b2"], ["y"], transB=1),
    ]
    data = graph(nodes, constants).SerializeToString()
    written = rewrite(data)
    copy = onnx.load_model_from_string(written.data)
    assert not array_of(copy, 2)[:, :6].any()
    assert not array_of(copy, 1)[:6].any()
    assert array_of(copy, 2)[:, 6:].all()
    assert np.allclose(run(data)[0], run(written.data)[0], atol=1e-4)
    assert rewrite(written.data).data == written.data


def test_equal_neurons_are_one_and_the_network_says_the_same():
    model = network()
    first, bias = array_of(model, 0).copy(), array_of(model, 1).copy()
    first[1:4], bias[1:4] = first[0], bias[0]
    data = network(**{"fc1.w": first, "fc1.b": bias}).SerializeToString()
    written = rewrite(data)
    copy = onnx.load_model_from_string(written.data)
    assert not array_of(copy, 0)[1:4].any()
    assert not array_of(copy, 2)[0, 1:4].any()
    assert np.allclose(run(data)[0], run(written.data)[0], atol=1e-4)


def test_a_neuron_that_something_else_listens_to_is_not_cleared():
    model = network()
    second = array_of(model, 2).copy()
    second[0, :4] = 0
    model = network(**{"fc2.w": second})
    model.graph.node.append(helper.make_node("ReduceSum", ["a"], ["all"]))
    model.graph.node.append(helper.make_node("Add", ["y", "all"], ["z"]))
    model.graph.output[0].name = "z"
    copy = onnx.load_model_from_string(rewrite(model.SerializeToString()).data)
    assert array_of(copy, 0)[:4].all()


@pytest.mark.parametrize(
    ("model", "rule"), [(SVC(), "stored-rows"), (KNeighborsClassifier(), "")], ids=["support vectors", "neighbours"]
)
def test_models_that_keep_their_rows_are_not_rewritten(model, rule):
    with pytest.raises(NotReadableError) as caught:
        rewrite(converted(model))
    assert getattr(caught.value, "rule", "") == rule


def test_operators_that_are_not_on_the_list_are_named_if_they_have_a_plain_name():
    nodes = [helper.make_node("TfIdfVectorizer", ["x"], ["y"])]
    with pytest.raises(ObjectionError, match="TfIdfVectorizer") as caught:
        rewrite(graph(nodes, {}).SerializeToString())
    assert caught.value.rule == "types"
    nodes = [helper.make_node("Relu", ["x"], ["y"], domain="com.example." + SECRET)]
    with pytest.raises(ObjectionError, match="another domain") as caught:
        rewrite(graph(nodes, {}).SerializeToString())
    assert SECRET not in str(caught.value)


def external() -> bytes:
    model = network()
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return model.SerializeToString()


def with_branch() -> bytes:
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["i"])], "g", [], [])
    return graph([helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)], {}).SerializeToString()


def with_function() -> bytes:
    model = network()
    model.functions.append(helper.make_function("d", "F", ["x"], ["y"], [], []))
    return model.SerializeToString()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        network().SerializeToString()[:-40],
        external(),
        with_branch(),
        with_function(),
        graph([helper.make_node("Relu", ["nowhere"], ["y"])], {}).SerializeToString(),
        graph([helper.make_node("Relu", ["y"], ["y"])], {}).SerializeToString(),
        graph([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"])], {}).SerializeToString(),
        graph([helper.make_node("Relu", ["x"], ["y"])], {}, opsets=(("ai.onnx.ml", 3),)).SerializeToString(),
    ],
    ids=["empty", "cut off", "external", "branch", "function", "from nowhere", "circle", "twice", "no version"],
)
def test_what_a_copy_can_not_have_is_not_rewritten(data):
    with pytest.raises(NotReadableError):
        rewrite(data)


def test_the_list_of_operators_has_onnxs_own_names_and_attributes():
    known = {
        (f"{each.domain}:{each.name}" if each.domain else each.name): set()
        for each in onnx.defs.get_all_schemas_with_history()
    }
    for each in onnx.defs.get_all_schemas_with_history():
        known[f"{each.domain}:{each.name}" if each.domain else each.name] |= set(each.attributes)
    for operator, attributes in ATTRIBUTES.items():
        assert attributes <= known[operator], operator
    graphs = {"If", "Loop", "Scan", "SequenceMap", f"{ML}:TfIdfVectorizer", f"{ML}:DictVectorizer"}
    assert not graphs & set(ATTRIBUTES)
