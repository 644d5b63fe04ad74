"""Bases: the root file systems that jobs and services run on, as OCI images in a layout.

A base is named by the digest of its manifest. It comes from one of three places:

    build_base     Debian or Ubuntu packages, by mmdebstrap, where no registry can be reached
    import_base    a registry, by digest, or another OCI layout on disk

and is unpacked once for each machine (`unpack_base`) to a folder that every
sandbox mounts read-only:

    <bases>/<hex>/base.json    {"digest", "python", "interpreter", "platform", "layers"}
    <bases>/<hex>/rootfs/      with the folders that sandboxes mount onto

The same packages give the same digest. Packages of another day are other bytes:
what is signed is a digest, never "the latest".

    python -m insitu.images.base --layout DIR [--rebuild]      builds or finds one; prints JSON
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform as machine
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insitu.domain.digests import Digest, digest_of_file, parse_digest
from insitu.domain.errors import InsituError, InvalidInputError, NotFoundError, UnavailableError
from insitu.domain.images import PLATFORMS, BaseImage, Descriptor, descriptor_from_oci
from insitu.images.debian import PACKAGES, install_packages, suite_of_this_machine
from insitu.images.gzip_stream import gzip_chunks
from insitu.images.layout import CONFIG, INDEX, LAYER_GZIP, MANIFEST, REF_NAME, OciLayout, canonical_json
from insitu.images.unpack import resolve_inside, unpack_layer

Progress = Callable[[str], object]

MOUNT_POINTS = ("dev", "proc", "sys", "run/insitu", "tmp", "job", "opt/env", "opt/insitu", "opt/model")
"""Folders that a sandbox mounts onto. A read-only root can't get them later."""

_FORMAT = "2"  # changes whenever the same packages would give other bytes
_KEY = "org.insitu.base.key"
_TAG = "insitu-base"
_EPOCH = "1970-01-01T00:00:00Z"
_MAX_UNPACKED_BYTES = 32 << 30
_LIKELY_INTERPRETERS = ("usr/local/bin/python3", "usr/bin/python3")


@dataclass(frozen=True)
class UnpackedBase:
    """A base on this machine's disk. `rootfs` is only ever used read-only."""

    rootfs: Path
    digest: Digest
    python: str  # e.g. "3.11"
    interpreter: str  # inside, e.g. "/usr/bin/python3"
    platform: str  # e.g. "x86_64-linux"


def this_platform() -> str:
    """This machine's platform, e.g. "x86_64-linux".

    Raises:
        UnavailableError: it's one that we have no base for.
    """
    name = f"{machine.machine()}-linux"
    if name not in PLATFORMS:
        raise UnavailableError(f"no base can be built on {machine.machine()}", limit=", ".join(PLATFORMS))
    return name


# Building from packages.


def build_base(
    layout: OciLayout,
    *,
    work_dir: Path,
    packages: Sequence[str] = PACKAGES,
    suite: str | None = None,
    rebuild: bool = False,
    progress: Progress = lambda _: None,
) -> BaseImage:
    """A base from the system's own kind of packages; what the layout has already is not built again.

    Args:
        work_dir: where ~300 MB may lie meanwhile.
        packages: what to put in beside the essential packages.
        suite: e.g. "bookworm"; by default the release that this machine runs, if it is Debian or Ubuntu.
        rebuild: build with today's packages even if there is one.

    Raises:
        UnavailableError: mmdebstrap is missing, or could not finish.
        UnreachableError: the packages' mirror didn't answer.
    """
    suite = suite or suite_of_this_machine()
    key = hashlib.sha256("\n".join([_FORMAT, suite, this_platform(), *sorted(packages)]).encode()).hexdigest()
    if not rebuild and (found := _already_built(layout, key)) is not None:
        return found
    work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="base-", dir=work_dir) as folder:
        tar = Path(folder) / "base.tar"
        progress(f"installing packages of {suite}")
        install_packages(suite, packages, tar, folders=MOUNT_POINTS)
        progress("compressing")
        layer = layout.put_blob(gzip_chunks(_chunks(tar), level=6), LAYER_GZIP)
        return _put_base(layout, layer, diff_id=digest_of_file(tar), key=key, suite=suite)


def _put_base(layout: OciLayout, layer: Descriptor, *, diff_id: Digest, key: str, suite: str) -> BaseImage:
    platform = this_platform()
    config = {
        "architecture": PLATFORMS[platform],
        "os": "linux",
        "created": _EPOCH,
        "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"], "Cmd": ["/usr/bin/python3"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": _EPOCH, "created_by": f"insitu: packages of {suite}"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.put_blob(canonical_json(config), CONFIG).as_oci(),
        "layers": [layer.as_oci()],
        "annotations": {_KEY: key, "org.opencontainers.image.title": f"insitu base ({suite})"},
    }
    digest = layout.put_manifest(manifest, tag=f"{_TAG}:{key[:12]}").digest
    return BaseImage(digest, platform, layer.size_bytes, (layer.digest,))


def _already_built(layout: OciLayout, key: str) -> BaseImage | None:
    for entry in layout.list():
        if entry.annotations.get(_KEY) == key:
            base = describe_base(layout, entry.digest)
            if all(layout.has(layer) for layer in base.layers):
                return base
    return None


# Taking one that exists.


def import_base(layout: OciLayout, source: str, *, platform: str | None = None, registry: Any = None) -> BaseImage:
    """A base from `oci:/folder[:tag|@digest]`, or from a registry as `host/name@sha256:…`.

    Args:
        platform: which of a multi-platform image; by default this machine's.
        registry: `RegistrySettings` for one that wants a login.

    Raises:
        InvalidInputError: a registry's image is named by a tag alone: it could be another one tomorrow.
        NotFoundError: there is none for this platform.
        IntegrityError: what arrived is not what the digest says.
    """
    platform = platform or this_platform()
    if source.startswith("oci:"):
        digest = _copy_from_layout(layout, source.removeprefix("oci:"), platform)
    else:
        from insitu.images.push import pull_image  # noqa: PLC0415 - httpx costs 60 ms, and most callers import nothing

        digest = pull_image(layout, source, platform=platform, settings=registry)
    base = describe_base(layout, digest)
    raw = layout.read(digest)
    kind = layout.manifest(digest).get("mediaType", MANIFEST)
    layout.put_raw_manifest(raw, kind, tag=f"{_TAG}:{digest.removeprefix('sha256:')[:12]}")
    return base


def describe_base(layout: OciLayout, digest: Digest) -> BaseImage:
    """The base that `digest` names in a layout.

    Raises:
        NotFoundError, IntegrityError, InvalidInputError: it isn't there, is damaged, or is no image.
    """
    manifest = layout.manifest(digest)
    layers = layers_of(manifest)
    config = json.loads(layout.read(config_of(manifest).digest))
    architecture = config.get("architecture")
    platform = next((ours for ours, theirs in PLATFORMS.items() if theirs == architecture), None)
    if platform is None or config.get("os") != "linux":
        raise InvalidInputError(
            f"{digest} is an image for {config.get('os')}/{architecture}", limit=", ".join(PLATFORMS)
        )
    size_bytes = sum(layer.size_bytes for layer in layers)
    return BaseImage(digest, platform, size_bytes, tuple(layer.digest for layer in layers), reused=True)


def layers_of(manifest: dict[str, Any]) -> tuple[Descriptor, ...]:
    """The layers of a manifest, lowest first.

    Raises:
        InvalidInputError: it has none, or is no image's manifest.
    """
    layers = manifest.get("layers")
    if not isinstance(layers, list) or not layers:
        raise InvalidInputError("this is not the manifest of an image", why="it has no layers")
    return tuple(descriptor_from_oci(layer, what="a layer") for layer in layers)


def config_of(manifest: dict[str, Any]) -> Descriptor:
    return descriptor_from_oci(manifest.get("config") or {}, what="the image's config")


def unpack_layers(layout: OciLayout, digest: Digest, rootfs: Path, *, max_bytes: int) -> None:
    """Apply every layer of an image to the empty folder `rootfs`, lowest first.

    Raises:
        InvalidInputError: the config speaks of other layers, or they are larger than `max_bytes` together.
        IntegrityError, DeniedError: as `unpack_layer` says.
    """
    manifest = layout.manifest(digest)
    config = json.loads(layout.read(config_of(manifest).digest))
    layers, diff_ids = layers_of(manifest), (config.get("rootfs") or {}).get("diff_ids") or []
    if len(diff_ids) != len(layers):
        raise InvalidInputError(f"the config of {digest} speaks of {len(diff_ids)} layers, not {len(layers)}")
    room = max_bytes
    for layer, diff_id in zip(layers, diff_ids, strict=True):
        room -= unpack_layer(layout, layer, rootfs, diff_id=parse_digest(diff_id), max_bytes=room)


def check_platform(image: BaseImage, platform: str) -> None:
    """Raise unless an image is for that platform.

    Raises:
        InvalidInputError: it is for another one.
    """
    if image.platform != platform:
        raise InvalidInputError(
            "the image is for another platform",
            code="image-platform",
            measure=image.platform,
            limit=platform,
            hint="name an image, or an index of several, that has one for the site's platform",
        )


def choose_platform(index: dict[str, Any], platform: str) -> Descriptor:
    """The manifest for `platform` in an index of several.

    Raises:
        NotFoundError: it has none.
    """
    for entry in index.get("manifests", []):
        wanted = entry.get("platform") or {}
        if wanted.get("os") == "linux" and wanted.get("architecture") == PLATFORMS[platform]:
            return descriptor_from_oci(entry, what="an entry of the image's index")
    raise NotFoundError(f"the image has nothing for {platform}", hint="choose an image that has, or another platform")


def _copy_from_layout(layout: OciLayout, place: str, platform: str) -> Digest:
    folder, mark, wanted = place.partition("@") if "@" in place else place.partition(":")
    other = OciLayout(Path(folder), create=False)
    named = other.list()
    if mark:
        found = other.resolve(wanted)
    elif len(named) == 1:
        found = named[0]
    else:
        tags = ", ".join(entry.annotations.get(REF_NAME, entry.digest) for entry in named) or "nothing"
        raise InvalidInputError(f"{folder} has {len(named)} images", why=tags, hint=f"name one: oci:{folder}:TAG")
    manifest = other.manifest(found.digest)
    if manifest.get("mediaType") == INDEX or "manifests" in manifest:
        found = choose_platform(manifest, platform)
        manifest = other.manifest(found.digest)
    for blob in (*layers_of(manifest), config_of(manifest)):
        if not layout.has(blob.digest):
            layout.put_blob(other.chunks(blob.digest), blob.media_type, expected=blob.digest)
    layout.put_raw_manifest(other.read(found.digest), MANIFEST)
    return found.digest


# Unpacking.


def unpack_base(
    layout: OciLayout, digest: Digest, bases_dir: Path, *, max_bytes: int = _MAX_UNPACKED_BYTES
) -> UnpackedBase:
    """A base as a folder, unpacked at most once for each `bases_dir`. Every byte is compared with its digest.

    Raises:
        NotFoundError: the layout doesn't have it.
        IntegrityError: a layer is damaged.
        DeniedError: a layer has an entry that leads outside.
        InvalidInputError: it has no Python 3, or is larger than `max_bytes`.
    """
    place = bases_dir / parse_digest(digest).removeprefix("sha256:")
    found = _unpacked(place)
    if found is not None:
        return found
    base = describe_base(layout, digest)
    bases_dir.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".work-", dir=bases_dir))
    try:
        rootfs = work / "rootfs"
        rootfs.mkdir(mode=0o755)
        unpack_layers(layout, digest, rootfs, max_bytes=max_bytes)
        for name in MOUNT_POINTS:
            resolve_inside(rootfs, name).mkdir(parents=True, exist_ok=True)
        _publish(work, place, base)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    found = _unpacked(place)
    assert found is not None, "just published"
    return found


def _publish(work: Path, place: Path, base: BaseImage) -> None:
    interpreter, python = _find_python(work / "rootfs")
    fields = {
        "digest": base.digest,
        "python": python,
        "interpreter": interpreter,
        "platform": base.platform,
        "layers": list(base.layers),
    }
    (work / "base.json").write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    work.chmod(0o755)
    os.sync()
    try:
        work.rename(place)
    except OSError:
        if _unpacked(place) is None:  # else another process was faster
            raise


def _unpacked(place: Path) -> UnpackedBase | None:
    try:
        fields = json.loads((place / "base.json").read_bytes())
    except FileNotFoundError:
        return None
    rootfs = place / "rootfs"
    digest = parse_digest(fields["digest"])
    return UnpackedBase(rootfs, digest, fields["python"], fields["interpreter"], fields["platform"])


def _find_python(rootfs: Path) -> tuple[str, str]:
    for name in _LIKELY_INTERPRETERS:
        place = resolve_inside(rootfs, name)
        # python3 is a link to python3.11, whose name is the only thing that says so without running it.
        while place.is_symlink():
            target = str(place.readlink())
            place = resolve_inside(rootfs, target if target.startswith("/") else f"{name.rpartition('/')[0]}/{target}")
        version = re.fullmatch(r"python(3\.\d+)", place.name)
        if version and place.is_file():
            return f"/{name}", version[1]
    raise InvalidInputError(
        "the base has no Python 3", limit=", ".join(_LIKELY_INTERPRETERS), hint="choose an image with Python"
    )


def find_interpreter(rootfs: Path, python: str) -> str:
    """Where in an unpacked base its Python is, e.g. "/usr/bin/python3".

    Raises:
        InvalidInputError: it has none, or one of another version than `python`.
    """
    interpreter, found = _find_python(rootfs)
    if found != python:
        raise InvalidInputError(f"the base has Python {found}, and the environment is for {python}", code="environment")
    return interpreter


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            yield chunk


def main() -> int:
    """The program behind `make base-image`."""
    parser = argparse.ArgumentParser(prog="python -m insitu.images.base", description="Build a base image, or find it.")
    parser.add_argument("--layout", type=Path, required=True, help="OCI layout to put it in")
    parser.add_argument("--work-dir", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--suite", help="e.g. bookworm; by default this machine's")
    parser.add_argument("--rebuild", action="store_true", help="build with today's packages even if there is one")
    given = parser.parse_args()
    try:
        base = build_base(
            OciLayout(given.layout),
            work_dir=given.work_dir,
            suite=given.suite,
            rebuild=given.rebuild,
            progress=lambda text: sys.stderr.write(f"{text}\n"),
        )
    except InsituError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    fields = {"digest": base.digest, "platform": base.platform, "size_bytes": base.size_bytes, "reused": base.reused}
    sys.stdout.write(json.dumps(fields) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
