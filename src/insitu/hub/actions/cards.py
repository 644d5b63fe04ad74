"""Admits the card of a model that stays at its site: verified first, kept once, then a model version without files."""

from __future__ import annotations

from insitu.domain.errors import NotFoundError
from insitu.hub.access import JoinedSite
from insitu.hub.actions.releases import check_contract, check_current, register
from insitu.hub.parts import Parts
from insitu.hub.store import jobs, outputs
from insitu.wire.cards import open_card
from insitu.wire.envelopes import Envelope
from insitu.wire.sync import ReleaseReply


def admit_card(parts: Parts, site: JoinedSite, envelope: Envelope) -> ReleaseReply:
    """Take in a resident model's card. The same card again gets the same answer.

    Raises:
        SignatureError: it is not what the site's key signed.
        DeniedError: it is not of what the signed job declared, or of another site's job.
        ConflictError: another attempt is current.
        UnavailableError: MLflow is not up: it is kept, and registered when it is sent again or by a loop.
    """
    card = open_card(envelope, site_key=site.fingerprint)
    document = card.document
    with parts.store.write() as session:
        job = jobs.facts(session, document.job_id)
        if job is None:
            raise NotFoundError(f"there is no job {document.job_id[:40]!r}", code="no-such-job")
        check_current(site, job, document)
        check_contract(job, document)
        admitted = outputs.admit_card(session, card, site.name, now=parts.clock())
    version = register(parts, admitted)
    return ReleaseReply(
        output=admitted.output, digest=admitted.digest, model=admitted.register_as or "", version=version
    )
