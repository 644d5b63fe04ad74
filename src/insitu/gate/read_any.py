"""Reads a file by what its bytes are, never by its name, and what is in it, and in that.

    bytes ─► zip/skops/npz · npy · gzip/bzip2/xz/zlib · pickle · text · else raw numbers
               └────────────── each part again, to a bounded depth ──────────────┘

Nothing here executes what it reads, imports what a file names, or trusts a size
that a file states. What can't be read as what it claims to be is `unread`, and
is looked at as raw numbers all the same.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import lzma
import re
import zlib
from collections.abc import Callable
from typing import Any

from insitu.gate.contents import Contents
from insitu.gate.read_numpy import MAGIC, NotReadableError, read_npy
from insitu.gate.read_pickle import read_pickle
from insitu.gate.read_raw import read_raw
from insitu.gate.read_skops import is_skops, read_skops
from insitu.gate.read_sparse import read_sparse
from insitu.gate.read_text import is_text, read_text
from insitu.gate.read_zip import read_members

_CHUNK = 1 << 16
_PICKLE_START = re.compile(rb"\x80[\x00-\x05]")
_OLD_PICKLE = re.compile(rb"[(\]}c\[{]")  # protocols 0 and 1 have no magic; see _looks_like_an_old_pickle
_ENCODED = re.compile(r"(?:[0-9a-fA-F]{2}){64,}|[A-Za-z0-9+/_-]{64,}={0,2}")


def read_any(data: bytes, where: str, contents: Contents, depth: int = 0) -> None:
    """Take everything that the readers know how to find in `data`.

    Raises:
        OutOfEffortError: a bound of the judgement was reached.
    """
    contents.effort.check_depth(depth)
    contents.effort.check_time()
    if not data:
        return
    try:
        _dispatch(data, where, contents, depth)
    except NotReadableError as error:
        contents.add_unread(where, str(error))
        read_raw(data, where, contents, aligned=False)


def _dispatch(data: bytes, where: str, contents: Contents, depth: int) -> None:
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        _read_archive(data, where, contents, depth)
    elif data[:6] == MAGIC:
        rest = read_npy(data, where, contents)
        read_any(rest, f"{where}: behind the array", contents, depth + 1)
    elif decompressor := _compression_of(data):
        contents.add_kind("compressed", where)
        read_any(_unpack(decompressor, data, where, contents), f"{where}: unpacked", contents, depth + 1)
    elif _PICKLE_START.match(data) or _looks_like_an_old_pickle(data):
        rest = read_pickle(data, where, contents, depth)
        read_any(rest, f"{where}: behind the pickle", contents, depth + 1)
    elif is_text(data):
        text = data.decode("utf-8")
        contents.add_kind("text", where)
        read_text(text, where, contents)
        _read_encoded(text, where, contents, depth)
    else:
        contents.add_kind("binary", where)
        read_raw(data, where, contents, aligned=False)


def _read_archive(data: bytes, where: str, contents: Contents, depth: int) -> None:
    members = read_members(data, contents.effort)
    if is_skops(members):
        contents.add_kind("skops", where)
        read_skops(members, where, contents)
    else:
        contents.add_kind("zip", where)
    read_sparse(members, where, contents)
    for number, member in enumerate(members, start=1):
        if not (member.name == "schema.json" and is_skops(members)):
            read_any(member.data, f"{where}: member {number}", contents, depth + 1)


def _read_encoded(text: str, where: str, contents: Contents, depth: int) -> None:
    """Long runs of hex or base64 are read as what they decode to."""
    for found in _ENCODED.finditer(text):
        contents.effort.spend_member()
        decoded = _decode(found.group())
        if decoded:
            contents.add_kind("encoded", where)
            contents.effort.spend_bytes(len(decoded))
            read_any(decoded, f"{where}: decoded", contents, depth + 1)


def _decode(run: str) -> bytes:
    try:
        if re.fullmatch(r"(?:[0-9a-fA-F]{2})+", run):
            return bytes.fromhex(run)
        padded = run.rstrip("=") + "=" * (-len(run.rstrip("=")) % 4)
        return base64.b64decode(padded.replace("-", "+").replace("_", "/"), validate=True)
    except (ValueError, binascii.Error):
        return b""


def _looks_like_an_old_pickle(data: bytes) -> bool:
    """Protocols 0 and 1 have no magic: they end in STOP and are no JSON, which also begins with a bracket."""
    return bool(_OLD_PICKLE.match(data)) and data.rstrip()[-1:] == b"." and not data.lstrip().startswith((b'{"', b'["'))


def _compression_of(data: bytes) -> Callable[[], Any] | None:
    """What makes a decompressor for `data`, by its magic."""
    if data[:2] == b"\x1f\x8b":
        return lambda: zlib.decompressobj(wbits=31)
    if data[:3] == b"BZh":
        return bz2.BZ2Decompressor
    if data[:6] == b"\xfd7zXZ\x00" or data[:3] == b"\x5d\x00\x00":
        return lzma.LZMADecompressor
    if len(data) > 2 and data[0] == 0x78 and (data[0] * 256 + data[1]) % 31 == 0:
        return zlib.decompressobj
    return None


def _unpack(new: Callable[[], Any], data: bytes, where: str, contents: Contents) -> bytes:
    """All streams that stand one after the other in `data`; what is behind them is kept too."""
    parts: list[bytes] = []
    rest = data
    while rest:
        before = len(rest)
        try:
            rest = _unpack_one(new(), rest, parts, contents)
        except (zlib.error, OSError, lzma.LZMAError, EOFError):
            if before == len(data):
                contents.add_unread(where, "compressed data is damaged")
                read_raw(data, where, contents, aligned=False)
            else:
                parts.append(rest)
            break
    return b"".join(parts)


def _unpack_one(stream: Any, data: bytes, parts: list[bytes], contents: Contents) -> bytes:
    """Unpack one stream to its end; return what is behind it."""
    fed = data
    while not stream.eof:
        chunk: bytes = stream.decompress(fed, _CHUNK)
        contents.effort.spend_bytes(len(chunk))
        parts.append(chunk)
        # zlib hands back what it has not taken; bz2 and lzma keep it and say so by needs_input.
        fed = getattr(stream, "unconsumed_tail", b"")
        if not chunk and not fed and not stream.eof:
            raise EOFError
    return stream.unused_data
