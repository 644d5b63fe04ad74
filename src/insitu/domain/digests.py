"""Digests: how everything that moves or is signed is named.

Written `sha256:<64 hex digits>`, the form of the OCI image specification. A
`Digest` has been checked for form only; whether bytes match it is asked with
`check_digest`, which raises rather than answers.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NewType

from insitu.domain.errors import IntegrityError, InvalidInputError

Digest = NewType("Digest", str)

_FORM = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK = 1 << 20  # bytes


def parse_digest(text: str) -> Digest:
    """`text` as a digest.

    Raises:
        InvalidInputError: it isn't `sha256:` and 64 lower-case hex digits.
    """
    if not _FORM.fullmatch(text):
        raise InvalidInputError(f"{text[:80]!r} is not a digest", hint="a digest is sha256: and 64 hex digits")
    return Digest(text)


def digest_of(data: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def digest_of_file(path: Path) -> Digest:
    with path.open("rb") as stream:
        return Digest("sha256:" + hashlib.file_digest(stream, "sha256").hexdigest())


def check_digest(data: bytes, expected: Digest, *, what: str) -> None:
    """Raise unless `data` has the digest `expected`.

    Raises:
        IntegrityError: it hasn't; `what` names the thing for people.
    """
    actual = digest_of(data)
    if actual != expected:
        raise IntegrityError(
            f"{what} is not what its digest says",
            why=f"expected {expected}, found {actual}",
            hint="fetch it again; if it happens twice, the store is damaged",
        )
