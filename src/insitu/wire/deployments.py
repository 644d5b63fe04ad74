"""The signed deployment: what a site's agent may serve. It runs nothing else.

The site checks that its policy lists the signer under `deployments.signers`, that
the base is one of the policy's, and that the model is one that this site released.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from insitu.domain.digests import Digest
from insitu.wire.envelopes import Envelope, open_envelope, seal
from insitu.wire.jobs import VALID_FOR
from insitu.wire.keys import Fingerprint, SigningKey
from insitu.wire.names import explain

DEPLOYMENT_TYPE = "application/vnd.insitu.deployment.v1+json"

_DIGEST = r"^sha256:[0-9a-f]{64}$"


class DeployedModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: int = Field(ge=1)
    digest: str = Field(pattern=_DIGEST, description="of the release's files")


class ServingResources(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: float = Field(default=1.0, gt=0)
    memory_bytes: int = Field(default=1 << 30, gt=0)


class DeploymentDocument(BaseModel):
    """The payload of a deployment's envelope."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal["insitu.deployment/1"] = "insitu.deployment/1"
    name: str
    site: str
    revision: int = Field(ge=1)
    model: DeployedModel
    image: str | None = Field(
        default=None,
        pattern=_DIGEST,
        description="of the image's manifest; none: a resident model, whose image is built at its site",
    )
    base: str = Field(pattern=_DIGEST)
    lock: str = Field(pattern=_DIGEST)
    port: int | None = Field(
        default=None, ge=1, le=65535, description="none: the site picks one from its policy's range"
    )
    resources: ServingResources = ServingResources()
    submitter: str = Field(max_length=100)
    nonce: str = Field(min_length=32, max_length=64)
    signed_at: AwareDatetime
    expires_at: AwareDatetime


@dataclass(frozen=True)
class VerifiedDeployment:
    """A deployment that a listed key signed. Only `open_deployment` makes one."""

    document: DeploymentDocument
    envelope_digest: Digest
    signer: Fingerprint
    signer_name: str


def sign_deployment(
    *,
    name: str,
    site: str,
    revision: int,
    model: DeployedModel,
    image: Digest | None,
    base: str,
    lock: str,
    port: int | None,
    resources: ServingResources,
    submitter: str,
    key: SigningKey,
    now: datetime,
) -> Envelope:
    document = DeploymentDocument(
        name=name,
        site=site,
        revision=revision,
        model=model,
        image=image,
        base=base,
        lock=lock,
        port=port,
        resources=resources,
        submitter=submitter,
        nonce=secrets.token_hex(16),
        signed_at=now,
        expires_at=now + VALID_FOR,
    )
    return seal(DEPLOYMENT_TYPE, document, key)


def open_deployment(envelope: Envelope, *, signers: Mapping[str, str]) -> VerifiedDeployment:
    """Check a deployment's signature, and only then read it.

    Raises:
        SignatureError: nobody who is listed signed it, or it was altered.
        InvalidInputError: what was signed is not a deployment that this version understands.
    """
    verified = open_envelope(envelope, DEPLOYMENT_TYPE, set(signers.values()))
    return VerifiedDeployment(
        document=read_deployment_document(verified.payload),
        envelope_digest=envelope.digest,
        signer=verified.signer,
        signer_name=next(name for name, print_ in signers.items() if print_ == verified.signer),
    )


def read_deployment_document(payload: Mapping[str, object]) -> DeploymentDocument:
    try:
        return DeploymentDocument.model_validate(payload)
    except ValidationError as exc:
        raise explain(exc, DeploymentDocument, what="signed deployment", code="deployment-document") from exc
