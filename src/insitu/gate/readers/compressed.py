"""Unpacks compressed streams within bounds: gzip, zlib, bzip2, xz, lzma, zstd.

All streams that stand one after the other are taken; fields of a header that
hold text or bytes (gzip's name, comment and extra field, zstd's skippable
frames) are read too, and so is what stands behind the last stream.

Formats: RFC 1952 (gzip), RFC 1950 (zlib), RFC 8878 (zstd); bzip2 and xz by
Python's own modules.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from insitu.gate.contents import Data, NotReadableError, Place
from insitu.gate.effort import Effort

_CHUNK = 1 << 16
_MEMORY_BYTES = 256 << 20  # of a dictionary that a stream asks for
_NAME, _COMMENT, _EXTRA, _HEADER_CRC = 8, 16, 4, 2  # bits of gzip's flags
_SKIPPABLE = 0x184D2A50
_XZ = b"\xfd7zXZ\x00"
_ZSTD = b"\x28\xb5\x2f\xfd"
_WEAK_LEAST = 200  # bytes out of a stream whose magic is too short to tell it from chance

NewStream = Callable[[], Any]


class _NoZstdError(NotReadableError):
    """The library that unpacks zstd is not installed."""

    def __init__(self) -> None:
        super().__init__("zstd is not installed here")


@dataclass(frozen=True)
class Unpacked:
    data: bytes
    used: int  # bytes of the input that were taken
    whole: bool  # the stream came to its end, and its checksum was right


def is_compressed(data: Data) -> bool:
    """By its magic, as far as that is telling."""
    head = bytes(data[:10])
    return head[:2] == b"\x1f\x8b" or head[:6] == _XZ or head[:4] == _ZSTD or _is_bzip2(head) or _is_skippable(head)


def may_be_compressed(data: Data) -> bool:
    """By the two or three bytes that zlib and lzma begin with, which may also be chance."""
    head = bytes(data[:13])
    zlib_like = len(head) > 2 and head[0] & 0x8F == 0x08 and (head[0] * 256 + head[1]) % 31 == 0 and not head[1] & 0x20
    return zlib_like or _is_lzma(head)


def _is_bzip2(head: bytes) -> bool:
    return head[:3] == b"BZh" and head[3:4].isdigit()


def _is_lzma(head: bytes) -> bool:
    """The old lzma format has no magic: properties below 225, and a dictionary of 2^n or 2^n + 2^(n-1)."""
    if len(head) < 13 or head[0] != 0x5D:
        return False
    dictionary = int.from_bytes(head[1:5], "little")
    size = int.from_bytes(head[5:13], "little")
    return dictionary.bit_count() <= 2 and dictionary >= 4096 and (size == 2**64 - 1 or size < 2**38)


def _is_skippable(head: bytes) -> bool:
    return len(head) >= 8 and int.from_bytes(head[:4], "little") & ~0xF == _SKIPPABLE


def read_compressed(data: Data, place: Place) -> None:
    """Unpack every stream in `data`, and read what comes out as one."""
    parts: list[bytes] = []
    rest = memoryview(data)
    while rest and (not parts or is_compressed(rest)):
        place.effort.spend_member()
        if _is_skippable(bytes(rest[:8])):
            size = int.from_bytes(rest[4:8], "little")
            place.read(rest[8 : 8 + size], "skippable frame")
            rest = rest[8 + size :]
            continue
        try:
            found = unpack(rest, place.effort)
        except _NoZstdError as error:
            place.add_unread(str(error))
            found = Unpacked(b"", len(rest), whole=True)
        parts.append(found.data)
        if bytes(rest[:2]) == b"\x1f\x8b":
            _read_gzip_fields(rest, place)
        if not found.whole:
            place.add_unread("compressed data is damaged")
            place.read(rest[1:], "damaged stream", guessed=True)
            break
        rest = rest[found.used :]
    else:
        place.read(rest, "behind the stream", guessed=True)
    place.add_kind("compressed")
    place.read(b"".join(parts), "unpacked")


def read_weakly_marked(data: Data, place: Place) -> bool:
    """Unpack `data` if it really is zlib or lzma; False if it only began like that."""
    try:
        found = unpack(data, place.effort)
    except NotReadableError:
        return False
    if len(found.data) < _WEAK_LEAST and not found.whole:
        return False
    place.add_kind("compressed")
    if not found.whole:
        place.add_unread("compressed data is damaged")
    place.read(found.data, "unpacked")
    place.read(memoryview(data)[found.used :], "behind the stream", guessed=True)
    return True


def unpack(data: Data, effort: Effort) -> Unpacked:
    """The first stream of `data`, as far as it can be unpacked.

    Raises:
        NotReadableError: it begins with none.
        OutOfEffortError: it grows beyond the judgement's bounds.
    """
    return pump(_stream_for(data), data, effort)


def pump(new: NewStream, data: Data, effort: Effort) -> Unpacked:
    """Feed `data` to a decompressor until its stream ends or breaks."""
    stream = new()
    parts: list[bytes] = []
    size, whole = 0, False
    view = memoryview(data)
    at = 0
    try:
        while not stream.eof:
            # A piece at a time: a decompressor keeps what it was given, and a bomb must not be kept twice.
            fed: Any = getattr(stream, "unconsumed_tail", b"")
            if not fed and getattr(stream, "needs_input", True):
                fed = view[at : at + _CHUNK]
                at += len(fed)
            chunk: bytes = stream.decompress(fed, _CHUNK)
            size += len(chunk)
            effort.spend_bytes(len(chunk))
            effort.check_ratio(at, size)
            parts.append(chunk)
            if not chunk and not len(fed) and not stream.eof:
                break
        whole = bool(stream.eof)
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError, RuntimeError):
        pass
    except Exception as error:  # backports.zstd has an error class of its own, not known here without importing it
        if type(error).__name__ != "ZstdError":
            raise
    used = at - len(stream.unused_data) if whole else len(view)
    return Unpacked(b"".join(parts), used, whole)


def _stream_for(data: Data) -> NewStream:
    head = bytes(data[:13])
    if head[:2] == b"\x1f\x8b":
        return lambda: zlib.decompressobj(wbits=31)
    if _is_bzip2(head):
        return bz2.BZ2Decompressor
    if head[:6] == _XZ or _is_lzma(head):
        return lambda: lzma.LZMADecompressor(memlimit=_MEMORY_BYTES)
    if head[:4] == _ZSTD:
        return new_zstd
    if may_be_compressed(data):
        return zlib.decompressobj
    raise NotReadableError("no compressed stream")


def new_zstd() -> Any:
    """A decompressor for one zstd frame."""
    for name in ("compression.zstd", "backports.zstd"):  # part of Python itself from 3.14 on
        try:
            return importlib.import_module(name).ZstdDecompressor()
        except ImportError:
            continue
    raise _NoZstdError


def unpack_zstd(data: Data, effort: Effort) -> bytes:
    """One zstd frame.

    Raises:
        NotReadableError: it is damaged, or there is nothing here to unpack it with.
    """
    found = pump(new_zstd, data, effort)
    if not found.whole:
        raise NotReadableError("compressed data is damaged")
    return found.data


def _read_gzip_fields(data: memoryview, place: Place) -> None:
    """The fields of a header that may hold anything, which decompressors skip (RFC 1952, section 2.3)."""
    if len(data) < 10:
        return
    flags, at = data[3], 10
    if flags & _EXTRA:
        size = int.from_bytes(data[at : at + 2], "little")
        place.read(data[at + 2 : at + 2 + size], "extra field")
        at += 2 + size
    for flag, part in ((_NAME, "file name"), (_COMMENT, "comment")):
        if flags & flag:
            field = bytes(data[at:]).split(b"\x00", 1)[0]
            place.read(field, part)
            at += len(field) + 1


__all__ = [
    "Unpacked",
    "is_compressed",
    "may_be_compressed",
    "new_zstd",
    "pump",
    "read_compressed",
    "read_weakly_marked",
    "unpack",
    "unpack_zstd",
]
