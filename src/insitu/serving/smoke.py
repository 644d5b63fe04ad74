"""`python -m insitu.serving.smoke`: ask two forms of one model the same rows, and count the differences.

Runs in a sandbox at the site, in the job's own environment: `--written` is the
model as the job wrote it, `--copy` is what would leave. Both are loaded as
serving loads them, in one process, so the environment is imported once. The
answer is one line of JSON in `--out`: counts, or a word for why there are none
(the words are the gate's: `insitu.gate.smoke`).

    MLmodel with scikit-learn   as the serving process does it
    *.onnx                      with onnxruntime
    anything else               with the function that the job named: module:function, called as
                                function(folder of the model, file with the rows) → one answer a row

Numbers differ when they are further apart than a hundredth of the predictions'
own spread; everything else when it is not equal.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from insitu.serving.errors import RequestError, StartError
from insitu.serving.mlmodel import ModelDescription, read_mlmodel
from insitu.serving.sklearn_model import LoadedModel, load_model
from insitu.serving.tables import Table, table_by_position, table_from_columns

_CLOSE = 0.01  # of the spread of what is predicted
_LOOK_AT = 20_000  # rows at a file's beginning, from which the asked ones are taken
_MISSING = frozenset({"", "na", "nan", "null", "none", "?"})

Predict = Callable[[Path], Any]


class NotMadeError(Exception):
    """No comparison was made; the message is the word for why."""


@dataclass(frozen=True)
class Rows:
    """Rows of the site's data, and the file that holds just them."""

    file: Path
    columns: dict[str, Any]
    """Name → one array; for a stack of arrays there are none."""
    block: Any
    """All numeric columns as one array, rows first; or the stack."""

    @property
    def count(self) -> int:
        return len(self.block)


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries' warnings are about training
            answer = compare(args.written, args.copy, args.data, args.rows, args.predict, args.trusted_type)
    except NotMadeError as why:
        answer = {"problem": str(why)}
    args.out.write_text(json.dumps(answer))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="insitu.serving.smoke", description="Compare two forms of one model.")
    parser.add_argument("--written", type=Path, required=True, help="folder of the model as the job wrote it")
    parser.add_argument("--copy", type=Path, required=True, help="folder of what would leave")
    parser.add_argument("--data", type=Path, required=True, help="a dataset's folder")
    parser.add_argument("--rows", type=int, required=True, help="how many rows both are asked")
    parser.add_argument("--predict", default="", help="module:function of the job's code")
    parser.add_argument("--trusted-type", action="append", default=[], help="a skops type to load; repeatable")
    parser.add_argument("--out", type=Path, required=True, help="where the answer goes")
    return parser


def compare(
    written: Path, copy: Path, data: Path, rows: int, predict: str, trusted_types: Sequence[str]
) -> dict[str, int | str]:
    """Counts of rows asked and of answers that differ, or the problem with the copy.

    Raises:
        NotMadeError: there is nothing to compare.
    """
    asked = take_rows(data, rows)
    ask = _declared(predict, asked) if predict else _loader(written, asked, trusted_types)
    try:
        before = _answers(ask(written), asked)
    except (NotMadeError, KeyboardInterrupt):
        raise
    except ModuleNotFoundError as error:
        raise NotMadeError("no-runtime") from error
    except BaseException as error:  # a job's own code may raise anything, SystemExit too
        _tell(error)
        raise NotMadeError("written-fails") from error
    try:
        after = _answers(ask(copy), asked)
    except BaseException as error:  # noqa: BLE001 - as above
        _tell(error)
        return {"problem": "copy-fails"}
    return {"rows": asked.count, "differ": differing(before, after)}


def _tell(error: BaseException) -> None:
    """For the steward: the sandbox's standard error stays at the site."""
    sys.stderr.write(f"{type(error).__name__}: {error}\n")


def differing(before: Any, after: Any) -> int:
    """How many rows were answered differently."""
    if before.shape != after.shape:
        return len(before)
    if before.dtype.kind not in "fc" or after.dtype.kind not in "fc":
        unequal = before != after
    else:
        spread = float(np.ptp(before[np.isfinite(before)])) if np.isfinite(before).any() else 0.0
        near = np.isclose(before, after, rtol=0.0, atol=_CLOSE * spread + 1e-12, equal_nan=True)
        unequal = ~near
    return int(np.any(unequal.reshape(len(before), -1), axis=1).sum())


def _answers(answer: Any, asked: Rows) -> Any:
    found = np.asarray(answer)
    if found.ndim == 0 or len(found) != asked.count:
        raise ValueError("not one answer a row")
    return found


# ── Which function predicts ─────────────────────────────────────────────────


def _declared(name: str, asked: Rows) -> Predict:
    module, _, function = name.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        predict: Callable[[str, str], Any] = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        _tell(error)
        raise NotMadeError("no-predict" if error.name == module else "no-runtime") from error
    except BaseException as error:
        _tell(error)
        raise NotMadeError("no-predict") from error
    return lambda folder: predict(str(folder), str(asked.file))


def _loader(written: Path, asked: Rows, trusted_types: Sequence[str]) -> Predict:
    if next(written.glob("*.onnx"), None) is not None:
        return lambda folder: _onnx(next(folder.glob("*.onnx")), asked)
    if (written / "MLmodel").is_file():
        return lambda folder: _sklearn(folder, asked, trusted_types if folder != written else None)
    raise NotMadeError("no-predict")


def _sklearn(folder: Path, asked: Rows, trusted_types: Sequence[str] | None) -> Any:
    try:
        description = read_mlmodel(folder)
        model = load_model(description, _all_types(description) if trusted_types is None else trusted_types)
    except StartError as error:
        if error.code == "environment-differs":
            raise NotMadeError("no-runtime") from error
        raise
    return model.predict(_table(model, asked), model.method)


def _all_types(description: ModelDescription) -> list[str]:
    """What was written may hold any type: this is the sandbox of the job that wrote it."""
    import skops.io  # noqa: PLC0415 - may be missing, which `load_model` tells

    return list(skops.io.get_untrusted_types(file=description.file))


def _table(model: LoadedModel, asked: Rows) -> Table:
    """The rows as the model takes them: by name where it names columns that are there, else numbers by position."""
    signature = model.signature
    if signature.columns and set(signature.names) <= asked.columns.keys():
        try:
            return table_from_columns(asked.columns, signature, arrays=model.takes_arrays)
        except RequestError as error:
            raise ValueError("its columns are of other types") from error
    if not asked.block.size:
        raise NotMadeError("no-rows")
    width = signature.width or asked.block.shape[-1]
    # Which columns a model without names was trained on is not known; any numbers of the site's will do.
    taken = np.take(asked.block.reshape(asked.count, -1), range(width), axis=1, mode="wrap").astype(np.float64)
    if signature.columns:
        named: dict[str, Any] = {name: taken[:, at] for at, name in enumerate(signature.names)}
        return table_from_columns(named, signature, arrays=model.takes_arrays)
    return table_by_position(taken, signature, arrays=model.takes_arrays)


def _onnx(file: Path, asked: Rows) -> Any:
    onnxruntime: Any = importlib.import_module("onnxruntime")  # may be missing, which is told
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (wanted, *others) = session.get_inputs()
    if others or not wanted.type.startswith("tensor(") or not asked.block.size:
        raise NotMadeError("no-rows")
    dtype = {"float": np.float32, "double": np.float64, "int64": np.int64, "int32": np.int32, "uint8": np.uint8}[
        wanted.type[7:-1]
    ]
    shape = [size if isinstance(size, int) and size > 0 else -1 for size in wanted.shape]
    width = int(np.prod([size for size in shape[1:] if size > 0])) if len(shape) > 1 else 1
    flat = asked.block.reshape(asked.count, -1)
    taken = np.take(flat, range(width if width > 1 else flat.shape[1]), axis=1, mode="wrap").astype(dtype)
    return session.run(None, {wanted.name: taken.reshape(asked.count, *shape[1:])})[0]


# ── Rows of the site's data ─────────────────────────────────────────────────


def take_rows(data: Path, count: int) -> Rows:
    """Evenly spaced rows from the beginning of a dataset's first file.

    Raises:
        NotMadeError: it is no table and no stack of arrays.
    """
    files = sorted(path for path in ([data] if data.is_file() else data.rglob("*")) if path.is_file())
    for file in files:
        with file.open("rb") as stream:
            magic = stream.read(6)
        if magic == b"\x93NUMPY":
            return _from_npy(file, count)
        if file.suffix.lower() in (".csv", ".tsv", ".txt"):
            return _from_csv(file, count)
    raise NotMadeError("no-rows")


def _spaced(length: int, count: int) -> Any:
    return np.unique(np.linspace(0, length - 1, min(length, count)).astype(int))


def _scratch(name: str) -> Path:
    return Path(tempfile.mkdtemp(prefix="smoke-")) / name


def _from_npy(file: Path, count: int) -> Rows:
    stack = np.load(file, mmap_mode="r", allow_pickle=False)
    if not len(stack):
        raise NotMadeError("no-rows")
    taken = np.array(stack[_spaced(len(stack), count)])
    kept = _scratch("rows.npy")
    np.save(kept, taken)
    if taken.dtype.names:
        columns = {name: taken[name] for name in taken.dtype.names}
        return Rows(kept, columns, np.stack([column.astype(np.float64) for column in columns.values()], axis=1))
    return Rows(kept, {}, taken)


def _from_csv(file: Path, count: int) -> Rows:
    with file.open(newline="", encoding="utf-8") as stream:
        lines = csv.reader(stream)
        header = [name.strip() for name in next(lines, [])]
        read = [row for row, _ in zip(lines, range(_LOOK_AT), strict=False) if len(row) == len(header)]
    if not read or not header:
        raise NotMadeError("no-rows")
    taken = [read[at] for at in _spaced(len(read), count)]
    kept = _scratch("rows.csv")
    with kept.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *taken])
    columns = {name: _cells([row[at] for row in taken]) for at, name in enumerate(header)}
    numeric = [column for column in columns.values() if column.dtype.kind == "f"]
    block = np.stack(numeric, axis=1) if numeric else np.empty((len(taken), 0))
    return Rows(kept, columns, np.nan_to_num(block))


def _cells(texts: list[str]) -> Any:
    try:
        return np.array(["nan" if text.strip().lower() in _MISSING else text for text in texts], dtype=np.float64)
    except ValueError:
        return np.array(texts, dtype=object)


if __name__ == "__main__":
    sys.exit(main())
