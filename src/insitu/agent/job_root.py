"""What a job's sandbox stands on: the site's base with the packages of a lock, or the image that the job brought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from insitu.agent.site import Site
from insitu.domain.digests import Digest
from insitu.sandbox.spec import Mount
from insitu.wire.jobs import Target

_BASE_PATH = "/opt/env/bin:/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class JobRoot:
    rootfs: Path
    environment: Path | None
    """Packages to be mounted at /opt/env; none with an image, which has its own."""
    path: str = _BASE_PATH
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the image's config sets; ours come after."""
    python: str = "python"
    """What a command that begins with `python` runs."""
    tools: Path | None = None
    """See `SandboxSpec.tools`."""

    @property
    def mounts(self) -> tuple[Mount, ...]:
        return (Mount(source=self.environment, target="/opt/env"),) if self.environment else ()


def ready_root(site: Site, target: Target) -> JobRoot:
    """Have it here: from the site's caches, or from the hub.

    Raises:
        InsituError: a wheel or a part of the image can't be had, or is not what was signed.
    """
    if target.image is None:
        environment = site.environments.ready(Digest(target.lock), site.link.fetch_blob)
        return JobRoot(site.base.rootfs, environment)
    free_bytes = site.policy.require().sandbox.free_bytes
    image = site.images.ready(target.image, site.link.fetch_blob, reserve_bytes=free_bytes)
    return JobRoot(image.rootfs, None, image.path, image.env, image.interpreter, tools=site.base.rootfs)
