"""Puts sparse matrices back into rows, as `scipy.sparse.save_npz` stores them.

Only compressed rows and columns and coordinate lists: the forms that keep one
number per cell. Cells that are not stored are zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.gate.contents import NotReadableError, Numbers, Place
from insitu.gate.readers.numpy import array_of, parse_npy_header
from insitu.gate.readers.zip import Member

_MAX_CELLS = 20_000_000


def read_sparse(members: list[Member], place: Place) -> None:
    """Add the dense table if the members are a sparse matrix's; else nothing."""
    arrays: dict[str, Numbers] = {}
    names = {"data", "indices", "indptr", "row", "col", "shape", "format"}
    for member in members:
        name = member.name.removesuffix(".npy")
        if name in names:
            array = _array(member.data)
            if array is not None:
                arrays[name] = array
    try:
        dense = dense_of(arrays)
    except (IndexError, ValueError) as error:
        raise NotReadableError("sparse matrix does not fit its shape") from error
    if dense is not None:
        place.add_numbers(dense, "sparse")


def dense_of(arrays: dict[str, Numbers]) -> NDArray[Any] | None:
    shape = arrays.get("shape")
    data = arrays.get("data")
    if shape is None or data is None or shape.size != 2 or data.ndim != 1 or shape.dtype.kind not in "iu":
        return None
    rows, columns = (int(size) for size in shape)
    if rows < 1 or columns < 1 or rows * columns > _MAX_CELLS:
        return None
    dense = np.zeros((rows, columns))
    if "row" in arrays and "col" in arrays:
        dense[arrays["row"], arrays["col"]] = data
        return dense
    if "indices" not in arrays or "indptr" not in arrays:
        return None
    counts = np.diff(arrays["indptr"].astype(np.int64))
    major = np.repeat(np.arange(len(counts)), np.maximum(counts, 0))
    if len(counts) == rows and not (rows == columns and _is_by_columns(arrays)):
        dense[major, arrays["indices"]] = data
    elif len(counts) == columns:
        dense[arrays["indices"], major] = data
    else:
        raise ValueError("as many pointers as neither rows nor columns")
    return dense


def _is_by_columns(arrays: dict[str, Numbers]) -> bool:
    stored = arrays.get("format")
    return stored is not None and stored.tobytes().replace(b"\x00", b"") == b"csc"


def _array(data: bytes) -> Numbers | None:
    header = parse_npy_header(data)
    if header.dtype is None:
        return None
    return array_of(memoryview(data)[header.data_at :], header.dtype, header.shape, fortran_order=False)
