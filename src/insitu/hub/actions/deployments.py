"""Deployments: signed by who asks for them; the hub hands them on and can't make one."""

from __future__ import annotations

from datetime import datetime

from insitu.domain.errors import ConflictError, InvalidInputError, NotFoundError
from insitu.domain.ids import check_name
from insitu.hub.access import Actor, Permission, check_can
from insitu.hub.actions import residency
from insitu.hub.actions.images import check_can_be_served
from insitu.hub.actions.jobs import check_named, open_signed_by
from insitu.hub.store import deployments, images, outputs, sites
from insitu.hub.store.session import ReadSession, WriteSession
from insitu.wire.deployments import DEPLOYMENT_TYPE, DeploymentDocument, read_deployment_document
from insitu.wire.envelopes import Envelope
from insitu.wire.jobs import check_fresh
from insitu.wire.people import DeploymentRequest, DeploymentView


def put_deployment(
    actor: Actor, session: WriteSession, request: DeploymentRequest, *, now: datetime, away_before: datetime
) -> DeploymentView:
    """Accept a signed deployment as what should be. The same envelope again changes nothing.

    Raises:
        DeniedError: their role, key or name does not fit, or the document expired.
        NotFoundError: there is no such site or image.
        InvalidInputError: the image is not of the model, base and lock that the document names.
        ConflictError: the revision does not follow on the last one.
    """
    check_can(actor, Permission.DEPLOY)
    document = _open(actor, request.envelope)
    standing = deployments.standing(session, document.name)
    if standing is not None and standing.envelope_digest == request.envelope.digest and not standing.deleted:
        return _existing(session, document.name, away_before)
    check_fresh(document.signed_at, document.expires_at, now=now)
    if deployments.was_accepted(session, request.envelope.digest, document.nonce):
        raise ConflictError(
            "this deployment was accepted before, and something newer stands now",
            code="replayed",
            hint="sign it again as the next revision",
            rule="nonce",
        )
    _check_place(session, document, standing)
    _check_image(session, document)
    if not deployments.put(session, request.envelope, document, now=now):
        raise _wrong_revision(document, deployments.standing(session, document.name))
    return _existing(session, document.name, away_before)


def _open(actor: Actor, envelope: Envelope) -> DeploymentDocument:
    verified = open_signed_by(actor, envelope, DEPLOYMENT_TYPE)
    document = read_deployment_document(verified.payload)
    check_named(actor, document.submitter)
    check_name(document.name, what="deployment")
    return document


def _check_place(session: ReadSession, document: DeploymentDocument, standing: deployments.Standing | None) -> None:
    if not sites.exists(session, document.site):
        raise NotFoundError(
            f"there is no site {document.site[:80]!r}", code="no-such-site", hint="see `insitu site list`"
        )
    if standing is not None and standing.site != document.site:
        raise ConflictError(
            f"{document.name} is deployed at {standing.site}",
            code="deployed-elsewhere",
            why="a deployment stays at its site",
            hint="give it another name there",
        )
    if document.revision != (standing.revision if standing else 0) + 1:
        raise _wrong_revision(document, standing)


def _wrong_revision(document: DeploymentDocument, standing: deployments.Standing | None) -> ConflictError:
    last = standing.revision if standing else 0
    return ConflictError(
        f"revision {document.revision} of {document.name} does not follow on revision {last}",
        code="wrong-revision",
        why="somebody deployed in between, or this was signed for an older state",
        hint="look at it with `insitu deployment show`, then deploy again",
        rule="revision",
        measure=str(document.revision),
        limit=str(last + 1),
    )


def _check_image(session: ReadSession, document: DeploymentDocument) -> None:
    release = outputs.of_model(session, document.model.name, document.model.version)
    if release is not None:
        check_can_be_served(session, release)
    if release is not None and release.is_resident:
        residency.check_may_serve(release, document)
        return
    if document.image is None:
        raise InvalidInputError(
            "the deployment names no image",
            code="no-image",
            why="only a model that stays at its site is served without one",
            hint="deploy with `insitu deploy`, which builds it",
        )
    found = images.ready_by_digest(session, document.image)
    if not found:
        raise NotFoundError(
            f"there is no image {document.image} at this hub",
            code="no-such-image",
            hint=f"build it: `insitu image build {document.model.name}:{document.model.version}`",
        )
    wanted = (
        document.model.name,
        document.model.version,
        document.model.digest,
        document.base,
        document.lock,
    )
    if not any((one.model, one.version, one.model_digest, one.base, one.lock) == wanted for one in found):
        raise InvalidInputError(
            "the image is not of the model, base and lock that the deployment names",
            code="image-mismatch",
            why=f"{document.image} was built of others",
            hint="deploy with `insitu deploy`, which takes them from the image",
        )


def list_deployments(
    actor: Actor, session: ReadSession, *, deleted: bool, away_before: datetime
) -> list[DeploymentView]:
    check_can(actor, Permission.LOOK)
    return deployments.views(session, away_before=away_before, deleted=deleted)


def show_deployment(actor: Actor, session: ReadSession, name: str, *, away_before: datetime) -> DeploymentView:
    check_can(actor, Permission.LOOK)
    return _existing(session, name, away_before)


def delete_deployment(actor: Actor, session: WriteSession, name: str, *, away_before: datetime) -> DeploymentView:
    """Let it be no more. The site stops it and says when it is gone."""
    check_can(actor, Permission.DEPLOY)
    standing = deployments.standing(session, name)
    if standing is None:
        raise _no_deployment(name)
    deployments.remove(session, name, standing.site)
    return _existing(session, name, away_before)


def _existing(session: ReadSession, name: str, away_before: datetime) -> DeploymentView:
    found = deployments.views(session, away_before=away_before, name=name)
    if not found:
        raise _no_deployment(name)
    return found[0]


def _no_deployment(name: str) -> NotFoundError:
    return NotFoundError(
        f"there is no deployment {name[:80]!r}", code="no-such-deployment", hint="see `insitu deployment list`"
    )
