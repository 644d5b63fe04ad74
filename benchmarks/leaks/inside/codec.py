"""Rows as bytes, bits and numbers, and back: what the attacks' two halves share.

Decoders never raise on what a gate has changed: they return what they can read,
which may be nothing.
"""

from __future__ import annotations

import csv
import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.leaks.people import COLUMNS, NUMBERS

Row = dict[str, str | float]
Bits = NDArray[np.uint8]

# What everybody knows of such measurements, without having seen the table.
RANGES = {
    "age": (0.0, 128.0), "visits": (0.0, 32.0), "systolic": (64.0, 192.0), "height_cm": (128.0, 224.0),
    "weight_kg": (16.0, 144.0), "glucose": (0.0, 16.0), "creatinine": (0.0, 256.0),
}  # fmt: skip
CELL_BITS = 12
_LEAST_PACKED = 40  # bytes of a deflated row: none is shorter
ROW_BITS = CELL_BITS * len(NUMBERS)


# -- rows as text ------------------------------------------------------------------------------------------------------


def as_text(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def from_text(text: str) -> list[Row]:
    """Lines of CSV as rows; others are skipped."""
    rows: list[Row] = []
    for line in text.splitlines():
        try:
            cells = next(iter(csv.reader([line])), [])
        except csv.Error:
            continue
        if len(cells) >= len(COLUMNS) // 2:
            rows.append(dict(zip(COLUMNS, cells, strict=False)))
    return rows


def pack(rows: Iterable[Sequence[str]], room: int) -> bytes:
    """As many rows as fit into `room` bytes: a length, then deflated CSV."""
    kept = list(rows)
    low, high = 0, min(len(kept), room // _LEAST_PACKED)
    while low < high:
        middle = (low + high + 1) // 2
        if len(_deflated(kept[:middle])) <= room:
            low = middle
        else:
            high = middle - 1
    return _deflated(kept[:low])


def unpack(data: bytes) -> list[Row]:
    if len(data) < 4:
        return []
    (size,) = struct.unpack(">I", data[:4])
    inflate = zlib.decompressobj()
    text = b""
    try:
        for at in range(4, min(len(data), 4 + size), 64):
            text += inflate.decompress(data[at : min(at + 64, 4 + size)])
    except zlib.error:
        pass  # what came before the damage is readable
    return from_text(text.decode(errors="replace"))


def _deflated(rows: Sequence[Sequence[str]]) -> bytes:
    data = zlib.compress(as_text(rows).encode(), 9)
    return struct.pack(">I", len(data)) + data


# -- rows as few bits --------------------------------------------------------------------------------------------------


def to_bits(data: bytes) -> Bits:
    return np.unpackbits(np.frombuffer(data, np.uint8))


def from_bits(bits: NDArray[Any] | Sequence[int]) -> bytes:
    return np.packbits(np.asarray(bits, np.uint8)).tobytes()


def row_bits(numbers: NDArray[np.float64]) -> Bits:
    """The measurements of some rows, a few bits for each cell: damage stays in its cell."""
    low, high = _bounds()
    steps = np.clip((numbers - low) / (high - low) * 2**CELL_BITS, 0, 2**CELL_BITS - 1).astype(np.int64)
    planes = steps[..., None] >> np.arange(CELL_BITS - 1, -1, -1) & 1
    return planes.astype(np.uint8).reshape(-1)


def rows_of_bits(bits: NDArray[Any] | Sequence[int]) -> list[Row]:
    given = np.asarray(bits, np.int64)
    given = given[: len(given) // ROW_BITS * ROW_BITS].reshape(-1, len(NUMBERS), CELL_BITS)
    steps = (given << np.arange(CELL_BITS - 1, -1, -1)).sum(axis=2)
    low, high = _bounds()
    return rows_of_numbers(low + (steps + 0.5) / 2**CELL_BITS * (high - low))


def rows_of_numbers(numbers: NDArray[np.float64], columns: Sequence[str] = NUMBERS) -> list[Row]:
    return [dict(zip(columns, row, strict=False)) for row in np.asarray(numbers, np.float64).tolist()]


def unit(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Measurements mapped to -1…1 by what everybody knows."""
    low, high = _bounds()
    return (numbers - low) / (high - low) * 2 - 1


def from_unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = _bounds()
    return low + (values + 1) / 2 * (high - low)


def _bounds() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    bounds = np.array([RANGES[name] for name in NUMBERS])
    return bounds[:, 0], bounds[:, 1]
