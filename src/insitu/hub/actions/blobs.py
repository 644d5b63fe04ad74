"""Who may put a blob, and who may have one. A digest that somebody names is no proof that they have the bytes."""

from __future__ import annotations

from datetime import datetime

from insitu.domain.digests import Digest, parse_digest
from insitu.domain.errors import DeniedError, NotFoundError
from insitu.hub.access import Actor, JoinedSite, Permission, check_can
from insitu.hub.store import blobs, deployments, images, jobs, outputs
from insitu.hub.store.session import ReadSession, WriteSession


def check_can_put(actor: Actor) -> None:
    check_can(actor, Permission.SUBMIT)


def note_put(actor: Actor, session: WriteSession, digest: Digest, size_bytes: int, *, now: datetime) -> None:
    """The bytes are stored; note that this person had them."""
    check_can_put(actor)
    blobs.add(session, digest, size_bytes, holder=blobs.person(actor.name), now=now)


def size_of_own(actor: Actor, session: ReadSession, text: str) -> int:
    """The size of a blob that this person has uploaded: whether they need to upload it again.

    Raises:
        NotFoundError: they haven't; somebody else may have.
    """
    digest = parse_digest(text)
    found = blobs.held_by(session, blobs.person(actor.name), [digest])
    if digest not in found:
        raise _no_blob(digest)
    return found[digest]


def check_can_get(actor: Actor, session: ReadSession, text: str) -> Digest:
    """People get what they uploaded, and the code and locks of jobs. Released files have addresses of their own.

    Raises:
        NotFoundError: there is none that they may have.
    """
    digest = parse_digest(text)
    check_can(actor, Permission.LOOK)
    mine = blobs.held_by(session, blobs.person(actor.name), [digest])
    if digest not in mine and not jobs.names_blob(session, digest):
        raise _no_blob(digest)
    return digest


def check_site_can_get(site: JoinedSite, session: ReadSession, text: str) -> tuple[Digest, bool]:
    """A site gets what its present jobs and deployments name. Returns the digest, and whether an image holds it.

    Raises:
        DeniedError: nothing that it should run names this blob.
    """
    digest = parse_digest(text)
    if jobs.site_may_fetch(session, site.name, digest):
        return digest, False
    for document in deployments.documents(session, site.name):
        if digest == document.lock:
            return digest, False
        if document.image and (digest == document.image or digest in images.blobs_of(session, document.image)):
            return digest, True
        for release in outputs.of_digest(session, document.model.digest):
            if any(file.digest == digest for file in release.files):
                return digest, False
    raise DeniedError(
        f"{site.name} may not have {digest}",
        code="not-your-blob",
        why="no job or deployment that the site has now names it",
        rule="blobs-of-assignments",
    )


def note_upload(site: JoinedSite, session: WriteSession, digest: Digest, size_bytes: int, *, now: datetime) -> None:
    blobs.add(session, digest, size_bytes, holder=blobs.site(site.name), now=now)


def size_at_site(site: JoinedSite, session: ReadSession, text: str) -> int | None:
    """The size of a blob that this site has uploaded whole; None: it hasn't."""
    return blobs.held_by(session, blobs.site(site.name), [text]).get(text)


def _no_blob(digest: str) -> NotFoundError:
    return NotFoundError(f"there is no blob {digest} for you here", code="no-such-blob")
