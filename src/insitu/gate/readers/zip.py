"""Reads zip archives within bounds, and everything that stands in one beside its members.

Sizes in the directory are claims; what is counted is what comes out. Two
members of one name, an encrypted member or a wrong checksum make the archive
not readable: two readers might see two different things in it. Comments, extra
fields, names, and bytes between, before and behind the members are read too; a
member that the directory does not list is one of those.

Format: PKWARE's APPNOTE 6.3, sections 4.3 to 4.6.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass

from insitu.gate.contents import Coverage, Data, NotReadableError, Place
from insitu.gate.effort import Effort
from insitu.gate.readers.compressed import pump

_CHUNK = 1 << 20
_LOCAL = b"PK\x03\x04"
_LOCAL_SIZE = 30
_STORED, _DEFLATED = 0, 8
_DESCRIPTOR = 8  # bit of the flags: sizes follow the data
_DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, IndexError, OverflowError)


@dataclass(frozen=True)
class Member:
    name: str
    data: bytes


def read_members(data: bytes, effort: Effort) -> list[Member]:
    """All members, in the directory's order.

    Raises:
        NotReadableError: it is damaged, ambiguous or encrypted.
        OutOfEffortError: it is larger than the judgement's bounds.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            if len({info.filename for info in infos}) != len(infos):
                raise NotReadableError("two members have one name")
            return [_read_member(archive, info, effort) for info in infos]
    except _DAMAGED as error:
        raise NotReadableError("zip archive is damaged") from error
    except (NotImplementedError, RuntimeError) as error:  # encrypted, or a compression that Python has not
        raise NotReadableError("zip member can't be read") from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, effort: Effort) -> Member:
    effort.spend_member()
    parts: list[bytes] = []
    size = 0
    with archive.open(info) as stream:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            effort.spend_bytes(len(chunk))
            effort.check_ratio(info.compress_size, size)
            parts.append(chunk)
    return Member(info.filename, b"".join(parts))


def read_beside_members(data: bytes, place: Place) -> None:
    """What an archive holds besides its members: names, comments, extra fields, and the bytes between the parts."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            place.read(archive.comment, "comment")
            place.add_text("\n".join(info.filename for info in infos), "names")
            covered = Coverage(len(data))
            for number, info in enumerate(infos, start=1):
                place.read(info.comment, f"member {number}: comment")
                place.read(info.extra, f"member {number}: extra field")
                covered.add(*_span_of(data, info, place, number))
            covered.add(archive.start_dir, len(data))
    except (*_DAMAGED, NotImplementedError, RuntimeError) as error:
        raise NotReadableError("zip archive is damaged") from error
    covered.read_holes(data, place)


def read_without_directory(data: Data, place: Place) -> None:
    """Members of an archive whose directory is missing or wrong: one local header after the other.

    Raises:
        NotReadableError: not even the first can be read.
    """
    at, number = 0, 0
    while bytes(data[at : at + 4]) == _LOCAL:
        number += 1
        place.effort.spend_member()
        at += _read_local(data[at:], place.at(f"member {number}"))
    place.read(data[at:], "behind the members", guessed=True)


def _read_local(data: Data, place: Place) -> int:
    """Read the member whose local header `data` begins with; return how many bytes it takes."""
    if len(data) < _LOCAL_SIZE:
        raise NotReadableError("zip archive is damaged")
    head = bytes(data[:_LOCAL_SIZE])
    flags, method = (int.from_bytes(head[at : at + 2], "little") for at in (6, 8))
    packed = int.from_bytes(head[18:22], "little")
    name_size, extra_size = (int.from_bytes(head[at : at + 2], "little") for at in (26, 28))
    start = _LOCAL_SIZE + name_size + extra_size
    place.read(data[_LOCAL_SIZE : _LOCAL_SIZE + name_size], "name")
    place.read(data[_LOCAL_SIZE + name_size : start], "extra field")
    body = data[start:]
    if flags & 1:
        raise NotReadableError("zip member is encrypted")
    if method == _DEFLATED:
        found = pump(lambda: zlib.decompressobj(wbits=-15), body, place.effort)
        if not found.data:
            raise NotReadableError("zip archive is damaged")
        place.read(found.data, "unpacked")
        return start + (found.used if found.whole else packed or len(body))
    if method != _STORED:
        raise NotReadableError("zip member can't be read")
    size = packed if packed and not flags & _DESCRIPTOR else len(body)
    place.read(body[:size], "stored")
    return start + size


def _span_of(data: bytes, info: zipfile.ZipInfo, place: Place, number: int) -> tuple[int, int]:
    """From a member's local header to the end of its data, with the descriptor that may follow."""
    at = info.header_offset
    head = data[at : at + _LOCAL_SIZE]
    if head[:4] != _LOCAL:
        raise NotReadableError("zip archive is damaged")
    name_size, extra_size = (int.from_bytes(head[offset : offset + 2], "little") for offset in (26, 28))
    start = at + _LOCAL_SIZE + name_size + extra_size
    local_name = data[at + _LOCAL_SIZE : at + _LOCAL_SIZE + name_size]
    local_extra = data[at + _LOCAL_SIZE + name_size : start]
    if local_name not in (info.filename.encode(), info.orig_filename.encode("cp437", "replace")):
        place.read(local_name, f"member {number}: other name")
    if local_extra != info.extra:
        place.read(local_extra, f"member {number}: other extra field")
    end = start + info.compress_size
    if info.flag_bits & _DESCRIPTOR:
        end += 16 if data[end : end + 4] == b"PK\x07\x08" else 12
    return at, end
