"""Images for tests, made of layers that a test writes, in an OCI layout."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from insitu.domain.digests import Digest, digest_of
from insitu.images.base import config_of, layers_of
from insitu.images.layout import CONFIG, LAYER_GZIP, MANIFEST, OciLayout, canonical_json


def tar_of(files: Mapping[str, bytes], *more: tarfile.TarInfo) -> bytes:
    """A layer: files by name, each executable, and entries of any kind."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for entry in more:
            archive.addfile(entry)
    return made.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    return entry


def make_image(
    layout: OciLayout,
    *tars: bytes,
    below: tuple[OciLayout, Digest] | None = None,
    env: Iterable[str] = ("PATH=/usr/local/bin:/usr/bin:/bin",),
    architecture: str = "amd64",
) -> Digest:
    """An image of these layers, on those of `below`; the digest of its manifest."""
    layers: list[dict[str, Any]] = []
    diff_ids: list[str] = []
    if below is not None:
        other, digest = below
        manifest = other.manifest(digest)
        config = other.manifest(config_of(manifest).digest)
        diff_ids += config["rootfs"]["diff_ids"]
        for layer in layers_of(manifest):
            layers.append(layout.put_blob(other.chunks(layer.digest), layer.media_type).as_oci())
    for tar in tars:
        layers.append(layout.put_blob(gzip.compress(tar, 1, mtime=0), LAYER_GZIP).as_oci())
        diff_ids.append(digest_of(tar))
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": list(env)},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    stored = layout.put_blob(canonical_json(config), CONFIG)
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": stored.as_oci(), "layers": layers}
    return layout.put_manifest(document, tag="test:1").digest


def only_image(layout: Path) -> tuple[OciLayout, Digest]:
    """The one image of a layout."""
    opened = OciLayout(layout, create=False)
    (entry,) = opened.list()
    return opened, entry.digest
