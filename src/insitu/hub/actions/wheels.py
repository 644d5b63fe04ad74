"""Who may have which wheel: a site those of the locks that its present jobs and deployments name."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from insitu.domain.digests import Digest, parse_digest
from insitu.domain.errors import DeniedError, InvalidInputError
from insitu.domain.images import LockedWheel
from insitu.hub.access import Actor, JoinedSite, Permission, check_can
from insitu.hub.store import deployments, jobs
from insitu.hub.store.session import ReadSession
from insitu.hub.wheels import Wheels
from insitu.wire.wheels import StoredWheel, WheelProblem, WheelsReply, WheelsRequest


def check_site_may_have(
    site: JoinedSite, session: ReadSession, wheels: Wheels, request: WheelsRequest
) -> list[LockedWheel]:
    """The wheels that a site asks for.

    Raises:
        DeniedError: it has nothing that names the lock, or the lock doesn't name the wheel.
    """
    if request.lock not in _locks(site, session):
        raise _not_yours(site, request.lock)
    named = wheels.named_by(Digest(request.lock))
    strange = [sha256 for sha256 in request.wanted if sha256 not in named]
    if strange:
        raise _not_yours(site, f"sha256:{strange[0]}")
    return [named[sha256] for sha256 in dict.fromkeys(request.wanted)]


def standing(wheels: Wheels, wanted: list[LockedWheel]) -> WheelsReply:
    found = wheels.ask(wanted)
    return WheelsReply(
        here=[wheel.sha256 for wheel in found.here],
        coming=[wheel.sha256 for wheel in found.coming],
        failed=[
            WheelProblem(
                sha256=wheel.sha256, filename=wheel.filename, code=error.code, what=error.what[:300], hint=error.hint
            )
            for wheel, error in found.failed
        ],
    )


def of_site(site: JoinedSite, session: ReadSession, wheels: Wheels, text: str) -> Path | None:
    """The file of a wheel that this site may have; None: it is no wheel of the locks that it has now, or not here."""
    digest = parse_digest(text)
    sha256 = digest.removeprefix("sha256:")
    for lock in _locks(site, session):
        with suppress(InvalidInputError):  # it is no lock: the site will say so when it has read it
            wheel = wheels.named_by(Digest(lock)).get(sha256)
            if wheel is not None:
                return wheels.store.find(wheel)
    return None


def check_can_bring(actor: Actor) -> None:
    check_can(actor, Permission.KEEP_WHEELS)


def lacking(actor: Actor, wheels: Wheels, sha256s: list[str]) -> list[str]:
    """Which of these the hub has not."""
    check_can_bring(actor)
    return [sha256 for sha256 in sha256s if wheels.store.by_sha256(sha256) is None]


def bring(actor: Actor, wheels: Wheels, wheel: LockedWheel, path: Path) -> StoredWheel:
    """Keep a file of the store's own disk as a wheel, if it is what its hash says.

    Raises:
        IntegrityError: it isn't.
    """
    check_can_bring(actor)
    known = wheels.store.find(wheel) is not None
    place = wheels.store.move_in(wheel, path)
    return StoredWheel(sha256=wheel.sha256, filename=wheel.filename, size_bytes=place.stat().st_size, new=not known)


def _locks(site: JoinedSite, session: ReadSession) -> list[str]:
    serving = [document.lock for document in deployments.documents(session, site.name)]
    return [*jobs.locks_of_site(session, site.name), *serving]


def _not_yours(site: JoinedSite, what: str) -> DeniedError:
    return DeniedError(
        f"{site.name} may not have {what}",
        code="not-your-blob",
        why="no job or deployment that the site has now names it",
        rule="blobs-of-assignments",
    )
