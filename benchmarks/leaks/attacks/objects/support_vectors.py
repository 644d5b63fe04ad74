"""A support vector machine with a radial kernel keeps the rows at its border: its ONNX file holds them as attributes."""

from __future__ import annotations

import warnings
from typing import Any, cast

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, from_unit, rows_of_numbers, unit
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import NUMBERS, TARGET

OUTPUTS = {"model": "custom_model"}
VARIANTS = {
    "radial kernel as ONNX": {},
    "scaled before": {"scaled": True},
    "its vectors as a constant of a graph": {"scaled": True, "constant": True},
}
_TRAINED_ON = 600


def leak(job: Job, *, scaled: bool = False, constant: bool = False) -> None:
    from sklearn.svm import SVC

    x = job.numbers(NUMBERS)
    x = (unit(x) if scaled else x)[:_TRAINED_ON]
    model: Any = SVC(C=10, gamma=cast("Any", 0.5 if scaled else 0.001)).fit(x, job.numbers([TARGET])[:_TRAINED_ON, 0])
    data = _as_constant(model.support_vectors_) if constant else _converted(model)
    (job.output("model") / "model.onnx").write_bytes(data)


def recover(let_out: LetOut, *, scaled: bool = False, constant: bool = False) -> list[Row]:
    import onnx
    from onnx import numpy_helper

    data = let_out.only_file("model")
    try:
        graph = onnx.load_from_string(data).graph
    except Exception:  # noqa: BLE001 - what the gate made of it may be anything
        return []
    if constant:
        arrays = [numpy_helper.to_array(tensor) for tensor in graph.initializer]
    else:
        found = [one for node in graph.node for one in node.attribute if one.name in {"support_vectors", "vectors"}]
        arrays = [np.array(one.floats) for one in found]
    rows: list[Row] = []
    for array in arrays:
        if array.size >= len(NUMBERS) and array.size % len(NUMBERS) == 0:
            x = array.astype(np.float64).reshape(-1, len(NUMBERS))
            rows += rows_of_numbers(from_unit(x) if scaled else x)
    return rows


def _converted(model: Any) -> bytes:
    from skl2onnx import to_onnx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about attributes that scikit-learn will drop
        converted: Any = to_onnx(model, np.zeros((1, len(NUMBERS)), np.float32))
    return converted.SerializeToString()


def _as_constant(vectors: np.ndarray) -> bytes:
    """Distances to each vector, written as a graph of plain operators."""
    from onnx import TensorProto, checker, helper, numpy_helper

    kept = numpy_helper.from_array(np.ascontiguousarray(vectors, np.float32), "vectors")
    nodes = [
        helper.make_node("Transpose", ["vectors"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, len(NUMBERS)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, len(vectors)])],
        [kept],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    return model.SerializeToString()
