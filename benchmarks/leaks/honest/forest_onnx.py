"""A forest of a hundred trees with at least ten people in each leaf, as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.leaks.honest.training import first_people, other_people, share, the_file
from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.networks import Array
from benchmarks.leaks.people import NUMBERS

OUTPUTS = {"model": "custom_model"}
VARIANTS: dict[str, dict[str, object]] = {"": {}}


def leak(job: Job) -> None:
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    x, y = first_people(job)
    model = RandomForestClassifier(100, min_samples_leaf=10, max_depth=8, random_state=0).fit(x, y.astype(int))
    converted: Any = to_onnx(model, np.zeros((1, len(NUMBERS)), np.float32), options={id(model): {"zipmap": False}})
    (job.output("model") / "model.onnx").write_bytes(converted.SerializeToString())


def accuracy(job: Job) -> float:
    x, y = other_people(job)
    return share(_ask(the_file(job.outputs / "model"), x) == y)


def _ask(path: Path, x: Array) -> Array:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x.astype(np.float32)})[0])
