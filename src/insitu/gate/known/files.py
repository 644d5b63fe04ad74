"""The files that an index is made of, and those that it is made from.

An index's own are one-dimensional npy files, written piece by piece: their length is known at the end only.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray


class Remote(Protocol):
    """A dataset's file that lies elsewhere: read from the front, or brought to the disk where it has to be mapped."""

    @property
    def name(self) -> str: ...

    def open(self, mode: Literal["rb"]) -> IO[bytes]: ...

    def read_bytes(self) -> bytes: ...

    def on_disk(self) -> AbstractContextManager[Path]:
        """A real file; what is mapped of it stays so."""
        ...


DataFile = Path | Remote


@contextmanager
def on_disk(file: DataFile) -> Generator[Path]:
    """Where the file can be mapped from, as long as the block lasts."""
    if isinstance(file, Path):
        yield file
    else:
        with file.on_disk() as path:
            yield path


class NpyWriter:
    """One npy file; `close` makes it whole."""

    def __init__(self, path: Path, dtype: str) -> None:
        self._dtype = np.dtype(dtype)
        self._out: BinaryIO = path.open("wb")
        self._out.write(npy_header(dtype, (0,)))
        self.count = 0

    def write(self, values: NDArray[Any]) -> None:
        self._out.write(np.ascontiguousarray(values, dtype=self._dtype).data)
        self.count += len(values)

    def close(self) -> None:
        self._out.seek(0)
        self._out.write(npy_header(self._dtype.str, (self.count,)))
        self._out.close()


def write_npy(path: Path, dtype: str, shape: tuple[int, ...], pieces: Iterable[NDArray[Any]]) -> None:
    """A file of the given shape from its values in order, the first axis running fastest (Fortran's order)."""
    with path.open("wb") as out:
        out.write(npy_header(dtype, shape))
        for piece in pieces:
            out.write(np.ascontiguousarray(piece, dtype=dtype).data)


def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Always 128 bytes, so that it can be written over."""
    text = f"{{'descr': '{np.dtype(dtype).str}', 'fortran_order': {len(shape) > 1}, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"


def load_npy(path: Path) -> NDArray[Any]:
    """The array in `path`, mapped: a plain array, since numpy's class for mapped ones costs time at each use.

    Raises:
        OSError, ValueError: there is none, or it is not whole.
    """
    with suppress(ValueError):  # an empty one can't be mapped
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    return np.load(path, allow_pickle=False)
