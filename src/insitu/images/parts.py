"""What only an image has, unpacked for a sandbox: the serving process and the model.

Base and environment lie unpacked at a site already, under the digests that the image's
labels name; its two upper layers are unpacked here. Each blob is compared with its
digest, and what it unpacks to with the config's `diff_ids` (OCI image specification 1.1,
"Image Configuration").
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from insitu.domain.digests import Digest, parse_digest
from insitu.domain.errors import IntegrityError
from insitu.images.base import config_of, layers_of
from insitu.images.layout import OciLayout
from insitu.images.recipe import MODEL_AT, SERVING_AT
from insitu.images.unpack import unpack_layer

_OWN_LAYERS = 2  # serving process and model lie on top; see `recipe`
_MAX_BYTES = 8 << 30


@dataclass(frozen=True)
class ImageParts:
    """Folders of an unpacked image, to be mounted read-only."""

    image: Digest
    serving: Path
    model: Path


def unpack_parts(layout: OciLayout, image: Digest, folder: Path) -> ImageParts:
    """The image's own parts in a folder below `folder` that its digest names; unpacked once.

    Raises:
        NotFoundError: the layout doesn't have the image whole.
        IntegrityError: a part is not what the digests say.
    """
    manifest = layout.manifest(image)  # also when it is unpacked: an image that is gone is not started
    place = folder / parse_digest(image).removeprefix("sha256:")
    if not place.is_dir():
        layers = layers_of(manifest)
        diff_ids = json.loads(layout.read(config_of(manifest).digest))["rootfs"]["diff_ids"]
        if len(diff_ids) != len(layers):
            raise IntegrityError(f"the config of {image} speaks of {len(diff_ids)} layers, not {len(layers)}")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        work = Path(tempfile.mkdtemp(prefix=".work-", dir=folder))
        try:
            for layer, diff_id in list(zip(layers, diff_ids, strict=True))[-_OWN_LAYERS:]:
                unpack_layer(layout, layer, work, diff_id=parse_digest(diff_id), max_bytes=_MAX_BYTES)
            work.chmod(0o755)
            work.rename(place)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return ImageParts(image, serving=place / SERVING_AT, model=place / MODEL_AT)
