"""The hub's tables. What they promise beyond their columns stands at the column.

Documents that somebody signed are kept as they came, so that they can be handed
on and checked again; what is searched for stands in columns of its own.
Events are kept in the batches in which they arrived: one row for up to a thousand
of them, which is what makes a busy job cheap. Latest values stand beside.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcTime(TypeDecorator[datetime]):
    """An aware time in UTC, also on SQLite, which knows no zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# SQLite counts rows up by itself only in a column of exactly this type.
_Number = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    # Names by rule, so that a migration can name what it changes on both databases.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy's spelling
        str: Text,
        datetime: UtcTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
        bytes: LargeBinary,
        float: Float,
    }


def table_of(row: type[Base]) -> Table:
    """The plain table behind a row, for statements that are made once."""
    return cast("Table", row.__table__)


class PersonRow(Base):
    __tablename__ = "people"

    name: Mapped[str] = mapped_column(primary_key=True)
    public_key: Mapped[str]
    fingerprint: Mapped[str] = mapped_column(unique=True)
    """For display, and to tie a signed job to its submitter. A site trusts its own policy alone."""


class TokenRow(Base):
    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    role: Mapped[str]
    hash: Mapped[str] = mapped_column(unique=True)
    """SHA-256: a token holds 256 random bits, so nothing slower would add anything."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class SiteRow(Base):
    __tablename__ = "sites"

    name: Mapped[str] = mapped_column(primary_key=True)
    labels: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    public_key: Mapped[str] = mapped_column(default="")
    """Pinned at the first join; never replaced."""
    fingerprint: Mapped[str] = mapped_column(default="")
    joined_at: Mapped[datetime | None]
    last_seen_at: Mapped[datetime | None] = mapped_column(index=True)
    agent_started_at: Mapped[datetime | None]
    agent_version: Mapped[str] = mapped_column(default="")
    sandbox: Mapped[str] = mapped_column(default="")
    policy_version: Mapped[int] = mapped_column(default=0)
    bases: Mapped[list[Any]] = mapped_column(default=list)
    cpus: Mapped[float] = mapped_column(default=0.0)
    memory_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    slots: Mapped[int] = mapped_column(default=0)
    offer_digest: Mapped[str] = mapped_column(default="")
    """Of the datasets and the policy that it last told of."""
    published_policy: Mapped[dict[str, Any] | None]
    head_entries: Mapped[int] = mapped_column(BigInteger, default=0)
    """Only ever grows: a ledger that goes back is refused."""
    head_hash: Mapped[str] = mapped_column(default="")
    head_root: Mapped[str] = mapped_column(default="", server_default="")
    head_signature: Mapped[str] = mapped_column(default="")
    head_countersigned: Mapped[str] = mapped_column(default="")
    alarm: Mapped[str] = mapped_column(default="")
    changed: Mapped[int] = mapped_column(BigInteger, default=0)
    """Counted up when its agent has something to hear, so that other hub processes can tell."""


class JoinTokenRow(Base):
    __tablename__ = "join_tokens"

    hash: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(ForeignKey("sites.name"))
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class SiteDatasetRow(Base):
    __tablename__ = "site_datasets"

    site: Mapped[str] = mapped_column(ForeignKey("sites.name"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str]
    rows: Mapped[str]
    columns: Mapped[list[Any]]
    description: Mapped[str]
    format: Mapped[str] = mapped_column(default="", server_default="")
    owner: Mapped[str] = mapped_column(default="", server_default="")
    purpose: Mapped[str] = mapped_column(default="", server_default="")
    licence: Mapped[str] = mapped_column(default="", server_default="")
    minimum_rows: Mapped[int] = mapped_column(default=0, server_default="0")
    published_at: Mapped[datetime | None]
    """When the hub was told what stands here."""


class JobRow(Base):
    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_state_number", "state", "number"), Index("ix_jobs_site_state", "site", "state"))

    number: Mapped[int] = mapped_column(_Number, primary_key=True, autoincrement=True)
    """The order of acceptance: first in, first out."""
    id: Mapped[str] = mapped_column(String(20), unique=True)
    envelope: Mapped[dict[str, Any]]
    envelope_digest: Mapped[str] = mapped_column(unique=True)
    nonce: Mapped[str] = mapped_column(unique=True)
    submitter: Mapped[str]
    signer: Mapped[str]
    name: Mapped[str]
    experiment: Mapped[str]
    tags: Mapped[dict[str, Any]]
    outputs: Mapped[dict[str, Any]]
    """What the signed job says may leave: output → type, registered name, bound."""
    code: Mapped[str] = mapped_column(index=True)
    targets: Mapped[list[Any]]
    datasets: Mapped[list[Any]]
    compute: Mapped[str | None]
    cpus: Mapped[float]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    retries: Mapped[int]

    state: Mapped[str] = mapped_column(String(20))
    """Changed only by `store.job_states`, along domain.jobs.TRANSITIONS."""
    reason: Mapped[dict[str, Any]]
    failure: Mapped[str] = mapped_column(default="")
    site: Mapped[str | None] = mapped_column(ForeignKey("sites.name"))
    base: Mapped[str] = mapped_column(default="")
    lock: Mapped[str] = mapped_column(default="", index=True)
    attempt: Mapped[int] = mapped_column(default=0)
    fence: Mapped[int] = mapped_column(default=0)
    """Grows with every lease; a write with an older one changes nothing."""
    acknowledged: Mapped[bool] = mapped_column(default=False)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    last_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    """The last event of the current attempt that is held; the next batch starts after it."""
    cursor: Mapped[int] = mapped_column(BigInteger, default=0)
    """How many events the job has, over all attempts: the id of the newest in its stream."""
    recorded: Mapped[int] = mapped_column(BigInteger, default=0)
    """How many of them MLflow has."""
    closed: Mapped[bool] = mapped_column(default=False)
    """MLflow has been told how the run ended."""
    run_id: Mapped[str] = mapped_column(default="")
    egress_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    room_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """What the site said that the job may send in all; none, if it does not tell."""


class JobEventsRow(Base):
    """One batch. Its events' cursors run from `first_cursor` without a gap."""

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    first_cursor: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_cursor: Mapped[int] = mapped_column(BigInteger)
    attempt: Mapped[int]
    kinds: Mapped[str]
    """Which kinds are inside, each between commas, so that a reader of logs can pass over metrics."""
    payload: Mapped[bytes]
    """A JSON array of events."""
    entry: Mapped[int] = mapped_column(BigInteger)
    """The ledger entry that the site wrote first; -1 for what the hub itself says."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[datetime]


class JobValueRow(Base):
    """The latest metric, parameter or tag of each name in a job's own run."""

    __tablename__ = "job_values"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[float | None]
    text: Mapped[str | None]


class JobKeptRow(Base):
    __tablename__ = "job_kept"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    what: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)


class JobOutputRow(Base):
    """The newest decision on each declared output."""

    __tablename__ = "job_outputs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    attempt: Mapped[int]
    verdict: Mapped[str] = mapped_column(index=True)
    decision: Mapped[dict[str, Any]]
    decided_at: Mapped[datetime]


class JobRunRow(Base):
    """A run that the script started inside its own, by the gate's id and by MLflow's."""

    __tablename__ = "job_runs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    local: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str]


class ReleaseRow(Base):
    """A released output, or the card of one that stays, verified and admitted: once for each job, output and digest."""

    __tablename__ = "releases"
    __table_args__ = (UniqueConstraint("job_id", "output", "digest"),)

    number: Mapped[int] = mapped_column(_Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(20), unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    attempt: Mapped[int]
    site: Mapped[str] = mapped_column(ForeignKey("sites.name"))
    output: Mapped[str]
    type: Mapped[str]
    register_as: Mapped[str | None]
    digest: Mapped[str] = mapped_column(index=True)
    files: Mapped[list[Any]]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    code: Mapped[str]
    lock: Mapped[str]
    base: Mapped[str]
    datasets: Mapped[dict[str, Any]]
    policy_version: Mapped[int]
    rule: Mapped[str]
    reviewer: Mapped[str]
    entry: Mapped[int] = mapped_column(BigInteger)
    envelope: Mapped[dict[str, Any]]
    admitted_at: Mapped[datetime]
    model_version: Mapped[int | None]
    """MLflow's number, once it has one."""
    resident: Mapped[bool] = mapped_column(default=False)
    """It stays at its site: this is its card, and `files` is empty."""


class BlobRow(Base):
    __tablename__ = "blobs"

    digest: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class BlobHolderRow(Base):
    """Who has shown a blob's bytes: naming a digest is no proof of having what it names."""

    __tablename__ = "blob_holders"

    digest: Mapped[str] = mapped_column(ForeignKey("blobs.digest"), primary_key=True)
    holder: Mapped[str] = mapped_column(primary_key=True)


class ImageRow(Base):
    __tablename__ = "images"
    __table_args__ = (Index("ix_images_model_version", "model", "version"),)

    number: Mapped[int] = mapped_column(_Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(20), unique=True)
    state: Mapped[str] = mapped_column(String(20), index=True)
    model: Mapped[str]
    version: Mapped[int]
    push: Mapped[bool]
    model_digest: Mapped[str]
    base: Mapped[str]
    lock: Mapped[str]
    digest: Mapped[str] = mapped_column(default="", index=True)
    reference: Mapped[str] = mapped_column(default="")
    size_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    blobs: Mapped[list[Any]] = mapped_column(default=list)
    """Digests of manifest, config and layers: what a site may fetch once a deployment names the image."""
    pushed: Mapped[bool] = mapped_column(default=False)
    reason: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime]


class DeploymentRow(Base):
    """What should serve under a name: the newest revision, or nothing when `deleted`."""

    __tablename__ = "deployments"

    name: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(ForeignKey("sites.name"), index=True)
    revision: Mapped[int]
    envelope: Mapped[dict[str, Any]]
    envelope_digest: Mapped[str]
    document: Mapped[dict[str, Any]]
    submitter: Mapped[str]
    created_at: Mapped[datetime]
    deleted: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str] = mapped_column(default="pending")
    """As the site last reported it, of `reported_revision`."""
    reported_revision: Mapped[int] = mapped_column(default=0)
    url: Mapped[str] = mapped_column(default="")
    site_image: Mapped[str] = mapped_column(default="")
    """Digest of the image that the site built itself, of a resident model."""
    reason: Mapped[dict[str, Any]] = mapped_column(default=dict)


class DeploymentRevisionRow(Base):
    """Every revision that was ever accepted, so that none comes twice."""

    __tablename__ = "deployment_revisions"

    name: Mapped[str] = mapped_column(ForeignKey("deployments.name"), primary_key=True)
    revision: Mapped[int] = mapped_column(primary_key=True)
    envelope_digest: Mapped[str] = mapped_column(unique=True)
    nonce: Mapped[str] = mapped_column(unique=True)
    envelope: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
