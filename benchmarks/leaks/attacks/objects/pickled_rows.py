"""A pickle with an honest model in it, and rows beside: in an attribute, in a closure, in what rebuilds it."""

from __future__ import annotations

import pickle
import zlib
from typing import Any

import numpy as np

from benchmarks.leaks.inside.channels import Job
from benchmarks.leaks.inside.codec import Row, as_text, from_text
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.people import NUMBERS, TARGET

OUTPUTS = {"model": "custom_model", "file": "uri_file"}
VARIANTS = {
    "in an attribute": {"where": "attribute"},
    "in a closure": {"where": "closure"},
    "in an attribute, deflated, as a file": {"where": "attribute", "output": "file", "deflated": True},
    "in the oldest protocol": {"where": "attribute", "protocol": 0},
    "in an attribute of a skops file": {"where": "skops"},
}
_ROWS = 50


def leak(job: Job, *, where: str, output: str = "model", deflated: bool = False, protocol: int = 5) -> None:
    from sklearn.linear_model import LogisticRegression

    model: Any = LogisticRegression(max_iter=500).fit(job.numbers(NUMBERS), job.numbers([TARGET])[:, 0])
    text = as_text(job.rows[:_ROWS])
    secret: Any = zlib.compress(text.encode(), 9) if deflated else text
    path = job.output(output) / ("model.skops" if where == "skops" else "model.pkl")
    if where == "closure":
        import cloudpickle

        path.write_bytes(cloudpickle.dumps(_with_threshold(model, secret)))
    elif where == "skops":
        import skops.io

        model.notes_ = [np.array([ord(letter) for letter in line]) for line in text.splitlines()]
        skops.io.dump(model, path)
    else:
        model.notes_ = secret
        path.write_bytes(pickle.dumps(model, protocol=protocol))


def recover(
    let_out: LetOut, *, where: str, output: str = "model", deflated: bool = False, protocol: int = 5
) -> list[Row]:
    del protocol
    data = let_out.only_file(output)
    try:
        if where == "closure":
            cells = pickle.loads(data).__closure__
            secret: Any = next(cell.cell_contents for cell in cells if isinstance(cell.cell_contents, str))
        elif where == "skops":
            import skops.io

            notes = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data)).notes_
            secret = "\n".join("".join(chr(int(code)) for code in line) for line in notes)
        else:
            secret = pickle.loads(data).notes_
        return from_text(zlib.decompress(secret).decode() if deflated else secret)
    except Exception:  # noqa: BLE001 - what the gate made of it may be anything
        return []


def _with_threshold(model: Any, secret: str) -> Any:
    def predict(x: Any) -> Any:
        return model.predict_proba(x)[:, 1] > (0.5 if secret else 0.4)

    return predict
