"""A released output on its way: named and digested file by file, in a statement under the site's signature.

`seal_release` takes what the gate let out; `open_release` gives a
`VerifiedRelease`, the only thing that the hub admits and a site deploys. On the
wire it is an in-toto statement (`statements.py`), so it stays checkable by
others wherever the files go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import rfc8785
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from insitu.domain.digests import Digest, digest_of
from insitu.domain.errors import IntegrityError
from insitu.domain.outputs import OutputType
from insitu.wire.envelopes import Envelope, open_envelope, seal
from insitu.wire.keys import SigningKey
from insitu.wire.names import explain
from insitu.wire.statements import RELEASE_PREDICATE, STATEMENT_TYPE, Statement, subjects_of

_DIGEST = r"^sha256:[0-9a-f]{64}$"


class ReleasedFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*$", max_length=300)
    digest: str = Field(pattern=_DIGEST)
    size_bytes: int = Field(ge=0)


class ReleaseDocument(BaseModel):
    """The payload of a release's envelope."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal["insitu.release/1"] = "insitu.release/1"
    job_id: str
    attempt: int
    fence: int
    output: str
    type: OutputType
    register_as: str | None
    files: list[ReleasedFile] = Field(min_length=1, max_length=1000)
    digest: str = Field(pattern=_DIGEST, description="of the files, see files_digest")
    datasets: dict[str, str] = Field(description="name@version → digest")
    code: str
    lock: str
    base: str
    policy_version: int
    rule: str = Field(max_length=80)
    reviewer: str = ""
    entry: int = Field(ge=0)
    released_at: AwareDatetime


@dataclass(frozen=True)
class VerifiedRelease:
    """A release that the site's key signed. Only `open_release` makes one."""

    document: ReleaseDocument
    envelope: Envelope


def files_digest(files: Sequence[ReleasedFile]) -> Digest:
    """One digest for a set of files: of their sorted paths, digests and sizes in canonical JSON."""
    listing = sorted((file.path, file.digest, file.size_bytes) for file in files)
    return digest_of(rfc8785.dumps([list(row) for row in listing]))


def statement_of(document: ReleaseDocument) -> Statement:
    """The in-toto statement that a release is: its files as subjects, the rest as what is said of them."""
    return Statement(
        subject=subjects_of({file.path: file.digest for file in document.files}),
        predicateType=RELEASE_PREDICATE,
        predicate=document.model_dump(mode="json"),
    )


def seal_release(document: ReleaseDocument, key: SigningKey) -> Envelope:
    return seal(STATEMENT_TYPE, statement_of(document), key)


def open_release(envelope: Envelope, *, site_key: str) -> VerifiedRelease:
    """Check a release that came from a site, and only then read it.

    Raises:
        SignatureError: it is not what the site's key signed.
        InvalidInputError: what was signed is no release.
        IntegrityError: its digest or its subjects aren't those of its files.
    """
    verified = open_envelope(envelope, STATEMENT_TYPE, {site_key})
    try:
        statement = Statement.model_validate(verified.payload)
        document = ReleaseDocument.model_validate(statement.predicate)
    except ValidationError as exc:
        raise explain(exc, ReleaseDocument, what="release", code="release-document") from exc
    if files_digest(document.files) != document.digest or statement != statement_of(document):
        raise IntegrityError(
            f"the release of {document.output!r} is not what its digest says",
            code="release-digest",
            why="the digest over its files, or the statement's subject, does not match",
        )
    return VerifiedRelease(document=document, envelope=envelope)
