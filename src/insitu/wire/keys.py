"""Ed25519 keys of people and sites, and how they are named.

A key is named by its fingerprint, `ed25519:SHA256:<base64 without padding>`, the
SHA-256 of the 32 raw bytes of the public key (RFC 8032). Policies list
fingerprints; the public key itself travels beside each signature.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NewType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from insitu.domain.errors import InvalidInputError, SignatureError, UnavailableError

Fingerprint = NewType("Fingerprint", str)

_PREFIX = "ed25519:SHA256:"
_RAW_BYTES = 32


@dataclass(frozen=True)
class VerifyKey:
    """A public key: 32 raw bytes."""

    raw: bytes

    @property
    def fingerprint(self) -> Fingerprint:
        digest = hashlib.sha256(self.raw).digest()
        return Fingerprint(_PREFIX + base64.b64encode(digest).decode().rstrip("="))

    @property
    def text(self) -> str:
        """The public key for transport: `ed25519:<base64>`."""
        return "ed25519:" + base64.b64encode(self.raw).decode()

    def check(self, signature: bytes, message: bytes) -> None:
        """Raise SignatureError unless `signature` is this key's over `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature as exc:
            raise SignatureError(
                f"the signature is not that of key {self.fingerprint}",
                why="the document was altered after it was signed, or another key signed it",
                hint="sign it again with the key that the site's policy lists",
            ) from exc


def parse_verify_key(text: str) -> VerifyKey:
    """A public key from its transport form.

    Raises:
        InvalidInputError: it isn't `ed25519:` and 32 bytes in base64.
    """
    try:
        kind, _, body = text.partition(":")
        raw = base64.b64decode(body, validate=True)
    except ValueError:
        kind, raw = "", b""
    if kind != "ed25519" or len(raw) != _RAW_BYTES:
        raise InvalidInputError("the public key is not 'ed25519:' and 32 bytes in base64", code="bad-key")
    return VerifyKey(raw)


class SigningKey:
    """A private key. It prints as its fingerprint, never as itself."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = VerifyKey(private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a key that `save` wrote.

        Raises:
            UnavailableError: it is missing, damaged, or others may read it.
        """
        try:
            mode = path.stat().st_mode & 0o077
            raw = path.read_bytes()
        except OSError as exc:
            raise UnavailableError(
                f"the key {path} can't be read", code="key-unreadable", why=exc.strerror or ""
            ) from exc
        if mode:
            raise UnavailableError(
                f"the key {path} may be read by others", code="key-exposed", hint=f"chmod 600 {path}, then rotate it"
            )
        if len(raw) != _RAW_BYTES:
            raise UnavailableError(f"the key {path} is damaged", code="key-damaged", why=f"{len(raw)} bytes, not 32")
        return cls(Ed25519PrivateKey.from_private_bytes(raw))

    def save(self, path: Path) -> None:
        """Write the key with mode 0600; an existing file is never replaced."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(self._private.private_bytes_raw())
            stream.flush()
            os.fsync(stream.fileno())

    @property
    def fingerprint(self) -> Fingerprint:
        return self.public.fingerprint

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({self.fingerprint})"
