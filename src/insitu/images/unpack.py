"""Unpacks layers of an OCI image into a folder, without trusting them.

A layer is a tar that somebody else may have made. Nothing in it reaches outside
the folder: names with `..` are refused, and the way to a name is walked as if
the folder were `/`, so a symbolic link in an earlier entry leads nowhere else.
Devices and pipes are left out, and so are set-user-id bits: what runs on a base
has no use for them. Bytes, entries and what the tar says of them are bounded: a layer of
a few kilobytes may unpack to more than any disk has.

Whiteouts (`.wh.name`, `.wh..wh..opq`) remove what layers below brought, as the
OCI image specification 1.1, "Representing Changes", says. Extended attributes
are not kept. Nobody else may write to the folder meanwhile.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from insitu.domain.digests import Digest
from insitu.domain.errors import DeniedError, IntegrityError, InvalidInputError, UnavailableError
from insitu.domain.images import Descriptor
from insitu.images.layout import OciLayout

_CHUNK = 1 << 20
_MAX_ENTRIES = 2_000_000  # of one layer: files of no bytes take inodes all the same
_MAX_HEADER_BYTES = 1 << 20  # of what a tar says of one entry, which is read into memory
_MAX_OVERHEAD = 4 * 512  # bytes of a tar for an entry, beside its content and its extended header
_MAX_LINKS = 40  # as Linux: more symbolic links than this on one way are a loop
_OPAQUE = ".wh..wh..opq"
_WHITEOUT = ".wh."


def unpack_layer(layout: OciLayout, layer: Descriptor, root: Path, *, diff_id: Digest | None, max_bytes: int) -> int:
    """Apply one layer to `root`; returns the bytes of its files.

    Raises:
        IntegrityError: the blob, or what it unpacks to, is not what the digests say.
        DeniedError: an entry would lie outside `root`.
        InvalidInputError: it isn't a tar, or is larger than `max_bytes` when unpacked ("image-too-large").
        UnavailableError: its compression can't be read here.
    """
    layout.check(layer.digest)  # before anything in it is parsed
    with layout.blob_path(layer.digest).open("rb") as blob, _decompressed(blob, layer.media_type) as plain:
        # Whatever a tar has between its files is not counted with them, and must end all the same.
        content = _Hashing(plain, max_bytes + _MAX_ENTRIES * _MAX_OVERHEAD)
        try:
            size_bytes = _apply(content, root, max_bytes)
            content.drain()
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InvalidInputError(f"layer {layer.digest} is not a tar", why=str(error)) from error
    if diff_id is not None and content.digest != diff_id:
        raise IntegrityError(f"layer {layer.digest} unpacks to something else", why=f"its config says {diff_id}")
    return size_bytes


def resolve_inside(root: Path, name: str) -> Path:
    """Where `name` lies when `root` is `/`: links on the way are followed inside `root`; the last part is not.

    Raises:
        DeniedError: the name has `..` in it, or its links go round in circles.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise DeniedError(f"a layer has an entry {name[:200]!r}", rule="path-traversal", hint="use another image")
    if not parts:
        return root
    at = root
    pending = parts[:-1][::-1]
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":  # only from a link's target; at the top it stays, as in a chroot
            at = at if at == root else at.parent
            continue
        following = at / part
        if following.is_symlink():
            links += 1
            if links > _MAX_LINKS:
                raise DeniedError(f"a layer's links to {name[:200]!r} go in circles", rule="path-traversal")
            target = str(following.readlink())
            at = root if target.startswith("/") else at
            pending += [step for step in target.split("/") if step not in ("", ".")][::-1]
        else:
            at = following
    return at / parts[-1]


def _apply(stream: _Hashing, root: Path, max_bytes: int) -> int:
    made: set[Path] = set()  # by this layer: an opaque whiteout removes only what was below
    total = 0
    folders: list[tuple[Path, tarfile.TarInfo]] = []
    with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", tarinfo=_Entry) as archive:
        for number, entry in enumerate(archive):
            total += entry.size if entry.isreg() else 0
            if total > max_bytes:
                raise _too_large(f"over {total} bytes", f"{max_bytes} bytes")
            if number >= _MAX_ENTRIES:
                raise _too_large(f"over {_MAX_ENTRIES} entries in a layer", f"{_MAX_ENTRIES} entries")
            archive.members = []  # pyright: ignore[reportAttributeAccessIssue] - it keeps all that it has read
            place = resolve_inside(root, entry.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.name.startswith(_WHITEOUT):
                _white_out(place, made)
                continue
            made.add(place)
            if entry.isdir():
                _make_folder(place, root)
                folders.append((place, entry))
            else:
                _make_entry(archive, entry, place, root)
    for place, entry in reversed(folders):  # last, so that a folder without write permission can be filled
        if place.is_dir() and not place.is_symlink():
            _finish(place, entry)
    return total


class _Entry(tarfile.TarInfo):
    """Of an entry no more is read into memory than a name and a few attributes take."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        extended = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
        if self.type in (*extended, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            if self.size > _MAX_HEADER_BYTES:
                raise _too_large(f"{self.size} bytes to say of one entry", f"{_MAX_HEADER_BYTES} bytes")
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return] - the hook that tarfile has for subclasses


def _too_large(measure: str, limit: str) -> InvalidInputError:
    return InvalidInputError(
        "the image is too large to be unpacked here",
        code="image-too-large",
        rule="image-size",
        measure=measure,
        limit=limit,
        hint="use a smaller image, or free some disk at the site",
    )


def _white_out(marker: Path, made: set[Path]) -> None:
    if marker.name == _OPAQUE:
        for entry in list(marker.parent.iterdir()):
            if not any(entry == one or entry in one.parents for one in made):
                _remove(entry)
        return
    hidden = marker.name.removeprefix(_WHITEOUT)
    if hidden in ("", ".", ".."):
        raise DeniedError(f"a layer has a whiteout {marker.name!r}", rule="path-traversal")
    _remove(marker.with_name(hidden))


def _make_folder(place: Path, root: Path) -> None:
    if place != root and (place.is_symlink() or not place.is_dir()):
        _remove(place)
        place.mkdir()


def _make_entry(archive: tarfile.TarFile, entry: tarfile.TarInfo, place: Path, root: Path) -> None:
    if not (entry.isreg() or entry.issym() or entry.islnk()):
        return  # a device or a pipe
    if place == root:
        raise DeniedError("a layer replaces the root by a file", rule="path-traversal")
    _remove(place)
    if entry.issym():
        place.symlink_to(entry.linkname)
    elif entry.islnk():
        other = resolve_inside(root, entry.linkname)
        if other.is_symlink() or not other.is_file():
            raise InvalidInputError(f"a layer links {entry.name[:200]!r} to what isn't a file of the image")
        os.link(other, place)
    else:
        content = archive.extractfile(entry)
        assert content is not None, "a regular file has content"
        with place.open("xb") as stream:
            shutil.copyfileobj(content, stream, _CHUNK)
        _finish(place, entry)


def _finish(place: Path, entry: tarfile.TarInfo) -> None:
    if os.geteuid() == 0:
        os.chown(place, entry.uid, entry.gid)
    keep = 0o1777 if entry.isdir() else 0o777  # never set-user-id
    place.chmod(entry.mode & keep)
    os.utime(place, (entry.mtime, entry.mtime))


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


@contextmanager
def _decompressed(blob: IO[bytes], media_type: str) -> Iterator[IO[bytes]]:
    if media_type.endswith(("+gzip", ".gzip")):
        with gzip.GzipFile(fileobj=blob) as plain:
            yield cast("IO[bytes]", plain)
    elif media_type.endswith("+zstd"):
        with _zstd(blob) as plain:
            yield plain
    elif media_type.endswith(".tar"):
        yield blob
    else:
        raise InvalidInputError(f"a layer of the kind {media_type[:100]!r} can't be read", limit="tar, gzip, zstd")


@contextmanager
def _zstd(blob: IO[bytes]) -> Iterator[IO[bytes]]:
    program = shutil.which("zstd")
    if program is None:
        raise UnavailableError("a layer is compressed with zstd", why="there is no zstd here", hint="apt install zstd")
    with subprocess.Popen([program, "-dcq", "-"], stdin=blob, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None, "asked for a pipe"
        yield process.stdout
    if process.returncode != 0:
        raise InvalidInputError("a layer is not zstd")


class _Hashing:
    """A stream that knows the digest of what was read from it."""

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self.file = file
        self._hash = hashlib.sha256()
        self._left = max_bytes

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise _too_large("more than its files account for", "a tar of its size")
        self._hash.update(data)
        return data

    def drain(self) -> None:
        while self.read(_CHUNK):
            pass

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hash.hexdigest()}")
