"""Reads zip archives within bounds, and says nothing about what their members mean.

Sizes in the directory are claims; what is counted is what comes out. Two
members of one name, an encrypted member or a wrong checksum make the archive
not readable: two readers might see two different things in it.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from dataclasses import dataclass

from insitu.gate.effort import Effort
from insitu.gate.read_numpy import NotReadableError

_CHUNK = 1 << 20


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
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
        raise NotReadableError("zip archive is damaged") from error
    except (NotImplementedError, RuntimeError) as error:  # encrypted, or a compression that Python has not
        raise NotReadableError("zip member can't be read") from error


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, effort: Effort) -> Member:
    effort.spend_member()
    parts: list[bytes] = []
    with archive.open(info) as stream:
        while chunk := stream.read(_CHUNK):
            effort.spend_bytes(len(chunk))
            parts.append(chunk)
    return Member(info.filename, b"".join(parts))
