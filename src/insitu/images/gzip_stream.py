"""Deterministic gzip on all cores, from the standard library's zlib.

The input is cut into blocks of a fixed size; each is deflated on its own, with
the 32 KiB before it as dictionary, and ends on a byte (`Z_SYNC_FLUSH`), so that
the pieces joined are one ordinary gzip member. zlib lets go of the interpreter
while it works: threads are enough. Blocks don't depend on the number of cores,
so the bytes are the same everywhere with the same zlib.

Method: pigz (Mark Adler, zlib.net/pigz); format: RFC 1951 and RFC 1952.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

_BLOCK = 1 << 20  # bytes; larger costs memory, smaller costs ratio
_WINDOW = 32 << 10
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # no name, no time, unknown system


def gzip_chunks(chunks: Iterable[bytes], *, level: int) -> Iterator[bytes]:
    """`chunks` as one gzip member, in pieces."""
    threads = os.cpu_count() or 1
    checksum, size_bytes, before = 0, 0, b""
    waiting: deque[Future[bytes]] = deque()
    yield _HEADER
    with ThreadPoolExecutor(threads) as pool:
        for block in _blocks(chunks):
            waiting.append(pool.submit(_deflate, block, before, level))
            checksum, size_bytes, before = zlib.crc32(block, checksum), size_bytes + len(block), block[-_WINDOW:]
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    yield b"\x03\x00" + struct.pack("<II", checksum, size_bytes & 0xFFFFFFFF)  # an empty last block, then the trailer


def _deflate(block: bytes, before: bytes, level: int) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_DEFAULT_STRATEGY, before)
    return deflater.compress(block) + deflater.flush(zlib.Z_SYNC_FLUSH)


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    parts: list[bytes] = []
    held = 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while held + len(rest) >= _BLOCK:
            taken = _BLOCK - held
            yield b"".join([*parts, rest[:taken]])
            parts, held, rest = [], 0, rest[taken:]
        if rest:
            parts.append(bytes(rest))
            held += len(rest)
    if parts:
        yield b"".join(parts)
