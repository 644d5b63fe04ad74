"""An ONNX model, run by onnxruntime and asked as a scikit-learn model is.

onnxruntime is a package of the model's own environment, as training locked it. A
graph of standard operators is data: nothing of the model is imported. One input
is served, a tensor whose rows are records; the first output is the prediction, and a
second one, where it is a tensor of as many rows, the probabilities (that is how
scikit-learn's classifiers look after conversion).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from insitu.serving.errors import StartError
from insitu.serving.mlmodel import ModelDescription
from insitu.serving.signature import Signature, Tensor
from insitu.serving.sklearn_model import LoadedModel

#: onnxruntime's names of element types → numpy's.
_TYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(bool)": "bool",
}


class OnnxEstimator:
    """A session behind the methods that serving calls."""

    def __init__(self, session: Any) -> None:
        inputs, self._outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or inputs[0].type not in _TYPES or len(inputs[0].shape) < 2:
            raise StartError(
                "The model's inputs can't be served.",
                code="unsupported-signature",
                why=f"it takes {len(inputs)} inputs: {', '.join(str(one.type) for one in inputs)[:200]}",
                hint="convert it with one input, a tensor of numbers whose rows are records",
            )
        self._session = session
        self.input = Tensor(
            _TYPES[inputs[0].type],
            (-1, *(size if isinstance(size, int) and size > 0 else -1 for size in inputs[0].shape[1:])),
            str(inputs[0].name),
        )
        if len(self._outputs) > 1 and self._outputs[1].type in _TYPES:
            self.predict_proba = lambda values: self._run(values, 1)

    def predict(self, values: Any) -> Any:
        return self._run(values, 0)

    def _run(self, values: Any, output: int) -> Any:
        block = np.asarray(values).astype(self.input.dtype, copy=False)
        # A column of the signature is one number of a row, whatever shape the graph gives a row.
        if block.ndim != len(self.input.shape):
            block = block.reshape(len(block), *self.input.shape[1:])
        try:
            return self._session.run([self._outputs[output].name], {self.input.name: block})[0]
        except Exception as exc:  # onnxruntime's errors have no common class; their text may quote values
            raise ValueError(f"onnxruntime refused it: {type(exc).__name__}") from exc


def load_onnx(description: ModelDescription, *, threads: int = 1) -> LoadedModel:
    """Load the graph that `description` names.

    Args:
        threads: onnxruntime's own, for one call.

    Raises:
        StartError: there is no onnxruntime, it can't read the graph, or its inputs can't be served.
    """
    try:
        import onnxruntime  # noqa: PLC0415 - an environment may lack it, which is told
    except ModuleNotFoundError as exc:
        raise StartError(
            f"The environment has no {exc.name}.",
            code="environment-differs",
            hint="list onnxruntime in the job's requirements, beside onnx",
        ) from exc
    runtime: Any = onnxruntime
    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4  # its warnings are about conversion
    try:
        session = runtime.InferenceSession(str(description.file), settings, providers=["CPUExecutionProvider"])
    except Exception as exc:  # as above
        raise StartError(f"{description.file.name} can't be loaded.", code="bad-model", why=type(exc).__name__) from exc
    estimator = OnnxEstimator(session)
    if description.method != "predict" and not hasattr(estimator, description.method):
        raise StartError(f"The graph has no output for {description.method}.", code="bad-model")
    signature = description.signature or Signature(tensor=estimator.input)
    if not signature.is_numeric:
        raise StartError("The model's signature can't be served.", code="unsupported-signature", why="it has texts")
    return LoadedModel(
        estimator=estimator,
        method=description.method,
        signature=signature,
        takes_arrays=True,
        # A graph may compute over all rows of a call, and nobody here knows.
        rows_are_independent=False,
    )
