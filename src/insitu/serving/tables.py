"""Rows that a caller sent, checked against the signature and brought into its order.

MLflow's rules (`mlflow.models.utils._enforce_schema`): columns are found by name and
put in the signature's order, a missing one is an error, extra ones are ignored, values
are cast to the column's type. Stricter in one point: a number with a fraction in a
column of integers is an error here, where MLflow cuts it off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from insitu.serving.errors import RequestError
from insitu.serving.signature import Column, Signature


@dataclass(frozen=True)
class Table:
    values: Any
    """A numpy array (rows first) or a pandas frame."""
    rows: int
    mergeable: str
    """Tables with one non-empty key can be stacked into one call; empty: this one can't."""


def table_from_rows(names: Sequence[str], rows: Sequence[Sequence[Any]], sig: Signature, *, arrays: bool) -> Table:
    """A table from rows of values under `names`.

    Raises:
        RequestError: a column is missing, or a value isn't of its column's type.
    """
    order = _order(names, sig)
    if arrays and len(order) == len(sig.columns):
        if order != list(range(len(names))):
            rows = _picked(rows, order, len(names))
        return _number_table(rows, sig)
    by_name = {names[at]: [_cell(row, at, len(names)) for row in rows] for at in order}
    return _frame_table(by_name, sig)


def table_from_columns(columns: Mapping[str, Sequence[Any]], sig: Signature, *, arrays: bool) -> Table:
    """A table from lists of values by column name.

    Raises:
        RequestError: as `table_from_rows`, or the columns differ in length.
    """
    _order(list(columns), sig)
    wanted = {name: columns[name] for name in sig.names if name in columns}
    if len({len(values) for values in wanted.values()}) > 1:
        raise RequestError("The length of values for each input/column name are not the same")
    if arrays and len(wanted) == len(sig.columns):
        count = len(next(iter(wanted.values())))
        dtype = _common_dtype(sig)
        block = np.empty((count, len(sig.columns)), dtype=dtype)
        for at, column in enumerate(sig.columns):
            values = _typed(wanted[column.name], column)
            if values.dtype.kind == "O":
                raise _not_of_type(column)
            block[:, at] = values
        return _array_table(block)
    return _frame_table(wanted, sig)


def table_from_array(data: Any, sig: Signature) -> Table:
    """A table from nested lists or an array, for a signature without column names.

    Raises:
        RequestError: wrong dtype or shape.
    """
    assert sig.tensor is not None
    try:
        block = np.asarray(data, dtype=sig.tensor.dtype)
        if block.dtype.kind in "iu" and not np.array_equal(block, np.asarray(data, dtype=np.float64)):
            raise ValueError
    except (ValueError, TypeError, OverflowError) as exc:
        raise RequestError(f"Failed to convert data to type {sig.tensor.dtype!r} defined in the signature") from exc
    expected = sig.tensor.shape
    if len(expected) != block.ndim or any(e not in (-1, a) for e, a in zip(expected, block.shape, strict=True)):
        raise RequestError(f"Shape of input {block.shape} does not match expected shape {expected}.")
    return _array_table(block)


def table_by_position(block: Any, sig: Signature, *, arrays: bool) -> Table:
    """A table from a 2-D array whose columns stand in the signature's order.

    Raises:
        RequestError: another number of columns, or values that aren't of their column's type.
    """
    if not sig.columns:
        return table_from_array(block, sig)
    if block.ndim != 2 or block.shape[1] != len(sig.columns):
        raise RequestError(f"Shape of input {block.shape} does not match expected shape {(-1, len(sig.columns))}.")
    if arrays and block.dtype.kind in "iuf" and all(column.dtype == "float64" for column in sig.columns):
        return _array_table(block.astype("float64", copy=False))
    return table_from_columns({name: block[:, at] for at, name in enumerate(sig.names)}, sig, arrays=arrays)


def _order(names: Sequence[str], sig: Signature) -> list[int]:
    """Where the signature's columns stand among `names`; optional ones that are absent are left out."""
    if tuple(names) == sig.names:
        return list(range(len(names)))
    at = {name: index for index, name in enumerate(names)}
    if len(at) != len(names):
        raise RequestError("The input names a column twice.")
    missing = [column.name for column in sig.columns if column.required and column.name not in at]
    if missing:
        extra = [name for name in names if name not in set(sig.names)]
        note = f" Note that there were extra inputs: {extra[:20]}." if extra else ""
        raise RequestError(f"Model is missing inputs {missing}.{note}")
    return [at[name] for name in sig.names if name in at]


def _picked(rows: Sequence[Sequence[Any]], order: Sequence[int], width: int) -> list[list[Any]]:
    return [[_cell(row, at, width) for at in order] for row in rows]


def _cell(row: object, at: int, width: int) -> Any:
    if not isinstance(row, list) or len(row) != width:
        raise RequestError(f"Each row must be a list of {width} values, as there are columns.")
    return row[at]


def _common_dtype(sig: Signature) -> str:
    kinds = {column.dtype for column in sig.columns}
    return kinds.pop() if len(kinds) == 1 else "float64"


def _number_table(rows: Sequence[Sequence[Any]], sig: Signature) -> Table:
    """The hot path: every column is a double, and the rows become an array in one call."""
    if all(column.dtype == "float64" for column in sig.columns):
        try:
            block = np.array(rows, dtype=np.float64)
        except (ValueError, TypeError, OverflowError):
            pass  # a null, a text or a ragged row: the slow path below says which
        else:
            if block.ndim == 2 and block.shape[1] == len(sig.columns):
                return _array_table(block)
    width = len(sig.columns)
    by_name = {column.name: [_cell(row, at, width) for row in rows] for at, column in enumerate(sig.columns)}
    return table_from_columns(by_name, sig, arrays=True)


def _array_table(block: Any) -> Table:
    # A text's dtype carries a length; stacking such blocks would still be right, but nothing is gained.
    key = f"{block.dtype.str}{block.shape[1:]}" if block.dtype.kind in "biuf" else ""
    return Table(block, len(block), key)


def _frame_table(columns: Mapping[str, Sequence[Any]], sig: Signature) -> Table:
    import pandas as pd  # noqa: PLC0415 - an environment without it serves models of plain numbers

    series = {column.name: _typed(columns[column.name], column) for column in sig.columns if column.name in columns}
    frame = pd.DataFrame(series, copy=False)
    return Table(frame, len(frame), "")


def _typed(values: Sequence[Any], column: Column) -> Any:
    """The values of one column as an array of its type.

    Raises:
        RequestError: one isn't of it.
    """
    try:
        block = _CASTS.get(column.type, _cast)(values, column.dtype)
    except (ValueError, TypeError, OverflowError) as exc:
        raise _not_of_type(column) from exc
    if block.ndim != 1:  # lists in the place of values
        raise _not_of_type(column)
    return block


def _not_of_type(column: Column) -> RequestError:
    return RequestError(
        f"Data is not compatible with model signature. Failed to convert column {column.name} to type '{column.dtype}'."
    )


def _cast(values: Sequence[Any], dtype: str) -> Any:
    return np.array(values, dtype=dtype)


def _floats(values: Sequence[Any], dtype: str) -> Any:
    return np.array([float("nan") if value is None else value for value in values], dtype=dtype)


def _guessed(values: Sequence[Any], dtype: str) -> Any:
    if any(isinstance(value, str) for value in values):
        return np.array(values, dtype=object)
    return _floats(values, dtype)


def _texts(values: Sequence[Any], _: str) -> Any:
    if not all(value is None or isinstance(value, str) for value in values):
        raise TypeError
    block = np.empty(len(values), dtype=object)
    block[:] = values
    return block


def _integers(values: Sequence[Any], dtype: str) -> Any:
    exact = [int(value) for value in values]
    # int("7") and int(True) are what a cast gives too; a fraction must not vanish in silence.
    pairs = zip(exact, values, strict=True)
    if any(isinstance(value, (float, np.floating)) and whole != value for whole, value in pairs):
        raise ValueError
    return np.array(exact, dtype=dtype)


def _booleans(values: Sequence[Any], _: str) -> Any:
    if not all(value is True or value is False or value in (0, 1) for value in values):
        raise ValueError
    return np.array([bool(value) for value in values], dtype=np.bool_)


_CASTS: Mapping[str, Callable[[Sequence[Any], str], Any]] = {
    "any": _guessed,
    "string": _texts,
    "integer": _integers,
    "long": _integers,
    "boolean": _booleans,
    "float": _floats,
    "double": _floats,
}
