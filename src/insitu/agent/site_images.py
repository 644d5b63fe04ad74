"""Images of resident models: built at their site, kept in its folder, served by digest.

    frozen copy + base + environment + serving sources ──► deployments/images/    an OCI layout
                                                               └──► deployments/unpacked/<digest>/

The hub is told the digest. Nothing of a layout leaves: the agent has no code that pushes,
and uploads the files of releases alone. The same parts give the same digest, so building
again after a restart is a check that nothing has changed.
"""

from __future__ import annotations

import threading
from pathlib import Path

from insitu.domain.deployments import Desired
from insitu.domain.digests import Digest
from insitu.domain.errors import NotFoundError
from insitu.images.base import UnpackedBase, describe_base, import_base
from insitu.images.build import build_image
from insitu.images.environment import Environment
from insitu.images.layout import REF_NAME, OciLayout
from insitu.images.parts import ImageParts, unpack_parts
from insitu.images.recipe import Recipe


class SiteImages:
    """The site's own images. Safe for threads.

    Args:
        folder: the site's folder of deployments.
        base: what the site's sandboxes run on.
        bases: the OCI layout that has the base as an image.
    """

    def __init__(self, folder: Path, base: UnpackedBase, bases: Path) -> None:
        self._place, self._unpacked = folder / "images", folder / "unpacked"
        self._base, self._bases = base, bases
        self._lock = threading.Lock()
        self._digests: dict[str, Digest] | None = None

    def build(self, desired: Desired, *, environment: Environment, model: Path, job_id: str) -> ImageParts:
        """Build the image of a revision, and give what is to be served of it.

        Args:
            desired: a deployment without an image.
            environment: of the lock that it names.
            model: the frozen copy, whose digest was compared.

        Raises:
            NotFoundError: the base is not in the layout of bases any more.
        """
        recipe = Recipe(
            base=desired.base,
            lock=desired.lock,
            environment_key=environment.key,
            model_name=desired.model_name,
            model_version=desired.model_version,
            model_digest=desired.model,
            platform=environment.platform,
            job_id=job_id,
            trusted_types=desired.trusted_types,
        )
        with self._lock:
            layout = self._layout()
            # Not compressed: these layers never travel, and packing is five times faster.
            tag = _tag(desired.name, desired.revision)
            image = build_image(recipe, layout, environment=environment, model=model, tag=tag, compress=False)
            self._known()[tag] = image.digest
            return unpack_parts(layout, image.digest, self._unpacked)

    def digest_of(self, name: str, revision: int) -> str:
        """The image that a revision is served from; empty while none was built here."""
        with self._lock:
            return self._known().get(_tag(name, revision), "")

    def _layout(self) -> OciLayout:
        self._place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        layout = OciLayout(self._place)
        self._place.chmod(0o700)
        try:
            describe_base(layout, self._base.digest)
        except NotFoundError:
            import_base(layout, f"oci:{self._bases}@{self._base.digest}")
        return layout

    def _known(self) -> dict[str, Digest]:
        """Tag → digest, read from the layout once."""
        if self._digests is None:
            there = (self._place / "oci-layout").exists()
            found = OciLayout(self._place, create=False).list() if there else []
            self._digests = {entry.annotations.get(REF_NAME, ""): entry.digest for entry in found}
        return self._digests


def _tag(name: str, revision: int) -> str:
    """One tag for each revision: model versions may be served under several names."""
    return f"{name}:r{revision}"
