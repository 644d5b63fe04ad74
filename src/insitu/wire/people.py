"""What people's programs send to the hub and get back: `/api/v1`.

Views are what may be shown; they hold no path, no row and no secret. JSON keys
are snake_case, times are RFC 3339 in UTC. Errors are problem documents (RFC 9457)
with the fields of `InsituError.as_dict()` beside `type`, `title`, `status`, `detail`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from insitu.domain.jobs import JobState
from insitu.wire.datasets import ColumnView, PublishedPolicy
from insitu.wire.deployments import DeploymentDocument
from insitu.wire.envelopes import Envelope
from insitu.wire.sync import BaseOffer


class Role(StrEnum):
    DATA_SCIENTIST = "data-scientist"
    STEWARD = "steward"
    ML_ENGINEER = "ml-engineer"
    ADMIN = "admin"


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _View(BaseModel):
    """Lenient to read, so that an older client can talk to a newer hub."""

    # A metric may be NaN or infinite, for which JSON has no number: such a one travels as a string, and is read back.
    model_config = ConfigDict(extra="ignore", frozen=True, ser_json_inf_nan="strings")


class Problem(_View):
    """RFC 9457, with our fields."""

    type: str = "about:blank"
    title: str = ""
    status: int = 500
    detail: str = ""
    code: str = "failure"
    what: str = ""
    why: str = ""
    hint: str = ""
    rule: str = ""
    measure: str = ""
    limit: str = ""
    exit_code: int = 1
    missing: list[str] = Field(default_factory=list[str], description="digests of blobs to upload first")
    trace: str = Field(default="", description="of a failure that nobody foresaw: the hub's log has more under it")


# -- who ---------------------------------------------------------------------------------------------------------------


class TokenRequest(_Request):
    name: str = Field(min_length=1, max_length=63)
    role: Role
    days: int = Field(default=90, ge=1, le=3650)


class TokenView(_View):
    id: str
    name: str
    role: Role
    created_at: AwareDatetime
    expires_at: AwareDatetime
    revoked_at: AwareDatetime | None = None
    last_used_at: AwareDatetime | None = None


class NewToken(TokenView):
    token: str = Field(description="shown this once")


class WhoAmI(_View):
    name: str
    role: Role
    key: str = Field(default="", description="fingerprint of the public key that the hub shows for this person")


class KeyRequest(_Request):
    public_key: str = Field(max_length=128)


# -- sites and data ----------------------------------------------------------------------------------------------------


class SiteRequest(_Request):
    name: str
    labels: dict[str, str] = Field(default_factory=dict[str, str])


class SiteView(_View):
    name: str
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    joined: bool = False
    link: Literal["never joined", "online", "away"] = "never joined"
    last_seen_at: AwareDatetime | None = None
    agent_version: str = ""
    sandbox: str = ""
    policy_version: int = 0
    bases: list[BaseOffer] = Field(default_factory=list[BaseOffer])
    cpus: float = 0
    memory_bytes: int = 0
    slots: int = 0
    running: int = 0
    ledger_entries: int = 0
    alarm: str = ""


class NewSite(SiteView):
    join_token: str = Field(description="shown this once; good for one join")
    join_expires_at: AwareDatetime


class DatasetView(_View):
    site: str
    name: str
    version: int
    digest: str
    rows: str
    columns: list[ColumnView] = Field(default_factory=list[ColumnView])
    description: str = ""
    format: str = ""
    owner: str = ""
    purpose: str = ""
    licence: str = ""
    minimum_rows: int = 0  # that each summary stands for
    published_at: AwareDatetime | None = None  # when the hub was told what it knows now


class SitePolicyView(_View):
    """What a site publishes of its policy, for rehearsals."""

    site: str
    policy: PublishedPolicy


# -- jobs --------------------------------------------------------------------------------------------------------------


class JobRequest(_Request):
    """A signed job and its place in the queue. `locks` are blobs, uploaded like the code."""

    envelope: Envelope


class Reason(_View):
    """Why something is as it is: the fields of a refusal or a failure."""

    code: str = ""
    what: str = ""
    rule: str = ""
    measure: str = ""
    limit: str = ""
    hint: str = ""


class OutputView(_View):
    name: str
    verdict: str
    rule: str = ""
    measure: str = ""
    limit: str = ""
    hint: str = ""
    review: str = Field(default="", description="what reviewers said, when they decided")
    reason: str = Field(default="", description="theirs, as they wrote it")
    findings: list[dict[str, str]] = Field(default_factory=list[dict[str, str]])
    not_checked: list[str] = Field(default_factory=list[str])
    size_bytes: int = 0
    digest: str = ""
    model: str = ""
    model_version: int | None = None


class JobView(_View):
    id: str
    name: str
    state: JobState
    reason: Reason = Reason()
    link: str = Field(default="", description="'away' when the site that has it is out of reach")
    site: str = ""
    attempt: int = 0
    submitter: str = ""
    experiment: str = ""
    run_id: str = ""
    datasets: list[str] = Field(default_factory=list[str])
    code: str = ""
    lock: str = ""
    base: str = ""
    failure: str = ""
    cancel_requested: bool = False
    created_at: AwareDatetime
    started_at: AwareDatetime | None = None
    ended_at: AwareDatetime | None = None
    metrics: dict[str, float] = Field(default_factory=dict[str, float])
    params: dict[str, str] = Field(default_factory=dict[str, str])
    tags: dict[str, str] = Field(default_factory=dict[str, str])
    outputs: list[OutputView] = Field(default_factory=list[OutputView])
    kept: dict[str, int] = Field(default_factory=dict[str, int])
    egress_bytes: int = 0


class ReleaseView(_View):
    """An output that a site decided on: what is held there, and what was released or refused."""

    job_id: str
    job_name: str
    job_state: JobState
    site: str
    submitter: str
    decided_at: AwareDatetime
    output: OutputView


class LogLine(_View):
    seq: int = Field(description="the event's number in the job's stream, over all attempts; what `after=` takes")
    attempt: int
    stream: str
    text: str
    at: AwareDatetime


class MetricPoint(_View):
    key: str
    value: float
    step: int
    timestamp_ms: int
    run: str = ""


class ChannelView(_View):
    """What left by one channel: `metric`, `param`, `tag`, `run`, `log` or `file`."""

    channel: str
    entries: int
    left_bytes: int


class MeterView(_View):
    """What left a site for a job so far, as the hub received it."""

    job_id: str
    state: JobState
    channels: list[ChannelView] = Field(default_factory=list[ChannelView])
    left_bytes: int = 0
    room_bytes: int | None = Field(default=None, description="what the job may send in all, if its site tells it")


class EgressItem(_View):
    """One thing that reached the hub, as the hub saw it; the site's ledger is the record."""

    kind: str
    name: str
    size_bytes: int
    decision: str
    rule: str
    entry: int


# -- models, images, deployments ---------------------------------------------------------------------------------------


class ModelVersionView(_View):
    name: str
    version: int
    aliases: list[str] = Field(default_factory=list[str])
    tags: dict[str, str] = Field(default_factory=dict[str, str])
    digest: str = ""
    run_id: str = ""
    job_id: str = ""
    site: str = ""
    created_at: AwareDatetime | None = None
    size_bytes: int = 0
    resident: str = Field(default="", description="the site at which it may be used; elsewhere it is refused")


class TagRequest(_Request):
    key: str = Field(min_length=1, max_length=250)
    value: str = Field(max_length=5000)


class AliasRequest(_Request):
    alias: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")
    version: int = Field(ge=1)


class ImageRequest(_Request):
    model: str
    version: int = Field(ge=1)
    push: bool = True


class ImageView(_View):
    id: str
    state: Literal["building", "ready", "failed"]
    model: str
    version: int
    model_digest: str = ""
    digest: str = ""
    reference: str = ""
    size_bytes: int = 0
    base: str = ""
    lock: str = ""
    pushed: bool = False
    created_at: AwareDatetime
    reason: Reason = Reason()


class DeploymentRequest(_Request):
    envelope: Envelope


class DeploymentView(_View):
    name: str
    site: str
    revision: int
    state: str
    url: str = ""
    model: str
    version: int
    image: str
    submitter: str = ""
    created_at: AwareDatetime
    deleted: bool = False
    link: str = ""
    reason: Reason = Reason()
    document: DeploymentDocument | None = None


class Page(_View):
    """A list, newest first."""

    items: list[dict[str, Any]]
    next: str = ""
