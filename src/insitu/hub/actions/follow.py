"""Following a job as it happens."""

from __future__ import annotations

from insitu.hub.access import Actor, Permission, check_can
from insitu.hub.actions.jobs import no_such_job
from insitu.hub.store import stream
from insitu.hub.store.session import ReadSession


def where_it_stands(actor: Actor, session: ReadSession, job_id: str) -> stream.Stands:
    """How far a job's stream goes now, for somebody who may look at it."""
    check_can(actor, Permission.LOOK)
    return stands(session, job_id)


def stands(session: ReadSession, job_id: str) -> stream.Stands:
    found = stream.stands(session, job_id)
    if found is None:
        raise no_such_job(job_id)
    return found
