"""What an agent may say and gets to hear. Everything is bounded to its own site."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import orjson

from insitu.domain.errors import AuthenticationError, ConflictError, InvalidInputError, SignatureError
from insitu.hub.access import JoinedSite
from insitu.hub.store import deployments, events, job_states, jobs, sites
from insitu.hub.store.session import ReadSession, Store, WriteSession
from insitu.wire.events import EventBatch
from insitu.wire.keys import SigningKey, parse_verify_key
from insitu.wire.merkle import extends
from insitu.wire.plain_metrics import PlainMetrics
from insitu.wire.sync import PROTOCOL, HeadProof, HeadReport, SyncReply, SyncRequest, head_message
from insitu.wire.tokens import check_agent_token, site_of_token


def authenticate(store: Store, authorization: str, *, now: datetime) -> JoinedSite:
    """The site whose agent signed a request's token with the key that joined.

    Raises:
        AuthenticationError: it is nobody's, or not valid now.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise AuthenticationError("this needs an agent's token", code="agent-token")
    name = site_of_token(token.strip())
    with store.read() as session:
        site = sites.joined(session, name)
    if site is None:
        raise AuthenticationError(
            "no site of this name has joined", code="agent-unknown", hint="join first: `insitu agent init`"
        )
    check_agent_token(token.strip(), parse_verify_key(site.public_key), now=now)
    return site


# -- sync --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a site should hear, and whether it would be news."""

    reply: SyncReply
    unacknowledged: bool
    """An assignment is not in the site's report yet."""

    def is_news(self, report: SyncRequest) -> bool:
        return self.reply.revision != report.revision


def check_report(site: JoinedSite, report: SyncRequest) -> None:
    """What can be refused without looking at the database.

    Raises:
        InvalidInputError: it speaks another protocol.
        SignatureError: the ledger's head is not signed by the site's key.
    """
    if report.protocol != PROTOCOL:
        raise InvalidInputError(
            f"the agent speaks protocol {report.protocol}, this hub {PROTOCOL}",
            code="protocol",
            hint="upgrade the older of the two",
        )
    if report.head is not None:
        _check_head_signature(site, report.head)


def _check_head_signature(site: JoinedSite, head: HeadReport) -> None:
    try:
        signature = base64.b64decode(head.signature, validate=True)
    except binascii.Error as exc:
        raise SignatureError("the signature of the ledger's head is not base64") from exc
    parse_verify_key(site.public_key).check(signature, head_message(site.name, head.entries, head.hash, head.root))


def take_report(
    site: JoinedSite,
    session: WriteSession,
    report: SyncRequest,
    hub_key: SigningKey,
    *,
    now: datetime,
    away_before: datetime,
) -> bool:
    """Keep what a site says of itself. Returns whether something may fit there now that did not before.

    Placing is a transaction of its own: everybody locks in the order placing, jobs,
    deployments, sites, and this one comes to the site's row last.

    Raises:
        ConflictError: another agent with the same key speaks for this site.
    """
    known = sites.known_agent(session, site.name)
    was_away = known.last_seen_at is None or known.last_seen_at <= away_before
    if known.started_at is not None and report.started_at < known.started_at and not was_away:
        raise TwoAgentsError(site.name)
    job_states.acknowledge(session, site.name, _held(report))
    deployments.note_reports(session, site.name, report.deployments)
    has_changed = sites.room_of(report) != known.room or report.started_at != known.started_at
    if has_changed:
        sites.note_report(session, site.name, report, now=now)
    else:
        sites.note_seen(session, site.name, now=now)
    offer = _digest([told and told.model_dump(mode="json") for told in (*report.datasets, report.policy)])
    if offer != known.offer_digest:
        sites.note_offer(session, site.name, report, offer, now=now)
    if report.head is not None:
        _take_head(session, site.name, report.head, report.head_proof, known.head, hub_key)
    return was_away or has_changed or offer != known.offer_digest


class TwoAgentsError(ConflictError):
    """Two processes hold one site's key. The caller raises the alarm, in a transaction that this error does not undo."""

    def __init__(self, site: str) -> None:
        super().__init__(
            f"two agents speak for {site}",
            code="two-agents",
            why="one that was started later is in touch with the hub",
            hint="a site has one agent: stop the copy; if you know of none, the site's key was stolen",
        )


def alarm_two_agents(session: WriteSession, site: str, *, now: datetime) -> None:
    sites.set_alarm(session, site, f"two agents with this site's key at {now:%Y-%m-%d %H:%M}Z")


def _take_head(
    session: WriteSession,
    site: str,
    reported: HeadReport,
    proof: HeadProof | None,
    known: sites.Head,
    hub_key: SigningKey,
) -> None:
    """Countersign a head that is proved to begin with the one countersigned before.

    A head that is not proved yet is left alone: the agent learns from the reply which one the hub has, and proves it
    next time. One that can't be is an alarm, and no error of this request: the agent finds it out from the reply too,
    and lets nothing out.
    """
    if (reported.entries, reported.root) == (known.entries, known.root):
        return
    if reported.entries <= known.entries and known.root:
        sites.set_alarm(session, site, _went_back(reported, known))
        return
    if known.root and not _proves(reported, proof, known):
        if proof is not None and proof.since == known.entries:
            sites.set_alarm(session, site, f"the ledger's first {known.entries} entries are not those countersigned")
        return
    message = head_message(site, reported.entries, reported.hash, reported.root)
    # False: another message of this agent brought a later head at the same moment.
    sites.note_head(session, site, reported, countersigned=base64.b64encode(hub_key.sign(message)).decode())


def _went_back(reported: HeadReport, known: sites.Head) -> str:
    return f"the ledger went back: it has {reported.entries} entries, the hub countersigned {known.entries}"


def _proves(reported: HeadReport, proof: HeadProof | None, known: sites.Head) -> bool:
    if proof is None or proof.since != known.entries:
        return False
    try:
        steps = [bytes.fromhex(step) for step in proof.steps]
    except ValueError:
        return False
    return extends(known.entries, _bytes(known.root), reported.entries, _bytes(reported.root), steps)


def _bytes(digest: str) -> bytes:
    return bytes.fromhex(digest.removeprefix("sha256:"))


def answer(session: ReadSession, site: str, report: SyncRequest) -> Answer:
    """Everything that should be true at a site now."""
    assigned = jobs.assigned(session, site)
    held = _held(report)
    here = {one.assignment.job_id for one in assigned}
    orders = deployments.orders(session, site)
    over = sorted(held.keys() - here)
    revision = _digest(
        [
            [[a.job_id, a.attempt, a.fence, a.cancel] for a in (one.assignment for one in assigned)],
            [[order.name, order.envelope.signatures[0].sig] for order in orders],
            over,
        ]
    )
    reply = SyncReply(
        revision=revision,
        assignments=[one.assignment for one in assigned],
        over=over,
        deployments=orders,
        countersigned=sites.head(session, site).report,
    )
    return Answer(reply, unacknowledged=any(not one.acknowledged for one in assigned))


def _held(report: SyncRequest) -> Mapping[str, tuple[int, int]]:
    return {attempt.job_id: (attempt.attempt, attempt.fence) for attempt in report.attempts}


def _digest(value: object) -> str:
    return hashlib.sha256(orjson.dumps(value)).hexdigest()


# -- events ------------------------------------------------------------------------------------------------------------


def take_events(site: JoinedSite, session: WriteSession, batch: EventBatch | PlainMetrics, *, now: datetime) -> int:
    """Keep what is new in a batch; returns the last sequence number that the hub holds."""
    return events.append(session, site.name, batch, now=now)
