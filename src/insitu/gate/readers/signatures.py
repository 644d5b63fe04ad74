"""The magics of the formats that are read here, and of some that are not: where bytes of unknown form may begin."""

from __future__ import annotations

import zlib

from insitu.gate.contents import Data

_SAMPLE, _LEAST = 256, 32

# What may begin at any place in other bytes. Each magic is long enough to be met by chance only rarely.
STREAMS = (b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
CONTAINERS = (b"PK\x03\x04", b"\x93NUMPY", b"\x89PNG\r\n", b"PAR1")
STRONG = (*STREAMS, *CONTAINERS)
BZIP2_BLOCK = b"1AY&SY"  # behind `BZh` and a digit
ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")  # the first two bytes that zlib itself writes
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257

# Archives and containers that this version can't read: they are not clean, whatever stands in them.
UNREAD = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a rar archive",
    b"\x04\x22\x4d\x18": "an LZ4 frame",
    b"LZIP": "an lzip stream",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"SQLite format 3\x00": "a database",
    b"MSCF\x00\x00\x00\x00": "a cabinet archive",
    b"%PDF-": "a PDF file",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"ARROW1\x00\x00": "an Arrow file",
    b"ORC": "an ORC file",
    b"Obj\x01": "an Avro file",
}


def has_signature(data: Data) -> bool:
    """Whether `data` begins as a known format does."""
    head = bytes(data[:16])
    if head.startswith(STRONG) or (head[:3] == b"BZh" and head[4:10] == BZIP2_BLOCK):
        return True
    if len(head) > 9 and head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 25:  # safetensors
        return True
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") and head[2:3] in b"\x95c}](":  # pickle
        return True
    return inflates(data) or bytes(data[TAR_MAGIC_AT : TAR_MAGIC_AT + 5]) == TAR_MAGIC


def inflates(data: Data) -> bool:
    """zlib's two bytes are met by chance: what follows must unpack."""
    if bytes(data[:2]) not in ZLIB:
        return False
    try:
        return len(zlib.decompressobj().decompress(bytes(data[:_SAMPLE]), _SAMPLE)) >= _LEAST
    except zlib.error:
        return False
