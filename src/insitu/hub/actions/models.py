"""Registered models: MLflow's registry, with what the hub knows of where each version came from."""

from __future__ import annotations

from insitu.domain.errors import NotFoundError
from insitu.hub.access import Actor, Permission, check_can
from insitu.hub.actions import residency
from insitu.hub.mlflow_records import RESIDENT_TAG
from insitu.hub.parts import Parts
from insitu.hub.store import outputs
from insitu.hub.tracking import ModelVersion
from insitu.wire.envelopes import Envelope
from insitu.wire.people import AliasRequest, ModelVersionView, TagRequest
from insitu.wire.releases import ReleasedFile


def list_models(actor: Actor, parts: Parts) -> list[ModelVersionView]:
    """The latest version of each model."""
    check_can(actor, Permission.LOOK)
    found = [model for model in parts.tracking.list_models() if model.latest_version]
    return [_view(parts.tracking.get_version(model.name, model.latest_version)) for model in found]


def list_versions(actor: Actor, parts: Parts, name: str) -> list[ModelVersionView]:
    """Newest first."""
    check_can(actor, Permission.LOOK)
    versions = parts.tracking.versions(name)
    if not versions:
        raise NotFoundError(f"there is no model {name[:80]!r}", code="no-such-model", hint="see `insitu model list`")
    return [_view(version) for version in versions]


def show_version(actor: Actor, parts: Parts, name: str, version: int) -> ModelVersionView:
    check_can(actor, Permission.LOOK)
    return _view(parts.tracking.get_version(name, version))


def tag_version(actor: Actor, parts: Parts, name: str, version: int, request: TagRequest) -> ModelVersionView:
    """Tag a version. Lineage can't be changed.

    Raises:
        DeniedError: their role may not, or the tag is lineage.
    """
    check_can(actor, Permission.LABEL_MODELS)
    parts.tracking.set_tag(name, version, request.key, request.value)
    return _view(parts.tracking.get_version(name, version))


def set_alias(actor: Actor, parts: Parts, name: str, request: AliasRequest) -> ModelVersionView:
    check_can(actor, Permission.LABEL_MODELS)
    parts.tracking.set_alias(name, request.alias, request.version)
    return _view(parts.tracking.get_version(name, request.version))


def files_of(actor: Actor, parts: Parts, name: str, version: int) -> tuple[ReleasedFile, ...]:
    """What was released under this version: the bytes that the site signed for, from the hub's own blobs."""
    check_can(actor, Permission.LOOK)
    with parts.store.read() as session:
        release = outputs.of_model(session, name, version)
    if release is None:
        raise NotFoundError(
            f"there is no version {version} of {name[:80]!r}",
            code="no-such-version",
            hint=f"see `insitu model show {name[:80]}`",
        )
    residency.check_left(release)
    return release.files


def statement_of(actor: Actor, parts: Parts, name: str, version: int) -> Envelope:
    """The in-toto statement under which the site let this version out, or its card where it stays, as it was signed."""
    check_can(actor, Permission.LOOK)
    with parts.store.read() as session:
        envelope = outputs.envelope_of_model(session, name, version)
    if envelope is None:
        raise NotFoundError(
            f"there is no version {version} of {name[:80]!r}",
            code="no-such-version",
            hint=f"see `insitu model show {name[:80]}`",
        )
    return envelope


def _view(found: ModelVersion) -> ModelVersionView:
    return ModelVersionView(
        name=found.name,
        version=found.version,
        aliases=list(found.aliases),
        tags=dict(found.tags),
        digest=found.digest,
        run_id=found.run_id,
        job_id=found.job_id,
        site=found.tags.get("insitu.site", ""),
        created_at=found.created_at,
        size_bytes=found.size_bytes,
        resident=found.tags.get(RESIDENT_TAG, ""),
    )
