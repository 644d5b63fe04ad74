"""Deployments: the signed document of the newest revision, and what the site says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, or_, select, update

from insitu.hub.store import sites
from insitu.hub.store.session import ReadSession, WriteSession
from insitu.hub.store.tables import DeploymentRevisionRow, DeploymentRow, SiteRow, table_of
from insitu.wire.deployments import DeploymentDocument
from insitu.wire.envelopes import Envelope
from insitu.wire.people import DeploymentView, Reason
from insitu.wire.sync import DeploymentOrder, DeploymentReport


@dataclass(frozen=True)
class Standing:
    """What stands under a deployment's name."""

    site: str
    revision: int
    envelope_digest: str
    deleted: bool
    submitter: str


def standing(session: ReadSession, name: str) -> Standing | None:
    row = session.rows(
        select(
            DeploymentRow.site,
            DeploymentRow.revision,
            DeploymentRow.envelope_digest,
            DeploymentRow.deleted,
            DeploymentRow.submitter,
        ).where(DeploymentRow.name == name)
    ).one_or_none()
    return None if row is None else Standing(*row)


def was_accepted(session: ReadSession, envelope_digest: str, nonce: str) -> bool:
    """Whether this document, or another with its nonce, was accepted before."""
    query = select(DeploymentRevisionRow.name).where(
        or_(DeploymentRevisionRow.envelope_digest == envelope_digest, DeploymentRevisionRow.nonce == nonce)
    )
    return session.rows(query).first() is not None


def put(session: WriteSession, envelope: Envelope, document: DeploymentDocument, *, now: datetime) -> bool:
    """Make `document` what should be. False: another revision of that number was faster."""
    digest = envelope.digest
    sealed = envelope.model_dump(mode="json")
    values: dict[str, Any] = {
        "site": document.site,
        "revision": document.revision,
        "envelope": sealed,
        "envelope_digest": digest,
        "document": document.model_dump(mode="json"),
        "submitter": document.submitter,
        "created_at": now,
        "deleted": False,
        "state": "pending",
        "url": "",
        "site_image": "",
        "reason": {},
    }
    if document.revision == 1:
        insert = session.insert(DeploymentRow).values(name=document.name, **values)
        changed = session.change(insert.on_conflict_do_nothing())
    else:
        changed = session.change(
            update(DeploymentRow)
            .where(DeploymentRow.name == document.name, DeploymentRow.revision == document.revision - 1)
            .values(values)
        )
    if changed:
        session.change(
            session.insert(DeploymentRevisionRow),
            {
                "name": document.name,
                "revision": document.revision,
                "envelope_digest": digest,
                "nonce": document.nonce,
                "envelope": sealed,
                "created_at": now,
            },
        )
        sites.notify(session, document.site)
    return bool(changed)


def remove(session: WriteSession, name: str, site: str) -> None:
    """Let it be no more; the site stops it and says when it is gone."""
    changed = session.change(
        update(DeploymentRow)
        .where(DeploymentRow.name == name, DeploymentRow.deleted.is_(False))
        .values(deleted=True, state="stopping")
    )
    if changed:
        sites.notify(session, site)


# Made once: every report of every agent asks for these.
_TABLE = table_of(DeploymentRow)
_ORDERS = (
    select(_TABLE.c.name, _TABLE.c.envelope)
    .where(_TABLE.c.site == bindparam("site"), _TABLE.c.deleted.is_(False))
    .order_by(_TABLE.c.name)
)
_REPORTED = select(
    _TABLE.c.name,
    _TABLE.c.revision,
    _TABLE.c.deleted,
    _TABLE.c.state,
    _TABLE.c.reported_revision,
    _TABLE.c.url,
    _TABLE.c.site_image,
    _TABLE.c.reason,
).where(_TABLE.c.site == bindparam("site"))


def orders(session: ReadSession, site: str) -> list[DeploymentOrder]:
    rows = session.rows(_ORDERS, {"site": site})
    return [DeploymentOrder(name=name, envelope=Envelope.model_validate(envelope)) for name, envelope in rows]


def documents(session: ReadSession, site: str) -> list[DeploymentDocument]:
    """What should serve at a site: names what its agent may fetch."""
    rows = session.rows(
        select(DeploymentRow.document).where(DeploymentRow.site == site, DeploymentRow.deleted.is_(False))
    ).scalars()
    return [DeploymentDocument.model_validate(document) for document in rows]


def note_reports(session: WriteSession, site: str, reports: Sequence[DeploymentReport]) -> None:
    """Keep what a site says of its own deployments, as far as it differs."""
    known = {row.name: row for row in session.rows(_REPORTED, {"site": site})}
    told = {report.name: report for report in reports}
    for name, row in known.items():
        report = told.get(name)
        if report is None:
            # Not in the report and not wanted: the site has nothing of it left.
            if row.deleted and row.state != "gone":
                _note(session, name, site, {"state": "gone", "url": ""})
            continue
        if report.revision != row.revision:
            continue  # still of an older revision: says nothing of what should be
        reason = Reason(code=report.code, what=report.what, hint=report.hint).model_dump(exclude_defaults=True)
        said = {
            "state": report.state,
            "url": report.url,
            "site_image": report.image,
            "reason": reason,
            "reported_revision": report.revision,
        }
        if any(getattr(row, field) != value for field, value in said.items()):
            _note(session, name, site, said)


def _note(session: WriteSession, name: str, site: str, values: dict[str, Any]) -> None:
    session.change(update(DeploymentRow).where(DeploymentRow.name == name, DeploymentRow.site == site).values(values))


def views(
    session: ReadSession, *, away_before: datetime, name: str | None = None, deleted: bool = False
) -> list[DeploymentView]:
    """Newest first; one that was deleted shows until its site has said that it is gone, or when it is asked for."""
    query = (
        select(DeploymentRow, SiteRow.last_seen_at)
        .join(SiteRow, SiteRow.name == DeploymentRow.site)
        .order_by(DeploymentRow.created_at.desc(), DeploymentRow.name)
    )
    if name is not None:
        query = query.where(DeploymentRow.name == name)
    elif not deleted:
        query = query.where(or_(DeploymentRow.deleted.is_(False), DeploymentRow.state != "gone"))
    return [_view(row, seen_at, away_before) for row, seen_at in session.rows(query)]


def _view(row: DeploymentRow, seen_at: datetime | None, away_before: datetime) -> DeploymentView:
    document = DeploymentDocument.model_validate(row.document)
    away = row.state != "gone" and (seen_at is None or seen_at <= away_before)
    return DeploymentView(
        name=row.name,
        site=row.site,
        revision=row.revision,
        state=row.state,
        url=row.url,
        model=document.model.name,
        version=document.model.version,
        image=document.image or row.site_image,
        submitter=row.submitter,
        created_at=row.created_at,
        deleted=row.deleted,
        link="away" if away else "",
        reason=Reason.model_validate(row.reason),
        document=document,
    )
