"""The pictures of a dataset, one after the other, as height × width × channels.

PNG files, and npy stacks: one picture (h, w), several (n, h, w), or several with
channels (n, h, w, c).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from insitu.domain.errors import InvalidInputError
from insitu.gate.contents import Contents, NotReadableError, Place
from insitu.gate.effort import Effort, Limits, OutOfEffortError
from insitu.gate.known.files import DataFile, on_disk
from insitu.gate.readers.numpy import parse_npy_header
from insitu.gate.readers.png import MAGIC, chunks, parse_header, read_pixels

_MOST_BYTES = 1 << 30  # of one PNG file's pixels


def images_in(path: DataFile) -> Iterator[NDArray[Any]]:
    """The pictures in a file.

    Raises:
        InvalidInputError: it is neither PNG nor a stack of pixels.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(11_000)
        if head[: len(MAGIC)] == MAGIC:
            yield _png(path.read_bytes())
        else:
            yield from _stack(path, head)
    except (NotReadableError, OutOfEffortError, ValueError) as error:
        raise InvalidInputError(
            f"{path.name} can't be read as an image",
            code="data-broken",
            hint="use PNG files, or npy arrays of pixels: (n, h, w) or (n, h, w, c)",
        ) from error


def _png(data: bytes) -> NDArray[Any]:
    place = Place("", Contents(Effort(Limits(expansion_bytes=_MOST_BYTES))), 0, lambda _, __: None)
    header = None
    packed: list[memoryview] = []
    for chunk in chunks(data):
        if chunk.kind == b"IHDR":
            header = parse_header(chunk.data)
        elif chunk.kind == b"IDAT":
            packed.append(chunk.data)
    if header is None:
        raise NotReadableError("PNG without a header")
    return read_pixels(header, b"".join(packed), place)


def _stack(path: DataFile, head: bytes) -> Iterator[NDArray[Any]]:
    header = parse_npy_header(head)
    if header.dtype is None or header.dtype.kind not in "fiub":
        raise NotReadableError("not pixels")
    with on_disk(path) as place:
        pixels = cast("NDArray[Any]", np.load(place, mmap_mode="r", allow_pickle=False))
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4:
        raise NotReadableError("not a stack of pixels")
    for image in pixels:
        yield np.ascontiguousarray(image)
