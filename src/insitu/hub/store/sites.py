"""Sites: who joined, what they offer, what they last said, and how far their ledger is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import bindparam, delete, func, or_, select, update

from insitu.domain.jobs import FINAL, JobState
from insitu.hub.access import JoinedSite
from insitu.hub.placement import SiteRoom
from insitu.hub.store.session import ReadSession, WriteSession
from insitu.hub.store.tables import JobRow, JoinTokenRow, SiteDatasetRow, SiteRow, table_of
from insitu.wire.datasets import DatasetOffer, PublishedPolicy
from insitu.wire.people import DatasetView, SiteView
from insitu.wire.sync import BaseOffer, HeadReport, SyncRequest

_RUNNING = [state.value for state in (JobState.ASSIGNED, JobState.PREPARING, JobState.RUNNING, JobState.JUDGING)]


@dataclass(frozen=True)
class Head:
    """The newest head of a site's ledger that the hub holds."""

    entries: int
    hash: str
    root: str
    countersigned: str

    @property
    def report(self) -> HeadReport | None:
        if not self.root:  # none yet, or one from before ledgers had a tree
            return None
        return HeadReport(entries=self.entries, hash=self.hash, root=self.root, signature=self.countersigned)


@dataclass(frozen=True)
class KnownAgent:
    """What the hub knows of the agent of a site before its next report is taken in."""

    started_at: datetime | None
    last_seen_at: datetime | None
    offer_digest: str
    room: tuple[object, ...]
    """What placement looks at, as `room_of` has it of a report."""
    head: Head


def topic(site: str) -> str:
    """What an agent's long poll waits for."""
    return f"site:{site}"


# Made once, over plain tables: each job and each report asks for some of these.
_SITES, _JOBS, _DATASETS = table_of(SiteRow), table_of(JobRow), table_of(SiteDatasetRow)
_NOTIFY = update(_SITES).where(_SITES.c.name == bindparam("site")).values(changed=_SITES.c.changed + 1)


def notify(session: WriteSession, site: str) -> None:
    """Its agent has something to hear."""
    session.change(_NOTIFY, {"site": site})
    session.wake(topic(site))


def create(session: WriteSession, name: str, labels: dict[str, str], *, now: datetime) -> bool:
    """Whether it was created: False when there is one of that name."""
    insert = session.insert(SiteRow).values(name=name, labels=labels, created_at=now)
    return session.change(insert.on_conflict_do_nothing()) == 1


def exists(session: ReadSession, name: str) -> bool:
    return session.rows(select(SiteRow.name).where(SiteRow.name == name)).first() is not None


def view(session: ReadSession, name: str, *, away_before: datetime) -> SiteView | None:
    found = views(session, away_before=away_before, name=name)
    return found[0] if found else None


def views(session: ReadSession, *, away_before: datetime, name: str | None = None) -> list[SiteView]:
    running = (
        select(func.count())
        .where(JobRow.site == SiteRow.name, JobRow.state.in_(_RUNNING))
        .correlate(SiteRow)
        .scalar_subquery()
    )
    query = select(SiteRow, running).order_by(SiteRow.name)
    if name is not None:
        query = query.where(SiteRow.name == name)
    return [_view(row, count, away_before) for row, count in session.rows(query)]


def _view(row: SiteRow, running: int, away_before: datetime) -> SiteView:
    return SiteView(
        name=row.name,
        labels=row.labels,
        joined=row.joined_at is not None,
        link=_link(row.joined_at, row.last_seen_at, away_before),
        last_seen_at=row.last_seen_at,
        agent_version=row.agent_version,
        sandbox=row.sandbox,
        policy_version=row.policy_version,
        bases=[BaseOffer.model_validate(base) for base in row.bases],
        cpus=row.cpus,
        memory_bytes=row.memory_bytes,
        slots=row.slots,
        running=running,
        ledger_entries=row.head_entries,
        alarm=row.alarm,
    )


def _link(
    joined_at: datetime | None, last_seen_at: datetime | None, away_before: datetime
) -> Literal["never joined", "online", "away"]:
    if joined_at is None:
        return "never joined"
    return "online" if last_seen_at is not None and last_seen_at > away_before else "away"


def datasets(session: ReadSession) -> list[DatasetView]:
    rows = session.rows(
        select(SiteDatasetRow).order_by(SiteDatasetRow.name, SiteDatasetRow.version.desc(), SiteDatasetRow.site)
    ).scalars()
    return [_dataset_view(row) for row in rows]


def _dataset_view(row: SiteDatasetRow) -> DatasetView:
    told = {name: getattr(row, name) for name in (*DatasetOffer.model_fields, "site", "published_at")}
    return DatasetView.model_validate(told)


def published_policy(session: ReadSession, site: str) -> PublishedPolicy | None:
    """The rules that a site publishes, if it does."""
    found = session.rows(select(_SITES.c.published_policy).where(_SITES.c.name == site)).scalar_one_or_none()
    return None if found is None else PublishedPolicy.model_validate(found)


# -- joining -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JoinToken:
    site: str
    expires_at: datetime
    used: bool
    joined_key: str
    """The key that the site has pinned; empty: nobody joined yet."""


def add_join_token(session: WriteSession, site: str, hash_: str, *, expires_at: datetime) -> None:
    session.add(JoinTokenRow(hash=hash_, site=site, expires_at=expires_at))


def join_token(session: ReadSession, hash_: str) -> JoinToken | None:
    found = session.rows(
        select(JoinTokenRow.site, JoinTokenRow.expires_at, JoinTokenRow.used_at, SiteRow.public_key)
        .join(SiteRow, SiteRow.name == JoinTokenRow.site)
        .where(JoinTokenRow.hash == hash_)
    ).one_or_none()
    return None if found is None else JoinToken(found[0], found[1], found[2] is not None, found[3])


def join(session: WriteSession, hash_: str, site: str, *, key: str, fingerprint: str, now: datetime) -> bool:
    """Spend the token and pin the key, both or neither. False: somebody was faster."""
    pinned = session.change(
        update(SiteRow)
        .where(SiteRow.name == site, SiteRow.joined_at.is_(None))
        .values(public_key=key, fingerprint=fingerprint, joined_at=now)
    )
    if pinned:
        session.change(update(JoinTokenRow).where(JoinTokenRow.hash == hash_).values(used_at=now))
    return bool(pinned)


_JOINED = select(_SITES.c.name, _SITES.c.public_key, _SITES.c.fingerprint).where(
    _SITES.c.name == bindparam("site"), _SITES.c.joined_at.is_not(None)
)


def joined(session: ReadSession, name: str) -> JoinedSite | None:
    found = session.rows(_JOINED, {"site": name}).one_or_none()
    return None if found is None else JoinedSite(*found)


def set_alarm(session: WriteSession, site: str, alarm: str) -> None:
    session.change(update(SiteRow).where(SiteRow.name == site).values(alarm=alarm))


# -- reports -----------------------------------------------------------------------------------------------------------


_KNOWN = select(
    _SITES.c.agent_started_at,
    _SITES.c.last_seen_at,
    _SITES.c.offer_digest,
    _SITES.c.head_entries,
    _SITES.c.head_hash,
    _SITES.c.head_root,
    _SITES.c.head_countersigned,
    _SITES.c.policy_version,
    _SITES.c.bases,
    _SITES.c.cpus,
    _SITES.c.memory_bytes,
    _SITES.c.slots,
).where(_SITES.c.name == bindparam("site"))
_HEAD = select(_SITES.c.head_entries, _SITES.c.head_hash, _SITES.c.head_root, _SITES.c.head_countersigned).where(
    _SITES.c.name == bindparam("site")
)
_NOTE_HEAD = (
    update(_SITES)
    .where(
        _SITES.c.name == bindparam("site"),
        or_(_SITES.c.head_root == "", _SITES.c.head_entries < bindparam("entries")),
    )
    .values(
        head_entries=bindparam("entries"),
        head_hash=bindparam("hash"),
        head_root=bindparam("root"),
        head_signature=bindparam("signature"),
        head_countersigned=bindparam("countersigned"),
    )
)
_SEEN = update(_SITES).where(_SITES.c.name == bindparam("site")).values(last_seen_at=bindparam("now"))


def known_agent(session: ReadSession, site: str) -> KnownAgent:
    row = session.rows(_KNOWN, {"site": site}).one()
    return KnownAgent(row[0], row[1], row[2], tuple(row[7:]), Head(*row[3:7]))


def room_of(report: SyncRequest) -> tuple[object, ...]:
    capacity = report.capacity
    bases = [base.model_dump() for base in report.bases]
    return (report.policy_version, bases, capacity.cpus, capacity.memory_bytes, capacity.slots)


def head(session: ReadSession, site: str) -> Head:
    return Head(*session.rows(_HEAD, {"site": site}).one())


def note_seen(session: WriteSession, site: str, *, now: datetime) -> None:
    """A report that says nothing new is a sign of life."""
    session.change(_SEEN, {"site": site, "now": now})


def note_report(session: WriteSession, site: str, report: SyncRequest, *, now: datetime) -> None:
    values: dict[str, Any] = {
        "last_seen_at": now,
        "agent_started_at": report.started_at,
        "agent_version": report.agent_version,
        "sandbox": report.sandbox,
        "policy_version": report.policy_version,
        "bases": [base.model_dump() for base in report.bases],
        "cpus": report.capacity.cpus,
        "memory_bytes": report.capacity.memory_bytes,
        "slots": report.capacity.slots,
    }
    session.change(update(SiteRow).where(SiteRow.name == site).values(values))


def note_offer(session: WriteSession, site: str, report: SyncRequest, digest: str, *, now: datetime) -> None:
    """Replace what a site offers and publishes; what it says as before keeps its time."""
    before = {(row.name, row.version): row for row in _offered(session, site)}
    session.change(delete(SiteDatasetRow).where(SiteDatasetRow.site == site))
    if report.datasets:
        rows: list[dict[str, Any]] = []
        for offer in report.datasets:
            told = offer.model_dump(mode="json")
            known = before.get((offer.name, offer.version))
            same = known is not None and all(getattr(known, name) == value for name, value in told.items())
            rows.append({"site": site, **told, "published_at": known.published_at if known and same else now})
        session.change(session.insert(SiteDatasetRow).on_conflict_do_nothing(), rows)
    policy = report.policy and report.policy.model_dump(mode="json")
    session.change(update(SiteRow).where(SiteRow.name == site).values(offer_digest=digest, published_policy=policy))


def _offered(session: ReadSession, site: str) -> list[SiteDatasetRow]:
    return list(session.rows(select(SiteDatasetRow).where(SiteDatasetRow.site == site)).scalars())


def note_head(session: WriteSession, site: str, reported: HeadReport, *, countersigned: str) -> bool:
    """Keep a head that goes forward. False: the hub holds a newer one, or another of the same length."""
    return bool(
        session.change(_NOTE_HEAD, {"site": site, **reported.model_dump(), "countersigned": countersigned}),
    )


# -- placing -----------------------------------------------------------------------------------------------------------


_PROMISED = (
    select(_JOBS.c.site, func.sum(_JOBS.c.cpus), func.sum(_JOBS.c.memory_bytes), func.count())
    .where(
        _JOBS.c.acknowledged.is_(False),
        _JOBS.c.site.is_not(None),
        _JOBS.c.state.not_in([state.value for state in FINAL]),
    )
    .group_by(_JOBS.c.site)
)
_WENT_AWAY = select(_SITES.c.name).where(
    _SITES.c.last_seen_at <= bindparam("before"), _SITES.c.last_seen_at > bindparam("after")
)
_OFFERS = select(_DATASETS.c.site, _DATASETS.c.name, _DATASETS.c.version, _DATASETS.c.digest)
_ROOMS = (
    select(
        _SITES.c.name,
        _SITES.c.labels,
        _SITES.c.bases,
        _SITES.c.policy_version,
        _SITES.c.slots,
        _SITES.c.cpus,
        _SITES.c.memory_bytes,
        _SITES.c.joined_at,
        _SITES.c.last_seen_at,
    )
    .where(_SITES.c.joined_at.is_not(None))
    .order_by(_SITES.c.name)
)


def rooms(session: ReadSession, *, away_before: datetime) -> list[SiteRoom]:
    """Every joined site as placement sees it; what was assigned but not yet reported is taken off its room."""
    promised: dict[str, tuple[float, int, int]] = {}
    for site, cpus, memory, count in session.rows(_PROMISED):
        promised[str(site)] = (float(cpus), int(memory), int(count))
    offers: dict[str, set[tuple[str, int, str]]] = {}
    for site, name, version, digest in session.rows(_OFFERS):
        offers.setdefault(site, set()).add((name, version, digest))
    found: list[SiteRoom] = []
    for row in session.rows(_ROOMS):
        cpus, memory, count = promised.get(row.name, (0.0, 0, 0))
        found.append(
            SiteRoom(
                name=row.name,
                labels=row.labels,
                bases=tuple(base["digest"] for base in row.bases),
                datasets=frozenset(offers.get(row.name, ())),
                # Without a readable policy nothing runs there, so nothing is sent there.
                slots=row.slots - count if row.policy_version > 0 else 0,
                cpus=row.cpus - cpus,
                memory_bytes=row.memory_bytes - memory,
                online=_link(row.joined_at, row.last_seen_at, away_before) == "online",
                has_policy=row.policy_version > 0,
            )
        )
    return found


def changes(session: ReadSession) -> dict[str, int]:
    """How often each site's agent was given something to hear: for the sweep that finds missed wake-ups."""
    return dict(session.rows(select(SiteRow.name, SiteRow.changed)).all())


def went_away(session: ReadSession, *, before: datetime, after: datetime) -> list[str]:
    """Sites whose last word came between the two."""
    return list(session.rows(_WENT_AWAY, {"before": before, "after": after}).scalars())
