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

from insitu.gate.contents import Contents, Numbers

MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000
_SIMPLE = re.compile(r"[<>|=]?[fiubcSUM][0-9]{0,5}(\[[A-Za-z]{1,2}\])?")


class NotReadableError(Exception):
    """The bytes are not what they claim to be. The message holds none of them."""


@dataclass(frozen=True)
class NpyHeader:
    dtype: np.dtype[Any] | None  # None: Python objects, which are a pickle
    shape: tuple[int, ...]
    fortran_order: bool
    data_at: int


def parse_npy_header(data: bytes) -> NpyHeader:
    """The header of `.npy` bytes.

    Raises:
        NotReadableError: it is not one that numpy would write.
    """
    if data[:6] != MAGIC or len(data) < 12 or data[6] not in (1, 2, 3):
        raise NotReadableError("not an npy file")
    width = 2 if data[6] == 1 else 4
    length = int.from_bytes(data[8 : 8 + width], "little")
    end = 8 + width + length
    if length > _MAX_HEADER or end > len(data):
        raise NotReadableError("npy header too long")
    try:
        fields = ast.literal_eval(data[8 + width : end].decode("latin-1").strip())
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


def read_npy(data: bytes, where: str, contents: Contents) -> bytes:
    """Take the array's numbers and text; return the bytes after it, or all of a pickled object array's."""
    header = parse_npy_header(data)
    contents.add_kind("npy", where)
    if header.dtype is None:
        return data[header.data_at :]
    view = memoryview(data)[header.data_at :]
    values = array_of(view, header.dtype, header.shape, fortran_order=header.fortran_order)
    add_array(values, where, contents)
    return data[header.data_at + values.nbytes :]


def add_array(values: Numbers, where: str, contents: Contents) -> None:
    """Numbers as they are, fields one by one, text as text, times as integers."""
    if values.dtype.names is not None:
        for name in values.dtype.names:
            add_array(values[name], where, contents)
    elif values.dtype.kind == "M":
        contents.add_numbers(where, values.astype("i8"))
    elif values.dtype.kind in "US" and values.dtype.itemsize:
        contents.effort.spend_values(values.size)
        rows = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values.reshape(-1, 1)
        for row in rows:
            cells = [cell.decode("latin-1") if isinstance(cell, bytes) else str(cell) for cell in row]
            contents.add_text(where, "\t".join(cells))
    else:
        contents.add_numbers(where, values)


def _shape(shape: Any) -> tuple[int, ...]:
    sizes: tuple[Any, ...] = cast("tuple[Any, ...]", shape) if isinstance(shape, tuple) else (shape,)
    if len(sizes) > 32 or not all(type(size) is int and 0 <= size < 2**48 for size in sizes):
        raise NotReadableError("npy shape is not understood")
    return sizes
