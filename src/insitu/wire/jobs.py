"""The signed job: everything that decides what runs, under the submitter's signature.

The hub adds placement (job id, attempt, fencing number) beside the envelope and
never inside. `open_job` gives a `VerifiedJob`, the only thing that an agent runs.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from insitu.domain.digests import Digest
from insitu.domain.errors import DeniedError, InvalidInputError
from insitu.wire.envelopes import Envelope, open_envelope, seal
from insitu.wire.job_file import JobFile, parse_job_document
from insitu.wire.keys import Fingerprint, SigningKey
from insitu.wire.names import explain

JOB_TYPE = "application/vnd.insitu.job.v1+json"
VALID_FOR = timedelta(days=7)
CLOCK_SLACK = timedelta(minutes=5)

_DIGEST = r"^sha256:[0-9a-f]{64}$"


NO_PACKAGES = b'lock-version = "1.0"\ncreated-by = "insitu"\npackages = []\n'
"""The lock of a job in an image: what it needs is in there."""


class ImagePin(BaseModel):
    """An image that a job runs in: its manifest for one platform, and all that this names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    digest: str = Field(pattern=_DIGEST, description="of the manifest")
    blobs: list[Annotated[str, Field(pattern=_DIGEST)]] = Field(
        min_length=2, max_length=200, description="config and layers"
    )


class Target(BaseModel):
    """One kind of place that the job was locked for: a base, and the lock that fits its Python and platform.

    With an image that is the root of the job's sandboxes, and the base lends the programs of ours beside it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base: str = Field(pattern=_DIGEST)
    python: str = Field(pattern=r"^3\.\d+$")
    platform: str = Field(max_length=40)
    lock: str = Field(pattern=_DIGEST)
    image: ImagePin | None = None


class DatasetPin(BaseModel):
    """A dataset version by its digest, so that a site can't be made to use another.

    The digest is empty when no site offered the dataset at signing: then name and
    version alone say what is meant, and the job waits for a site that has it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str
    name: str
    version: int
    digest: str = Field(pattern=r"^(sha256:[0-9a-f]{64})?$")


class JobDocument(BaseModel):
    """The payload of a job's envelope."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal["insitu.job/1"] = "insitu.job/1"
    job: dict[str, Any]
    code: str = Field(pattern=_DIGEST)
    targets: list[Target] = Field(min_length=1, max_length=16)
    datasets: list[DatasetPin] = Field(default_factory=list[DatasetPin], max_length=64)
    submitter: str = Field(max_length=100)
    nonce: str = Field(min_length=32, max_length=64)
    signed_at: AwareDatetime
    expires_at: AwareDatetime


@dataclass(frozen=True)
class VerifiedJob:
    """A job whose signature a listed key made. Only `open_job` makes one."""

    document: JobDocument
    job: JobFile
    envelope_digest: Digest
    signer: Fingerprint
    signer_name: str

    def target_for(self, base: str) -> Target:
        for target in self.document.targets:
            if target.base == base:
                return target
        raise DeniedError(
            "the job was not locked for this site's base",
            code="base-not-signed",
            rule="base",
            measure=base,
            limit=", ".join(target.base for target in self.document.targets),
            hint="submit it again: the client locks for the bases that the sites offer now",
        )


def sign_job(
    job: JobFile,
    *,
    code: Digest,
    targets: Sequence[Target],
    datasets: Sequence[DatasetPin],
    submitter: str,
    key: SigningKey,
    now: datetime,
) -> Envelope:
    """Sign `job` as filled in, with everything that it will run on."""
    document = JobDocument(
        job=job.as_document(),
        code=code,
        targets=list(targets),
        datasets=list(datasets),
        submitter=submitter,
        nonce=secrets.token_hex(16),
        signed_at=now,
        expires_at=now + VALID_FOR,
    )
    return seal(JOB_TYPE, document, key)


def open_job(envelope: Envelope, *, signers: Mapping[str, str]) -> VerifiedJob:
    """Check a job's signature, and only then read it. Expiry is `check_fresh`'s matter.

    Args:
        envelope: as it arrived.
        signers: name → fingerprint, from the site's policy. Empty: nobody's jobs run.

    Raises:
        SignatureError: nobody who is listed signed it, or it was altered.
        InvalidInputError: what was signed is not a job that this version understands.
    """
    verified = open_envelope(envelope, JOB_TYPE, set(signers.values()))
    document = read_job_document(verified.payload)
    name = next(name for name, fingerprint in signers.items() if fingerprint == verified.signer)
    return VerifiedJob(
        document=document,
        job=parse_job_document(document.job),
        envelope_digest=envelope.digest,
        signer=verified.signer,
        signer_name=name,
    )


def read_job_document(payload: Mapping[str, Any]) -> JobDocument:
    try:
        return JobDocument.model_validate(payload)
    except ValidationError as exc:
        raise explain(exc, JobDocument, what="signed job", code="job-document") from exc


def check_fresh(signed_at: datetime, expires_at: datetime, *, now: datetime) -> None:
    """Raise unless a document signed then is acceptable now, on the site's clock.

    Raises:
        DeniedError: it expired, or was signed in the future.
        InvalidInputError: it claims to be valid for longer than anything may be.
    """
    if expires_at - signed_at > VALID_FOR:
        raise InvalidInputError("the document claims to be valid for more than 7 days", code="validity")
    if now >= expires_at:
        raise DeniedError(
            "the signed document has expired",
            code="expired",
            rule="expiry",
            measure=f"it is {now.astimezone(UTC):%Y-%m-%dT%H:%MZ} here",
            limit=f"valid until {expires_at.astimezone(UTC):%Y-%m-%dT%H:%MZ}",
            hint="sign it again; if that does not help, compare the clocks",
        )
    if signed_at - now > CLOCK_SLACK:
        raise DeniedError(
            "the document was signed in the future",
            code="signed-in-future",
            rule="clock",
            measure=f"{(signed_at - now).total_seconds():.0f} s ahead of this site's clock",
            limit=f"{CLOCK_SLACK.total_seconds():.0f} s",
            hint="compare the clocks of client and site",
        )
