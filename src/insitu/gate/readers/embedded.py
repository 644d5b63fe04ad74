"""Finds known formats at any place in bytes of no known form, and text in between.

Data behind a picture, a zip behind a program, a stream in a model's spare bytes:
whatever begins like a known format is read from there. Magics too short to tell
anything are tried only where something begins.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

from insitu.gate.contents import Coverage, Data, NotReadableError, Place
from insitu.gate.effort import Effort
from insitu.gate.readers.characters import is_text
from insitu.gate.readers.compressed import may_be_compressed, unpack
from insitu.gate.readers.safetensors import is_safetensors
from insitu.gate.readers.signatures import (
    BZIP2_BLOCK,
    CONTAINERS,
    STREAMS,
    STRONG,
    TAR_MAGIC,
    TAR_MAGIC_AT,
    ZLIB,
    has_signature,
    inflates,
)

_SMALL = 1 << 20
_MAX_PLACES = 64  # of one magic in one piece of data
_MAX_TRIES = 4096  # of zlib's, which is met by chance
_SMALLEST = 256  # bytes of a stream that show whether it is one
_LEAST_INFLATED = 100  # … of deflate without any magic, which patterns in bits look like for a while
_LEAST_LETTERS = 12  # distinct ones in what is text
_LEAST_OUT = 16  # bytes: what a stream must yield to be one
_TEXT = re.compile(rb"(?:[\t\r\n\x20-\x7e]|[\xc2-\xf4][\x80-\xbf]{1,3}){6,}")
_LONG_TEXT = re.compile(rb"[\t\r\n\x20-\x7e]{24,}")
_WIDE_TEXT = re.compile(rb"(?:[\t\r\n\x20-\x7e]\x00){6,}")
_SHORT = 1 << 13
_LARGE = 1 << 23
_SAFETENSORS = b'\x00\x00\x00\x00{"'  # the end of a header's length, and its beginning
_ANY_MAGIC = re.compile(b"|".join(re.escape(magic) for magic in (*STRONG, *ZLIB, BZIP2_BLOCK, TAR_MAGIC, _SAFETENSORS)))
_CLASSES = bytes(ord("a") if 32 <= byte < 127 else ord("b") if byte == 0 else ord("c") for byte in range(256))
_NEAR = 16  # bytes between two runs of text that belong to one record


def read_embedded(data: Data, place: Place) -> bool:
    """Read what begins somewhere in `data`, whose own form is unknown; True if there was anything."""
    whole = bytes(data)
    if not place.effort.may_search(len(whole)):
        place.contents.add_passed_over(place.where, "not searched for streams in it")
        return False
    covered = Coverage(len(whole))
    done = 0
    for at in beginnings(whole):
        if at >= done and at > 0 and (size := read_from(whole[at:], place)):
            covered.add(at, at + size)
            done = at + size
    if done:
        covered.read_holes(whole, place)
    return done > 0


def beginnings(data: bytes) -> list[int]:
    """Places where a strong magic stands, in order."""
    if len(data) <= _SHORT and not _ANY_MAGIC.search(data):  # quicker than one search for each
        return []
    places: set[int] = set()
    few = len(data) > _LARGE  # each search takes half a nanosecond a byte
    for magic in (*STREAMS, CONTAINERS[0]) if few else STRONG:
        places.update(_places_of(data, magic))
    for magic in ZLIB[2:] if few else ZLIB:
        places.update(at for at in _places_of(data, magic, _MAX_TRIES) if inflates(data[at : at + _SMALLEST]))
    places.update(at - 4 for at in _places_of(data, BZIP2_BLOCK) if data[at - 4 : at - 1] == b"BZh")
    if few:
        return sorted(places)
    places.update(at - TAR_MAGIC_AT for at in _places_of(data, TAR_MAGIC) if at >= TAR_MAGIC_AT)
    places.update(at - 4 for at in _places_of(data, _SAFETENSORS) if at >= 4 and is_safetensors(data[at - 4 :]))
    return sorted(places)


def _places_of(data: bytes, magic: bytes, most: int = _MAX_PLACES) -> Iterator[int]:
    at = -1
    for _ in range(most):
        at = data.find(magic, at + 1)
        if at < 0:
            return
        yield at


def read_from(data: bytes, place: Place) -> int:
    """Read what `data` begins with, if it holds what its magic promises; return how much of `data` that took."""
    if data[:4] != b"PK\x03\x04" and (stream := stream_at_start(data, place.effort)) is not None:
        place.effort.spend_member()
        place.add_kind("hidden stream")
        place.read(stream[0], "stream inside", guessed=True)
        return stream[1]
    if data.startswith(CONTAINERS) or data[4:10] == _SAFETENSORS or data[TAR_MAGIC_AT : TAR_MAGIC_AT + 5] == TAR_MAGIC:
        place.effort.spend_member()
        place.read(data, "inside", guessed=True)
        return len(data)
    return 0


def stream_at_start(data: bytes, effort: Effort) -> tuple[bytes, int] | None:
    """What the compressed stream that `data` begins with holds, and its length; None if it begins with none."""
    try:
        found = unpack(data, effort)
    except NotReadableError:
        return None
    enough = found.whole and len(found.data) > 0
    return (found.data, found.used) if enough or _tells_itself(found.data) else None


def inflated_at_start(data: bytes, effort: Effort) -> bytes | None:
    """What `data` holds if it is a stream that only its own success can tell: zlib, lzma, deflate without a header."""
    if may_be_compressed(data) and (found := stream_at_start(data, effort)) is not None:
        return found[0]
    try:
        out = zlib.decompressobj(wbits=-15).decompress(data, _SMALL)
    except zlib.error:
        return None
    return out if len(out) >= _LEAST_INFLATED and _tells_itself(out) else None


def _tells_itself(out: bytes) -> bool:
    """What comes out of random bytes, as far as anything does, is no text and no known format."""
    sample = out[:_SMALLEST]
    written = len(set(sample)) >= _LEAST_LETTERS and any(is_text(sample[: len(sample) - cut]) for cut in range(4))
    return len(out) >= _LEAST_OUT and (written or has_signature(out))


def read_strings(data: Data, place: Place) -> None:
    """Runs of text in `data`, those close to each other on one line, as a record's fields are."""
    whole = bytes(data)
    pattern = _TEXT if len(whole) <= _SMALL else _LONG_TEXT
    if len(whole) > _SMALL and not any(run in whole.translate(_CLASSES) for run in (b"a" * 24, b"ab" * 12)):
        return
    lines: list[str] = []
    end = -_NEAR - 1
    for match in pattern.finditer(whole):
        text = match.group().decode("utf-8", "replace")
        if match.start() - end <= _NEAR and lines:
            lines[-1] += "\t" + text
        else:
            lines.append(text)
        end = match.end()
    lines += [match.group().decode("utf-16-le", "replace") for match in _WIDE_TEXT.finditer(whole)]
    if lines:
        place.read("\n".join(lines).encode(errors="replace"), "letters in it", noise=True)


__all__ = ["beginnings", "inflated_at_start", "read_embedded", "read_from", "read_strings", "stream_at_start"]
