"""The plan of an image, without touching a disk: what goes in, and what its config says.

    base layers          as they are, so that a registry and an engine keep them once
    /opt/env             the environment of the lock, packed once for all its images
    /opt/insitu          the serving process (`insitu.serving`, standard library only)
    /opt/model           the released model
    config, annotations  how it starts, and where everything in it comes from

The order is by how seldom a part changes: a new model version is one small layer.
Everything here is a function of the recipe, so the same recipe gives the same digest.

Form: OCI image specification 1.1, "Image Configuration" and "Annotations".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from insitu.domain.digests import Digest
from insitu.domain.images import PLATFORMS, Descriptor, check_tag
from insitu.images.layout import LAYER_GZIP, LAYER_TAR, MANIFEST

EPOCH = "1970-01-01T00:00:00Z"
ENVIRONMENT_AT, SERVING_AT, MODEL_AT = "opt/env", "opt/insitu", "opt/model"
PORT = 8080
USER = "65532:65532"  # the "nonroot" of distroless images: in no base's passwd, owner of nothing

_OCI_KINDS: Mapping[str, str] = {
    "application/vnd.docker.image.rootfs.diff.tar": LAYER_TAR,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": LAYER_GZIP,
}


@dataclass(frozen=True)
class Recipe:
    """What an image is made of, by digest. Every field ends up in its labels."""

    base: Digest
    lock: Digest
    environment_key: str
    model_name: str
    model_version: str
    model_digest: Digest
    platform: str = "x86_64-linux"
    job_id: str = ""
    trusted_types: tuple[str, ...] = ()  # skops types that the site's policy lists, never the model's own wish

    @property
    def tag(self) -> str:
        return check_tag(f"{self.model_name.lower()}:{self.model_version}")


def labels(recipe: Recipe) -> dict[str, str]:
    """Labels of the config and annotations of the manifest."""
    found = {
        "org.opencontainers.image.title": recipe.model_name,
        "org.opencontainers.image.version": recipe.model_version,
        "org.opencontainers.image.created": EPOCH,
        "org.opencontainers.image.base.digest": recipe.base,
        "org.insitu.model.name": recipe.model_name,
        "org.insitu.model.version": recipe.model_version,
        "org.insitu.model.digest": recipe.model_digest,
        "org.insitu.lock.digest": recipe.lock,
        "org.insitu.environment.key": recipe.environment_key,
        "org.insitu.job": recipe.job_id,
        "org.insitu.trusted-types": json.dumps(sorted(recipe.trusted_types)),
    }
    return {key: value for key, value in found.items() if value}


def entrypoint(recipe: Recipe) -> list[str]:
    """How the image starts; arguments of `podman run` come after these."""
    command = [f"/{ENVIRONMENT_AT}/bin/python", "-m", "insitu.serving", "--model", f"/{MODEL_AT}"]
    command += ["--name", recipe.model_name, "--version", recipe.model_version]
    command += ["--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104 - inside a container's own network
    for name in sorted(recipe.trusted_types):
        command += ["--trusted-type", name]
    return command


def config(recipe: Recipe, base_config: Mapping[str, Any], diff_ids: Sequence[Digest]) -> dict[str, Any]:
    """The image's config document.

    Args:
        base_config: the base's own, whose environment variables stay where ours don't speak.
        diff_ids: of the layers that come on top of the base's.
    """
    below = base_config.get("rootfs", {}).get("diff_ids", [])
    told = ("environment", "serving process", "model")
    history = [*base_config.get("history", [])]
    history += [{"created": EPOCH, "created_by": f"insitu: {what}"} for what in told]
    return {
        "architecture": PLATFORMS[recipe.platform],
        "os": "linux",
        "created": EPOCH,
        "config": {
            "Entrypoint": entrypoint(recipe),
            "Env": _environment(base_config),
            "ExposedPorts": {f"{PORT}/tcp": {}},
            "Labels": labels(recipe),
            "StopSignal": "SIGTERM",
            "User": USER,
            "WorkingDir": "/tmp",  # noqa: S108 - the one folder that a container without a home can write to
        },
        "rootfs": {"type": "layers", "diff_ids": [*below, *diff_ids]},
        "history": history,
    }


def manifest(recipe: Recipe, config: Descriptor, layers: Sequence[Descriptor]) -> dict[str, Any]:
    """The image's manifest document; layers lowest first."""
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.as_oci(),
        "layers": [_as_oci_layer(layer).as_oci() for layer in layers],
        "annotations": labels(recipe),
    }


def _environment(base_config: Mapping[str, Any]) -> list[str]:
    given = (base_config.get("config") or {}).get("Env") or []
    variables = dict(str(line).split("=", 1) for line in given if "=" in str(line))
    path = variables.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    variables |= {
        "PATH": f"/{ENVIRONMENT_AT}/bin:{path}",
        "PYTHONPATH": f"/{SERVING_AT}",
        "PYTHONSAFEPATH": "1",  # the working folder is writable: nothing is imported from it
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "HOME": "/tmp",  # noqa: S108 - as WorkingDir
        "LANG": "C.UTF-8",
    }
    return [f"{name}={value}" for name, value in sorted(variables.items())]


def _as_oci_layer(layer: Descriptor) -> Descriptor:
    # Docker's names of the same bytes don't belong into an OCI manifest.
    return Descriptor(_OCI_KINDS.get(layer.media_type, layer.media_type), layer.digest, layer.size_bytes)
