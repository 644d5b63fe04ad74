"""An image that a job brings as its environment, unpacked to the root of its sandboxes.

Fetched by digest, compared with it, unpacked once (`unpack` says what of a layer is
refused or left out), and from then on only mounted, read-only:

    <images>/<hex>/image.json    {"digest", "interpreter", "env"}
    <images>/<hex>/rootfs/

An image may hold anything, for what runs in it is as little trusted as a job's code. But
it must leave room for what a sandbox mounts, have a Python, and none of the one file by
which a root tells every loader what to load (`/etc/ld.so.preload`): our own programs run
beside it (`insitu.sandbox.beside`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insitu.domain.digests import Digest, parse_digest
from insitu.domain.errors import DeniedError, InvalidInputError
from insitu.images.base import check_platform, config_of, describe_base, unpack_layers
from insitu.images.layout import OciLayout
from insitu.images.unpack import resolve_inside

MAX_UNPACKED_BYTES = 64 << 30
USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_OURS = ("job", "opt/env", "opt/insitu", "opt/model", "smoke")
"""Folders that sandboxes and services mount onto."""
_MAX_ENV_BYTES = 64 << 10
_MAX_LINKS = 40


@dataclass(frozen=True)
class JobImage:
    """An unpacked image. `rootfs` is only ever used read-only."""

    digest: Digest
    rootfs: Path
    interpreter: str
    """`python3` on the image's PATH, as a path inside."""
    env: Mapping[str, str]
    """What the image's config sets."""

    @property
    def path(self) -> str:
        return self.env.get("PATH", USUAL_PATH)


def find_image(digest: Digest, folder: Path) -> JobImage | None:
    """The image, if it is unpacked there."""
    place = folder / parse_digest(digest).removeprefix("sha256:")
    try:
        fields = json.loads((place / "image.json").read_bytes())
    except FileNotFoundError:
        return None
    return JobImage(Digest(fields["digest"]), place / "rootfs", fields["interpreter"], fields["env"])


def unpack_image(
    layout: OciLayout, digest: Digest, folder: Path, *, platform: str, max_bytes: int = MAX_UNPACKED_BYTES
) -> JobImage:
    """Unpack an image whose blobs are all in `layout`, unless that was done before.

    Raises:
        NotFoundError: the layout lacks a part.
        IntegrityError: a part is not what its digest says.
        DeniedError: a layer has an entry that leads outside ("path-traversal"), or the image stands where a sandbox
            mounts, or sets what loaders load ("image-refused").
        InvalidInputError: it is for another platform, too large, or has no `python3` on its PATH ("image-python").
    """
    found = find_image(digest, folder)
    if found is not None:
        return found
    check_platform(describe_base(layout, digest), platform)
    config = json.loads(layout.read(config_of(layout.manifest(digest)).digest))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    work = Path(tempfile.mkdtemp(prefix=".work-", dir=folder))
    try:
        rootfs = work / "rootfs"
        rootfs.mkdir(mode=0o755)
        unpack_layers(layout, digest, rootfs, max_bytes=max_bytes)
        check_leaves_room(rootfs)
        env = _env_of(config)
        interpreter = find_python(rootfs, env.get("PATH", USUAL_PATH))
        fields = {"digest": digest, "interpreter": interpreter, "env": env}
        (work / "image.json").write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
        rootfs.chmod(0o755)
        work.chmod(0o755)
        os.sync()
        work.rename(folder / digest.removeprefix("sha256:"))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return JobImage(digest, folder / digest.removeprefix("sha256:") / "rootfs", interpreter, env)


def check_leaves_room(rootfs: Path) -> None:
    """Raise where an image has something of its own in a place that is a sandbox's, or preloads for everybody.

    Raises:
        DeniedError: it has.
    """
    for name in _OURS:
        at = rootfs
        for part in name.split("/"):
            at = at / part
            if at.is_symlink() or (at.exists() and not at.is_dir()):
                raise _refused(f"/{name}", "a link or a file where a sandbox has a folder")
        if at.exists() and next(at.iterdir(), None) is not None:
            raise _refused(f"/{name}", "files where a sandbox mounts its own, so they could never be seen")
    preload = resolve_inside(rootfs, "etc/ld.so.preload")
    if os.path.lexists(preload):
        raise _refused("/etc/ld.so.preload", "a file that every program's loader obeys, also ours")


def _refused(place: str, why: str) -> DeniedError:
    return DeniedError(
        "the image can't be the root of a sandbox",
        code="image-refused",
        rule="image-root",
        measure=f"{place}: {why}",
        limit="nothing of its own there",
        hint="build the image without it, or install it elsewhere, e.g. in /usr/local",
    )


def find_python(rootfs: Path, path: str) -> str:
    """`python3` on the PATH of an image, as a path inside.

    Raises:
        InvalidInputError: there is none.
    """
    for folder in path.split(":"):
        name = f"{folder.rstrip('/')}/python3"
        if folder.startswith("/") and _is_program(rootfs, name):
            return name
    raise InvalidInputError(
        "the image has no python3 on its PATH",
        code="image-python",
        rule="image-python",
        measure=f"PATH={path[:200]}",
        limit="a folder of it with python3",
        hint="use an image with Python and the packages that the job needs, such as python:3.11-slim with them installed",
    )


def _is_program(rootfs: Path, name: str) -> bool:
    """Whether `name` is, behind all its links, an executable file of the image."""
    try:
        place = resolve_inside(rootfs, name)
        for _ in range(_MAX_LINKS):
            if not place.is_symlink():
                return place.is_file() and bool(place.stat().st_mode & 0o111)
            target = str(place.readlink())
            above = "/" + str(place.parent.relative_to(rootfs))
            place = resolve_inside(rootfs, os.path.normpath(os.path.join(above, target)))  # noqa: PTH118 - not of here
    except (DeniedError, OSError):
        pass
    return False


def _env_of(config: Mapping[str, Any]) -> dict[str, str]:
    """The variables that an image's config sets (OCI image specification 1.1, "Image Configuration").

    Raises:
        InvalidInputError: they are not a list of texts, or too long.
    """
    given = (config.get("config") or {}).get("Env") or []
    if not isinstance(given, list) or sum(len(str(line)) for line in given) > _MAX_ENV_BYTES:
        raise InvalidInputError(
            "the image's config sets too many variables", code="image-env", limit=f"{_MAX_ENV_BYTES} bytes"
        )
    lines = [str(line) for line in given]
    pairs = (line.partition("=") for line in lines if "\0" not in line)
    return {name: value for name, mark, value in pairs if name and mark}
