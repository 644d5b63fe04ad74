"""An OCI image layout on disk: where images, bases and layers are kept by digest.

    <path>/oci-layout          {"imageLayoutVersion": "1.0.0"}
    <path>/index.json          tags: which manifest has which name
    <path>/blobs/sha256/<hex>  bytes, named by their digest

A blob appears whole or not at all: it is written beside, flushed to disk,
then renamed. Whoever reads gets the bytes that the digest says or an
`IntegrityError`. Several processes may use one layout: `index.json` changes
under a lock and by replacement; blobs need no lock, since two writers of one
name write the same bytes.

Nothing is deleted here: collecting garbage needs to know what is still
signed for, which a layout does not.

Form: OCI image specification 1.1, "Image Layout".
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from insitu.domain.digests import Digest, check_digest, digest_of, parse_digest
from insitu.domain.errors import IntegrityError, InvalidInputError, NotFoundError
from insitu.domain.images import Descriptor, check_tag, descriptor_from_oci

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
REF_NAME = "org.opencontainers.image.ref.name"

_CHUNK = 1 << 20  # bytes
_MAX_DOCUMENT_BYTES = 8 << 20  # of a manifest, index or config: these are read into memory


class OciLayout:
    """One layout. Opening makes it unless `create` is false."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        self._blobs = path / "blobs" / "sha256"
        if create and not (path / "oci-layout").exists():
            self._create()
        _check_marker(path)

    def _create(self) -> None:
        self._blobs.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if not (self.path / "index.json").exists():
                self._write_index([])
            # The marker last: whoever sees it finds the rest in place.
            _replace(self.path / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')

    # Blobs.

    def blob_path(self, digest: Digest) -> Path:
        return self._blobs / parse_digest(digest).removeprefix("sha256:")

    def has(self, digest: Digest) -> bool:
        return self.blob_path(digest).is_file()

    def size_of(self, digest: Digest) -> int:
        """Bytes of a stored blob.

        Raises:
            NotFoundError: it isn't here.
        """
        try:
            return self.blob_path(digest).stat().st_size
        except FileNotFoundError:
            raise _no_blob(self.path, digest) from None

    def put_blob(self, data: bytes | Iterable[bytes], media_type: str, *, expected: Digest | None = None) -> Descriptor:
        """Store bytes under their digest; storing them again changes nothing.

        Raises:
            IntegrityError: the bytes don't have the digest `expected`. Nothing is kept.
        """
        if isinstance(data, bytes):
            digest = digest_of(data)
            # Compared, not assumed: storing again mends a blob that was damaged.
            if expected is None and self.has(digest) and self.blob_path(digest).read_bytes() == data:
                return Descriptor(media_type, digest, len(data))
            data = (data,)
        with BlobWriter(self) as writer:
            for chunk in data:
                writer.write(chunk)
            return writer.commit(media_type, expected=expected)

    def read(self, digest: Digest) -> bytes:
        """A small blob (manifest, config), checked.

        Raises:
            NotFoundError: it isn't here.
            IntegrityError: the stored bytes are others, or more than a document may have.
        """
        if self.size_of(digest) > _MAX_DOCUMENT_BYTES:
            raise IntegrityError(f"{digest} is too large for a manifest", limit=f"{_MAX_DOCUMENT_BYTES} bytes")
        data = self.blob_path(digest).read_bytes()
        check_digest(data, digest, what=f"blob {digest} in {self.path}")
        return data

    def chunks(self, digest: Digest) -> Iterator[bytes]:
        """The bytes of a blob in pieces; the last one comes only when the whole had its digest.

        Raises:
            NotFoundError: it isn't here.
            IntegrityError: at the end, when the stored bytes are others.
        """
        seen = hashlib.sha256()
        pending = b""
        try:
            stream = self.blob_path(digest).open("rb")
        except FileNotFoundError:
            raise _no_blob(self.path, digest) from None
        with stream:
            while chunk := stream.read(_CHUNK):
                if pending:
                    yield pending
                seen.update(chunk)
                pending = chunk
        if f"sha256:{seen.hexdigest()}" != digest:
            raise damaged(self.path, digest)
        yield pending

    def check(self, digest: Digest) -> None:
        """Read a blob through and compare.

        Raises:
            NotFoundError, IntegrityError: as `chunks`.
        """
        for _ in self.chunks(digest):
            pass

    # Manifests and tags.

    def put_manifest(self, manifest: Mapping[str, Any], *, tag: str | None = None) -> Descriptor:
        """Store a manifest; `tag` names it from now on, and whatever had that name loses it."""
        raw = canonical_json(manifest)
        return self.put_raw_manifest(raw, str(manifest.get("mediaType", MANIFEST)), tag=tag)

    def put_raw_manifest(self, raw: bytes, media_type: str, *, tag: str | None = None) -> Descriptor:
        """As `put_manifest`, for bytes made elsewhere: their digest is kept."""
        stored = self.put_blob(raw, media_type)
        if tag is not None:
            self._tag(stored, check_tag(tag), _annotations(raw))
        return stored

    def manifest(self, digest: Digest) -> dict[str, Any]:
        """A stored manifest as JSON.

        Raises:
            NotFoundError, IntegrityError: as `read`.
            InvalidInputError: it isn't JSON of an object.
        """
        return parse_document(self.read(digest), what=f"manifest {digest}")

    def list(self) -> list[Descriptor]:
        """All tagged manifests, in the order of index.json; the tag is the annotation `REF_NAME`."""
        document = parse_document((self.path / "index.json").read_bytes(), what=f"{self.path}/index.json")
        entries = document.get("manifests", [])
        return [descriptor_from_oci(entry, what=f"an entry of {self.path}/index.json") for entry in entries]

    def resolve(self, reference: str) -> Descriptor:
        """The manifest that a tag or digest names; of `name:tag@digest` the digest counts, since a tag may move.

        Raises:
            NotFoundError: nothing has that name here.
        """
        tag, _, digest = reference.rpartition("@") if "@" in reference else (reference, "", "")
        if reference.startswith("sha256:"):
            tag, digest = "", reference
        known = self.list()
        if digest:
            wanted = parse_digest(digest)
            named = next((entry for entry in known if entry.digest == wanted), None)
            if named is None and self.has(wanted):
                named = Descriptor(MANIFEST, wanted, self.size_of(wanted))
        else:
            named = next((entry for entry in known if entry.annotations.get(REF_NAME) == tag), None)
        if named is None:
            raise NotFoundError(
                f"no image {reference!r} in {self.path}",
                hint="`insitu image list` shows what there is",
            )
        return named

    def _tag(self, stored: Descriptor, tag: str, annotations: Mapping[str, str]) -> None:
        with self._locked():
            others = [entry for entry in self.list() if entry.annotations.get(REF_NAME) != tag]
            named = replace(stored, annotations={**annotations, REF_NAME: tag})
            self._write_index([*others, named])

    def _write_index(self, entries: Iterable[Descriptor]) -> None:
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry.as_oci() for entry in entries]}
        _replace(self.path / "index.json", canonical_json(document))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.path / ".index.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class BlobWriter:
    """Writes one blob whose digest is known only at the end. Without `commit`, nothing stays."""

    def __init__(self, layout: OciLayout) -> None:
        self._layout = layout
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        folder = layout.blob_path(digest_of(b"")).parent
        handle, name = tempfile.mkstemp(prefix=".part-", dir=folder)
        self._temporary: Path | None = Path(name)
        self._stream: IO[bytes] = os.fdopen(handle, "wb", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self._size_bytes += len(chunk)
        rest = memoryview(chunk)
        while rest:  # an unbuffered write may take less than it is given
            rest = rest[self._stream.write(rest) :]

    def commit(self, media_type: str, *, expected: Digest | None = None) -> Descriptor:
        """Make the blob visible under its digest.

        Raises:
            IntegrityError: it isn't `expected`.
        """
        digest = Digest(f"sha256:{self._hash.hexdigest()}")
        if expected is not None and digest != expected:
            raise IntegrityError(
                f"blob {expected} arrived as something else",
                why=f"its bytes have the digest {digest}",
                hint="fetch it again; if it happens twice, the source is damaged",
            )
        assert self._temporary is not None, "commit is called once"
        os.fchmod(self._stream.fileno(), 0o644)
        os.fsync(self._stream.fileno())
        self._temporary.replace(self._layout.blob_path(digest))
        self._temporary = None
        _sync_folder(self._layout.blob_path(digest).parent)
        return Descriptor(media_type, digest, self._size_bytes)


def canonical_json(document: Mapping[str, Any]) -> bytes:
    """Sorted keys, no spaces: the same document is the same bytes each time."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_document(raw: bytes, *, what: str) -> dict[str, Any]:
    """JSON that must be an object.

    Raises:
        InvalidInputError: it isn't.
    """
    try:
        document = json.loads(raw)
    except ValueError as error:
        raise InvalidInputError(f"{what} is not JSON", why=str(error)) from error
    if not isinstance(document, dict):
        raise InvalidInputError(f"{what} is not a JSON object")
    return cast("dict[str, Any]", document)


def damaged(path: Path, digest: Digest) -> IntegrityError:
    return IntegrityError(
        f"blob {digest} in {path} is damaged",
        why="its bytes don't have the digest that names it",
        hint="delete that file and build or pull again",
    )


def _no_blob(path: Path, digest: Digest) -> NotFoundError:
    return NotFoundError(f"no blob {digest} in {path}", hint="build or pull the image again")


def _annotations(raw: bytes) -> Mapping[str, str]:
    given = parse_document(raw, what="the manifest").get("annotations") or {}
    return {str(key): str(value) for key, value in given.items()}


def _check_marker(path: Path) -> None:
    try:
        marker = json.loads((path / "oci-layout").read_bytes())
    except FileNotFoundError:
        raise NotFoundError(f"{path} is not an OCI image layout", why="it has no file oci-layout") from None
    except ValueError as error:
        raise InvalidInputError(f"{path}/oci-layout is not JSON", why=str(error)) from error
    if not isinstance(marker, dict) or marker.get("imageLayoutVersion") != "1.0.0":
        raise InvalidInputError(f"{path} is an OCI layout of another version", limit="imageLayoutVersion 1.0.0")


def _replace(path: Path, data: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
        os.fchmod(stream.fileno(), 0o644)
        stream.flush()
        os.fsync(stream.fileno())
    Path(name).replace(path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
