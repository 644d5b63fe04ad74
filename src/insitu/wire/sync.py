"""What agent and hub say to each other in `POST /agent/v1/sync`.

The agent reports what is; the hub answers with what should be, all of it, each
time. Repeating either message changes nothing. The reply carries a revision: an
agent that sends it back waits until something differs, or `wait_s` has passed.
An assignment is acknowledged by its attempt appearing in the next report; until
then it is offered again at once.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from insitu.domain.jobs import JobState
from insitu.wire.datasets import DatasetOffer, PublishedPolicy
from insitu.wire.envelopes import Envelope

PROTOCOL = 2

_DIGEST = r"^sha256:[0-9a-f]{64}$"


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BaseOffer(_Message):
    """A base that jobs may run on here."""

    digest: str
    python: str
    platform: str


class Capacity(_Message):
    """What all jobs together may have here; the hub subtracts what it has assigned. Coarse."""

    cpus: float = Field(ge=0)
    memory_bytes: int = Field(ge=0)
    slots: int = Field(ge=0)


class AttemptReport(_Message):
    """An attempt that the agent holds. Its presence here acknowledges the assignment."""

    job_id: str
    attempt: int
    fence: int
    state: JobState
    last_seq: int = Field(ge=0, description="last event sequence number that the hub has acknowledged")


class DeploymentReport(_Message):
    name: str
    revision: int
    state: Literal["pending", "fetching", "starting", "healthy", "unhealthy", "failed", "stopping", "gone"]
    url: str = Field(default="", max_length=300)
    image: str = Field(
        default="", pattern=r"^(sha256:[0-9a-f]{64})?$", description="that the site built itself, of a resident model"
    )
    code: str = Field(default="", max_length=60)
    what: str = Field(default="", max_length=500)
    hint: str = Field(default="", max_length=500)


class HeadReport(_Message):
    """The ledger's head, signed by the site's key, or by the hub's."""

    entries: int = Field(ge=0)
    hash: str = Field(pattern=_DIGEST, description="of the last entry")
    root: str = Field(pattern=_DIGEST, description="of the Merkle tree over all entries")
    signature: str = Field(max_length=128, description="base64 Ed25519 over head_message")


class HeadProof(_Message):
    """That a ledger begins with the head that the hub countersigned before (RFC 9162, 2.1.4)."""

    since: int = Field(ge=0, description="entries of that head")
    steps: list[str] = Field(max_length=128, description="hashes in hex")


class SyncRequest(_Message):
    protocol: int = PROTOCOL
    agent_version: str = Field(max_length=40)
    started_at: AwareDatetime
    sandbox: Literal["podman", "docker", "bubblewrap", "unsafe"]
    policy_version: int = Field(ge=0, description="0: no readable policy, so nothing runs")
    policy: PublishedPolicy | None = Field(default=None, description="its rules, where the site publishes them")
    bases: list[BaseOffer] = Field(default_factory=list[BaseOffer], max_length=16)
    capacity: Capacity
    datasets: list[DatasetOffer] = Field(default_factory=list[DatasetOffer], max_length=1000)
    attempts: list[AttemptReport] = Field(default_factory=list[AttemptReport], max_length=1000)
    deployments: list[DeploymentReport] = Field(default_factory=list[DeploymentReport], max_length=100)
    head: HeadReport | None = None
    head_proof: HeadProof | None = Field(default=None, description="left out while the hub has no head of this site")
    revision: str = Field(default="", max_length=80, description="of the last reply that the agent has acted on")
    wait_s: float = Field(default=0, ge=0, le=60)


class Assignment(_Message):
    job_id: str
    attempt: int
    fence: int
    envelope: Envelope
    cancel: bool = False


class DeploymentOrder(_Message):
    """A deployment that should be: its signed document. Absent from the reply: it should not be."""

    name: str
    envelope: Envelope


class SyncReply(_Message):
    protocol: int = PROTOCOL
    revision: str
    assignments: list[Assignment] = Field(default_factory=list[Assignment])
    over: list[str] = Field(default_factory=list[str], description="job ids in the report that are final at the hub")
    deployments: list[DeploymentOrder] = Field(default_factory=list[DeploymentOrder])
    countersigned: HeadReport | None = Field(default=None, description="the newest head the hub holds, hub's signature")


class JoinRequest(_Message):
    token: str = Field(max_length=200)
    public_key: str = Field(max_length=128)


class JoinReply(_Message):
    site: str
    hub_key: str  # the hub's public key, pinned by the agent


class ReleaseReply(_Message):
    """A release was admitted; sent again, it gets the same answer."""

    output: str
    digest: str
    model: str = ""  # the registered model that it became a version of; empty: it is no model
    version: int | None = None


def head_message(site: str, entries: int, hash_: str, root: str) -> bytes:
    """The bytes that a site signs and the hub countersigns."""
    return f"insitu-head/2\n{site}\n{entries}\n{hash_}\n{root}".encode()
