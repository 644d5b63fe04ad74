"""Layers: folders as tar files that are the same bytes each time.

Entries are sorted; owner 0:0, time 0, modes 0644 or 0755; no devices, no extended
headers with times or names. Reading a tree and hashing it costs more than
writing headers, so the writer is a few lines of our own: Python's tarfile is
3.7 times slower on trees of small files.

Format: POSIX ustar (IEEE 1003.1, pax utility), with GNU long names ('L', 'K') for
what doesn't fit its 255 bytes and GNU base-256 sizes from 8 GiB on, which every
reader of image layers understands.

`LayerCache` remembers, for a thing named by a key, which blob its layer became,
so that the second image on the same environment only packs its model.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from insitu.domain.digests import Digest, parse_digest
from insitu.domain.errors import ConflictError, InvalidInputError, NotFoundError
from insitu.domain.images import Descriptor
from insitu.images.gzip_stream import gzip_chunks
from insitu.images.layout import LAYER_GZIP, LAYER_TAR, OciLayout

GZIP_LEVEL = 1
"""Measured on an environment of 280 MB: level 1 takes two thirds of level 6's time for 15 % more bytes."""

_FORMAT = "1"  # changes whenever the same tree would give other bytes
_BLOCK = 512
_CHUNK = 1 << 20
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12x")
_USTAR, _GNU = b"ustar\x0000", b"ustar  \0"
_FILE, _LINK, _FOLDER, _LONG_LINK, _LONG_NAME = b"0", b"2", b"5", b"K", b"L"


@dataclass(frozen=True)
class Layer:
    """A layer in a layout. `diff_id` is the digest of the tar before compression."""

    descriptor: Descriptor
    diff_id: Digest
    reused: bool = False


@dataclass(frozen=True)
class Entry:
    """One thing to pack. `name` has no leading slash; folders end with one."""

    name: str
    source: Path | bytes | None = None  # a file's path or content; None for a folder or link
    target: str = ""  # of a symbolic link
    executable: bool = False


def entries_of(folder: Path, prefix: str, *, keep: Callable[[str], bool] = lambda _: True) -> list[Entry]:
    """Everything in `folder`, to be found below `prefix` in the image.

    Args:
        keep: asked with the relative name; False leaves it (of a folder: with all in it) out.

    Raises:
        InvalidInputError: it holds something that is no file, folder or symbolic link.
    """
    found: list[Entry] = []
    pending = [""]
    while pending:
        relative = pending.pop()
        with os.scandir(folder / relative) as children:
            for child in children:
                name = f"{relative}{child.name}"
                if not keep(name):
                    continue
                if child.is_symlink():
                    found.append(Entry(f"{prefix}/{name}", target=str(Path(child.path).readlink())))
                elif child.is_dir():
                    found.append(Entry(f"{prefix}/{name}/"))
                    pending.append(f"{name}/")
                elif child.is_file():
                    mode = child.stat().st_mode
                    found.append(Entry(f"{prefix}/{name}", Path(child.path), executable=bool(mode & stat.S_IXUSR)))
                else:
                    raise InvalidInputError(f"{child.path} can't be put into an image", why="it is a device or a pipe")
    return found


def parents_of(prefix: str) -> list[Entry]:
    """The folders above and at `prefix`: layers name them, so that their modes don't depend on the reader."""
    parts = prefix.split("/")
    return [Entry("/".join(parts[: count + 1]) + "/") for count in range(len(parts))]


def tar_chunks(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The entries as a tar, in pieces.

    Raises:
        ConflictError: a file changed while it was read.
    """
    for entry in sorted(entries, key=lambda one: one.name.rstrip("/").encode()):
        name = os.fsencode(entry.name)
        if entry.target:
            yield _header(name, _LINK, 0o777, 0, os.fsencode(entry.target))
        elif entry.source is None:
            yield _header(name, _FOLDER, 0o755, 0)
        else:
            yield from _file_chunks(name, entry.source, 0o755 if entry.executable else 0o644)
    yield bytes(2 * _BLOCK)


def write_layer(layout: OciLayout, entries: Iterable[Entry], *, compress: bool) -> Layer:
    """Pack entries into a layout. Uncompressed is faster for images that never leave the machine."""
    plain = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for chunk in _gathered(tar_chunks(entries)):
            plain.update(chunk)
            yield chunk

    chunks = gzip_chunks(hashed(), level=GZIP_LEVEL) if compress else hashed()
    stored = layout.put_blob(chunks, LAYER_GZIP if compress else LAYER_TAR)
    return Layer(stored, Digest(f"sha256:{plain.hexdigest()}"))


class LayerCache:
    """Key → layer, beside the blobs of a layout. A wrong or lost entry costs time only."""

    def __init__(self, layout: OciLayout) -> None:
        self._layout = layout
        self._folder = layout.path / ".layers"

    def layer(self, key: str, entries: Callable[[], Iterable[Entry]], *, compress: bool) -> Layer:
        """The layer of the thing that `key` names, packed now or before. The key must name its bytes."""
        place = self._folder / hashlib.sha256(f"{_FORMAT} {GZIP_LEVEL} {compress} {key}".encode()).hexdigest()
        found = self._read(place)
        if found is not None:
            return found
        made = write_layer(self._layout, entries(), compress=compress)
        self._write(place, made)
        return made

    def _read(self, place: Path) -> Layer | None:
        try:
            fields = json.loads(place.read_bytes())
            digest = parse_digest(fields["digest"])
            if self._layout.size_of(digest) != fields["size_bytes"]:
                return None
            descriptor = Descriptor(fields["media_type"], digest, fields["size_bytes"])
            return Layer(descriptor, parse_digest(fields["diff_id"]), reused=True)
        except (OSError, ValueError, KeyError, TypeError, InvalidInputError, NotFoundError):
            return None

    def _write(self, place: Path, layer: Layer) -> None:
        self._folder.mkdir(exist_ok=True)
        fields = {
            "digest": layer.descriptor.digest,
            "size_bytes": layer.descriptor.size_bytes,
            "media_type": layer.descriptor.media_type,
            "diff_id": layer.diff_id,
        }
        with tempfile.NamedTemporaryFile("w", dir=self._folder, delete=False) as stream:
            json.dump(fields, stream)
        Path(stream.name).replace(place)


def _file_chunks(name: bytes, source: Path | bytes, mode: int) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield _header(name, _FILE, mode, len(source)) + source + bytes(-len(source) % _BLOCK)
        return
    handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(handle).st_size
        yield _header(name, _FILE, mode, size)
        left = size
        while left:
            chunk = os.read(handle, min(left, _CHUNK))
            if not chunk:
                raise ConflictError(f"{source} shrank while it was packed", hint="build the image again")
            left -= len(chunk)
            yield chunk
    finally:
        os.close(handle)
    yield bytes(-size % _BLOCK)


def _header(name: bytes, kind: bytes, mode: int, size: int, target: bytes = b"") -> bytes:
    long = b""
    magic, prefix = _USTAR, b""
    if len(target) > 100:
        long, magic = _long(_LONG_LINK, target), _GNU
    if len(name) > 100:
        cut = name.rfind(b"/", 0, min(156, len(name) - 1))
        if cut > 0 and len(name) - cut - 1 <= 100 and magic == _USTAR:
            prefix, name = name[:cut], name[cut + 1 :]
        else:
            long, magic = long + _long(_LONG_NAME, name), _GNU
    return long + _block(name[:100], kind, mode, size, target[:100], magic, prefix)


def _long(kind: bytes, text: bytes) -> bytes:
    block = _block(b"././@LongLink", kind, 0, len(text) + 1, b"", _GNU, b"")
    return block + text + bytes(_BLOCK - len(text) % _BLOCK)


def _block(name: bytes, kind: bytes, mode: int, size: int, target: bytes, magic: bytes, prefix: bytes) -> bytes:
    octal = b"%011o\0" % size if size < 8 << 30 else b"\x80" + size.to_bytes(11, "big")
    zero = b"0000000\0"
    fields = (name, b"%07o\0" % mode, zero, zero, octal, b"00000000000\0", b" " * 8)
    rest = (kind, target, magic, b"", b"", b"", b"", prefix)
    header = bytearray(_HEADER.pack(*fields, *rest))
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    # Small files give small pieces: hashing and writing cost less in large ones.
    parts: list[bytes] = []
    held = 0
    for chunk in chunks:
        parts.append(chunk)
        held += len(chunk)
        if held >= _CHUNK:
            yield b"".join(parts)
            parts, held = [], 0
    yield b"".join(parts)
