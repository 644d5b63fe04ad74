"""in-toto statements: what is said of files, in the form that other tools check too.

in-toto Attestation Framework, Statement v1 (github.com/in-toto/attestation,
spec/v1/statement.md), in a DSSE envelope of type `application/vnd.in-toto+json`:
the *subject* names files by their digests, the *predicate* says what is claimed.
A release is such a statement, signed by its site, so a verifier that knows
in-toto can tell from the files alone which site let them out, under which rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

STATEMENT_TYPE = "application/vnd.in-toto+json"
RELEASE_PREDICATE = "insitu:release/v1"


class Subject(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(max_length=400)
    digest: dict[str, str] = Field(min_length=1, max_length=4)


class Statement(BaseModel):
    """One statement; its payload in the envelope is this in canonical JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(default="https://in-toto.io/Statement/v1", alias="_type")
    subject: list[Subject] = Field(min_length=1, max_length=1001)
    predicateType: str = Field(max_length=200)  # noqa: N815 - in-toto's spelling
    predicate: dict[str, Any]


def subjects_of(digests: Mapping[str, str]) -> list[Subject]:
    """Name → `sha256:<hex>`, as subjects in the order of their names."""
    return [
        Subject(name=name, digest={"sha256": digest.removeprefix("sha256:")})
        for name, digest in sorted(digests.items())
    ]
