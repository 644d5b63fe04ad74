"""Reads tar archives: members, every field of their headers, and what stands between and behind them.

Format: POSIX.1-2001 ustar and pax, with GNU's long names; numbers are octal, or
base 256 where their first bit is set. Python's `tarfile` hides padding, unknown
types and unused fields, which is where something could be put.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from insitu.gate.contents import Coverage, Data, NotReadableError, Place

_BLOCK = 512
_NUMBERS = ((100, 8), (108, 8), (116, 8), (136, 12), (329, 8), (337, 8))  # mode, uid, gid, mtime, devmajor, devminor
_TEXTS = ((0, 100), (157, 100), (265, 32), (297, 32), (345, 155))  # name, link name, user, group, prefix
_SIZE, _CHECKSUM, _KIND, _UNUSED = (124, 12), (148, 8), 156, (500, 12)
_SPARSE = b"S"


@dataclass(frozen=True)
class _Header:
    block: bytes
    size: int
    kind: bytes
    data_at: int


def is_tar(data: Data) -> bool:
    """By the checksum of the first header, which every variant has."""
    if len(data) < _BLOCK:
        return False
    try:
        return _checksum_fits(bytes(data[:_BLOCK]))
    except NotReadableError:
        return False


def read_tar(data: Data, place: Place) -> None:
    """Read every member, its header, and what no member accounts for.

    Raises:
        NotReadableError: a header is damaged.
    """
    place.add_kind("tar")
    covered = Coverage(len(data))
    texts: list[str] = []
    numbers: list[float] = []
    for number, header in enumerate(_headers(data, place), start=1):
        covered.add(header.data_at - _BLOCK, header.data_at + header.size)
        texts.append("\t".join(text for text in (_text(header.block, *field) for field in _TEXTS) if text))
        numbers += [_number(header.block, *field) for field in _NUMBERS]
        place.read(header.block[_UNUSED[0] :].strip(b"\x00"), f"member {number}: unused field")
        if header.kind == _SPARSE:  # its data are pieces, and where they belong is told elsewhere
            place.at(f"member {number}").add_unread("a sparse member")
        place.read(data[header.data_at : header.data_at + header.size], f"member {number}")
    place.add_text("\n".join(texts), "names")
    if len(numbers) >= 3:
        place.add_numbers(np.array(numbers), "header fields")
    covered.read_holes(data, place)


def _headers(data: Data, place: Place) -> Iterator[_Header]:
    at = 0
    while at + _BLOCK <= len(data):
        block = bytes(data[at : at + _BLOCK])
        if not any(block):  # the end; what follows is read as a gap
            return
        if not _checksum_fits(block):
            raise NotReadableError("tar header is damaged")
        place.effort.spend_member()
        size = int(_number(block, *_SIZE))
        if not 0 <= size <= len(data) - at - _BLOCK:
            raise NotReadableError("tar member is cut off")
        yield _Header(block, size, block[_KIND : _KIND + 1], at + _BLOCK)
        at += _BLOCK + -(-size // _BLOCK) * _BLOCK


def _checksum_fits(block: bytes) -> bool:
    start, size = _CHECKSUM
    stored = int(_number(block, start, size))
    return any(block) and stored == sum(block[:start]) + sum(block[start + size :]) + 32 * size


def _text(block: bytes, start: int, size: int) -> str:
    """A field up to its first zero; what stands behind that zero is text as well, since nobody else would see it."""
    return block[start : start + size].replace(b"\x00", b" ").strip().decode("utf-8", "replace")


def _number(block: bytes, start: int, size: int) -> float:
    field = block[start : start + size]
    if field[0] & 0x80:
        return float(int.from_bytes(field, "big") & ((1 << (8 * size - 1)) - 1))
    digits = field.split(b"\x00", 1)[0].strip()
    try:
        return float(int(digits or b"0", 8))
    except ValueError as error:
        raise NotReadableError("tar header is damaged") from error
