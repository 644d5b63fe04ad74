"""The images that jobs bring as their environment: fetched from the hub by digest, unpacked once, kept.

    <cache>/images/layout/          an OCI layout: what is on its way; layers are removed once they are unpacked
    <cache>/images/unpacked/<hex>/  root file systems, mounted read-only

The policy was asked before (`accept`): nothing is fetched that it does not list.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from insitu.domain.digests import Digest
from insitu.domain.errors import DeniedError, IntegrityError
from insitu.images.base import config_of, layers_of
from insitu.images.job_image import MAX_UNPACKED_BYTES, JobImage, find_image, unpack_image
from insitu.images.layout import OciLayout
from insitu.wire.jobs import ImagePin

_log = logging.getLogger("insitu.agent")

Fetch = Callable[[Digest, Path], None]
"""Gets a blob from the hub into a file, checked by its digest; goes on where an earlier try stopped."""


class JobImages:
    """The images of a site's cache. Safe for threads."""

    def __init__(self, cache: Path, platform: str) -> None:
        self._layout_at, self._unpacked = cache / "images" / "layout", cache / "images" / "unpacked"
        self._platform = platform
        self._making = threading.Lock()

    def ready(self, pin: ImagePin, fetch: Fetch, *, reserve_bytes: int) -> JobImage:
        """The image, unpacked.

        Args:
            reserve_bytes: what stays free on the disk in any case.

        Raises:
            UnreachableError: the hub went away; what had come stays.
            IntegrityError: it is not what was signed.
            DeniedError, InvalidInputError: it can't be a sandbox's root; see `unpack_image`.
        """
        digest = Digest(pin.digest)
        found = find_image(digest, self._unpacked)
        if found is None:
            with self._making:
                found = find_image(digest, self._unpacked) or self._make(pin, digest, fetch, reserve_bytes)
        return found

    def _make(self, pin: ImagePin, digest: Digest, fetch: Fetch, reserve_bytes: int) -> JobImage:
        self._layout_at.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        layout = OciLayout(self._layout_at)
        _log.info("image %s: fetching %s parts", digest[:19], len(pin.blobs))
        self._fetch(layout, digest, fetch)
        manifest = layout.manifest(digest)
        parts = [config_of(manifest), *layers_of(manifest)]
        strange = [part.digest for part in parts if part.digest not in pin.blobs]
        if strange:
            raise DeniedError(
                "the image has parts that were not signed",
                code="image-not-signed",
                rule="image-parts",
                measure=strange[0],
                limit=f"{len(pin.blobs)} signed parts",
                hint="submit it again with `insitu run`, which signs what the image consists of",
            )
        for part in parts:
            self._fetch(layout, part.digest, fetch)
            if layout.size_of(part.digest) != part.size_bytes:
                raise IntegrityError("a part of the image has another size than its manifest says", code="image-parts")
        room = shutil.disk_usage(self._layout_at).free - reserve_bytes
        found = unpack_image(
            layout,
            digest,
            self._unpacked,
            platform=self._platform,
            max_bytes=max(0, min(MAX_UNPACKED_BYTES, room)),
        )
        for part in parts:
            layout.blob_path(part.digest).unlink(missing_ok=True)  # it can be had again
        _log.info("image %s: unpacked", digest[:19])
        return found

    @staticmethod
    def _fetch(layout: OciLayout, digest: Digest, fetch: Fetch) -> None:
        if not layout.has(digest):
            fetch(digest, layout.blob_path(digest))
