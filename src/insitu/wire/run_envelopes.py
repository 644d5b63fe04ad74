"""A run envelope: a steward's signed word that runs of this kind may release by themselves, so many times, until then.

It is a list of what may differ between runs, and of how far: code by digest, the
command as it was written, a value or range for each parameter, datasets, locks,
and the outputs and metrics that may leave. Whatever it does not name is outside.
`insitu.agent.envelope_rules` compares a job with it; `insitu.agent.run_envelopes` keeps
it at the site and counts its runs.

It travels as a DSSE envelope of its own type, so that no signature under a job or a
verdict is one under a run envelope. Its name is the digest of what was signed,
never of the signatures around it: who adds a signature makes no new one, with
fresh runs. It names the site's key, so a copy means nothing at another site.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import SignatureError
from insitu.domain.outputs import OutputType
from insitu.wire.envelopes import Envelope, seal
from insitu.wire.job_file import DatasetInput, JobFile, Literals
from insitu.wire.keys import Fingerprint, SigningKey
from insitu.wire.names import explain
from insitu.wire.reviewers import open_by_reviewer

RUN_ENVELOPE_TYPE = "application/vnd.insitu.run-envelope.v1+json"
MAX_RUNS = 100_000
DEFAULT_RUNS = 20
DEFAULT_VALID_FOR = timedelta(days=30)

_DigestText = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_FingerprintText = Annotated[str, Field(pattern=r"^ed25519:SHA256:[A-Za-z0-9+/]{43}$")]
_Number = Annotated[float, Field(allow_inf_nan=False)]
Anything = Literal["any"]
"""Said aloud: what is left out is never "anything"."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OneOf(_Strict):
    """A parameter that must be one of these; one alone is an exact value."""

    values: list[Literals] = Field(min_length=1, max_length=100)


class Between(_Strict):
    """A parameter that is a number from here to there, both ends allowed."""

    at_least: _Number
    at_most: _Number

    @model_validator(mode="after")
    def _in_order(self) -> Between:
        if self.at_most < self.at_least:
            raise ValueError(f"the range {self.at_least:g}..{self.at_most:g} is empty")
        return self


class AllowedDataset(_Strict):
    """What one of the job's inputs may be."""

    name: str = Field(max_length=64)
    versions: Anything | Annotated[list[int], Field(min_length=1, max_length=100)]


class AllowedOutput(_Strict):
    """An output that may leave. A job declares the same or less."""

    type: OutputType
    register_as: str | None = Field(default=None, max_length=200)
    max_bytes: int | None = Field(default=None, gt=0)  # none: as much as the policy lets out


class RunEnvelopeDocument(_Strict):
    """The payload: what was approved."""

    schema_version: Literal["insitu.run-envelope/1"] = "insitu.run-envelope/1"
    title: str = Field(max_length=100)
    site: str = Field(max_length=100)
    site_key: _FingerprintText
    code: _DigestText
    command: str = Field(min_length=1, max_length=4096)
    params: dict[str, OneOf | Between] = Field(max_length=100)
    datasets: dict[str, AllowedDataset] = Field(max_length=64)
    locks: Anything | Annotated[list[_DigestText], Field(min_length=1, max_length=100)]
    outputs: dict[str, AllowedOutput] = Field(max_length=100)
    metrics: list[str] = Field(max_length=100)
    who: dict[str, _FingerprintText] = Field(min_length=1, max_length=100)
    runs: int = Field(ge=1, le=MAX_RUNS)
    signed_at: AwareDatetime
    expires_at: AwareDatetime
    nonce: str = Field(min_length=32, max_length=64)


@dataclass(frozen=True)
class VerifiedRunEnvelope:
    """A run envelope that a listed reviewer's key signed. Only `open_run_envelope` makes one."""

    document: RunEnvelopeDocument
    digest: Digest
    signer: Fingerprint
    signer_name: str


def sign_run_envelope(document: RunEnvelopeDocument, key: SigningKey) -> Envelope:
    return seal(RUN_ENVELOPE_TYPE, document, key)


def open_run_envelope(envelope: Envelope, *, reviewers: Mapping[str, str]) -> VerifiedRunEnvelope:
    """Check a run envelope's signature, and only then read it. What it covers is another question.

    Args:
        envelope: as it arrived, or as it was stored.
        reviewers: name → fingerprint, from the site's policy as it is now. Empty: nobody approves anything.

    Raises:
        SignatureError: no reviewer whom the policy names signed it, or it was altered.
        InvalidInputError: what was signed is no run envelope.
    """
    verified, name = open_by_reviewer(envelope, RUN_ENVELOPE_TYPE, reviewers, what="run envelope")
    try:
        document = RunEnvelopeDocument.model_validate(verified.payload)
    except ValidationError as exc:
        raise explain(exc, RunEnvelopeDocument, what="run envelope", code="run-envelope-document") from exc
    return VerifiedRunEnvelope(document=document, digest=name_of(envelope), signer=verified.signer, signer_name=name)


def name_of(envelope: Envelope) -> Digest:
    """The digest of the signed bytes, whatever signatures stand beside them.

    Raises:
        SignatureError: the payload is not base64.
    """
    try:
        return digest_of(base64.b64decode(envelope.payload, validate=True))
    except binascii.Error as exc:
        raise SignatureError("the envelope's payload is not base64") from exc


def allow_job(
    job: JobFile,
    *,
    code: str,
    locks: Sequence[str] | Anything,
    versions: Mapping[str, int],
    site: str,
    site_key: str,
    who: Mapping[str, str],
    runs: int,
    now: datetime,
    expires_at: datetime,
) -> RunEnvelopeDocument:
    """What covers `job` and nothing else: the start of a run envelope, for a steward to widen.

    Args:
        versions: dataset → the version that was signed, where the job's file leaves it open.
    """
    datasets = {
        name: AllowedDataset(name=given.name, versions=_version_of(given, versions))
        for name, given in job.datasets.items()
    }
    return RunEnvelopeDocument(
        title=job.display_name,
        site=site,
        site_key=site_key,
        code=code,
        command=job.command,
        params={
            name: OneOf(values=[given]) for name, given in job.inputs.items() if not isinstance(given, DatasetInput)
        },
        datasets=datasets,
        locks="any" if locks == "any" else sorted(locks),
        outputs={
            name: AllowedOutput(type=out.type, register_as=out.register_as, max_bytes=out.max_bytes)
            for name, out in job.outputs.items()
        },
        metrics=list(job.metrics),
        who=dict(who),
        runs=runs,
        signed_at=now,
        expires_at=expires_at,
        nonce=secrets.token_hex(16),
    )


def _version_of(given: DatasetInput, versions: Mapping[str, int]) -> list[int] | Anything:
    version = given.version or versions.get(given.name)
    return "any" if version is None else [version]
