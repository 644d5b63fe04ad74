"""Reads `.npy` bytes without numpy's own loader.

The format is NEP 1: magic, version, the length of a header, the header (a
Python literal), the data. numpy's loader would unpickle object arrays when
asked to; this one can't be asked.
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from insitu.gate.contents import Data, NotReadableError, Numbers, Place

MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000
_USUAL_HEADER = re.compile(
    r"(..)?\{'descr': '[<>|=]?\w{1,8}', 'fortran_order': \w+, 'shape': \([0-9, ]*\), \}[ \n]*", re.DOTALL
)
_SIMPLE = re.compile(r"[<>|=]?[fiubcSUMmV][0-9]{0,5}(\[[A-Za-z]{1,2}\])?")


@dataclass(frozen=True)
class NpyHeader:
    dtype: np.dtype[Any] | None  # None: Python objects, which are a pickle
    shape: tuple[int, ...]
    fortran_order: bool
    data_at: int


def parse_npy_header(data: Data) -> NpyHeader:
    """The header of `.npy` bytes.

    Raises:
        NotReadableError: it is not one that numpy would write.
    """
    if bytes(data[:6]) != MAGIC or len(data) < 12 or data[6] not in (1, 2, 3):
        raise NotReadableError("not an npy file")
    width = 2 if data[6] == 1 else 4
    length = int.from_bytes(data[8 : 8 + width], "little")
    end = 8 + width + length
    if length > _MAX_HEADER or end > len(data):
        raise NotReadableError("npy header too long")
    try:
        fields = ast.literal_eval(str(data[8 + width : end], "latin-1").strip())
        descr, shape, fortran = fields["descr"], fields["shape"], fields["fortran_order"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError) as error:
        raise NotReadableError("npy header is not understood") from error
    if set(fields) != {"descr", "shape", "fortran_order"} or not isinstance(fortran, bool):
        raise NotReadableError("npy header has other fields")
    return NpyHeader(parse_dtype(descr), _shape(shape), fortran, end)


def parse_dtype(descr: Any) -> np.dtype[Any] | None:
    """A dtype of numbers, text or named fields of these; None for Python objects."""
    if isinstance(descr, str):
        if descr in ("|O", "O", "O8", "|O8"):
            return None
        if not _SIMPLE.fullmatch(descr):
            raise NotReadableError("npy dtype is not a plain one")
        try:
            return np.dtype(descr)
        except TypeError as error:
            raise NotReadableError("npy dtype is not a plain one") from error
    if not isinstance(descr, list):
        raise NotReadableError("npy dtype is not understood")
    fields: list[Any] = []
    for number, item in enumerate(cast("list[Any]", descr)):
        if not isinstance(item, tuple) or not 2 <= len(cast("tuple[Any, ...]", item)) <= 3:
            raise NotReadableError("npy dtype is not understood")
        parts = cast("tuple[Any, ...]", item)
        inner = parse_dtype(parts[1])
        if inner is None:
            return None
        fields.append((f"f{number}", inner, *([_shape(parts[2])] if len(parts) == 3 else [])))
    return np.dtype(fields)


def array_of(data: bytes | memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], *, fortran_order: bool) -> Numbers:
    """`data` as an array that shares its memory.

    Raises:
        NotReadableError: there are too few bytes for the shape.
    """
    count = math.prod(shape)
    if dtype.itemsize == 0 or count * dtype.itemsize > len(data):
        raise NotReadableError("fewer bytes than the shape needs")
    flat = np.frombuffer(data, dtype=dtype, count=count)
    return flat.reshape(shape, order="F" if fortran_order else "C")


def read_npy(data: Data, place: Place) -> None:
    """Take the array's numbers and text, and read what stands behind it, or the pickle that an object array is."""
    header = parse_npy_header(data)
    place.add_kind("npy")
    told = str(data[10 : header.data_at], "latin-1", "replace")
    if not _USUAL_HEADER.fullmatch(told):  # names of fields, comments
        place.read(told.encode(), "header", guessed=True)
    view = memoryview(data)[header.data_at :]
    if header.dtype is None:
        place.read(view, "objects")
        return
    values = array_of(view, header.dtype, header.shape, fortran_order=header.fortran_order)
    add_array(values, place)
    place.read(view[values.nbytes :], "behind the array", guessed=True)


def add_array(values: Numbers, place: Place) -> None:
    """Numbers as they are, fields one by one, text as lines, times as integers, plain bytes as bytes."""
    kind = values.dtype.kind
    if values.dtype.names is not None:
        for name in values.dtype.names:
            add_array(values[name], place)
        texts = [values[name].reshape(-1).tolist() for name in values.dtype.names if values[name].ndim == values.ndim]
        if any(values.dtype[name].kind in "US" for name in values.dtype.names):
            place.contents.add_records(place.where, texts)
    elif kind in "mM":
        place.add_numbers(values.astype("i8"))
    elif kind in "US" and values.dtype.itemsize:
        place.effort.spend_values(values.size)
        place.read(_lines(values).encode(errors="replace"), "text")
    elif kind == "V":
        place.read(values.tobytes(), "bytes", guessed=True)
    else:
        place.add_numbers(values)


def _lines(values: Numbers) -> str:
    """Cells of text: a line for each row, fields between tabs."""
    rows = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1)
    spelled = ([cell.decode("latin-1") if isinstance(cell, bytes) else str(cell) for cell in row] for row in rows)
    return "\n".join("\t".join(cells) for cells in spelled)


def _shape(shape: Any) -> tuple[int, ...]:
    sizes: tuple[Any, ...] = cast("tuple[Any, ...]", shape) if isinstance(shape, tuple) else (shape,)
    if len(sizes) > 32 or not all(type(size) is int and 0 <= size < 2**48 for size in sizes):
        raise NotReadableError("npy shape is not understood")
    return sizes
