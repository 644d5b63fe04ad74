"""An agent's proof of who it is: a short-lived token that it signs itself.

Form: `insitu1.<base64url JSON claims>.<base64url Ed25519 signature>`. The claims
name site, audience, time of issue and expiry; the key is the one pinned at join.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from insitu.domain.errors import AuthenticationError, SignatureError
from insitu.wire.keys import SigningKey, VerifyKey

_PREFIX = "insitu1"
_VALID_FOR = timedelta(minutes=5)
_SLACK = timedelta(minutes=5)
_AUDIENCE = "insitu-hub"


@dataclass(frozen=True)
class AgentClaims:
    site: str
    issued_at: datetime
    expires_at: datetime


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def issue_agent_token(site: str, key: SigningKey, *, now: datetime) -> str:
    claims = {"sub": site, "aud": _AUDIENCE, "iat": int(now.timestamp()), "exp": int((now + _VALID_FOR).timestamp())}
    body = _encode(json.dumps(claims, separators=(",", ":")).encode())
    return f"{_PREFIX}.{body}.{_encode(key.sign(f'{_PREFIX}.{body}'.encode()))}"


def site_of_token(token: str) -> str:
    """Whom a token claims to be of. Unverified: only good for finding the key to check it with.

    Raises:
        AuthenticationError: it is not of this form.
    """
    return _read(token).site


def check_agent_token(token: str, key: VerifyKey, *, now: datetime) -> AgentClaims:
    """The claims of a token that `key` signed and that is valid now.

    Raises:
        AuthenticationError: it isn't.
    """
    claims = _signed_claims(token, key)
    if not claims.issued_at - _SLACK <= now < claims.expires_at + _SLACK:
        raise AuthenticationError(
            "the agent's token is not valid now",
            code="agent-token-time",
            hint="compare the clocks of hub and site",
        )
    return claims


@lru_cache(maxsize=4096)
def _signed_claims(token: str, key: VerifyKey) -> AgentClaims:
    """The claims of a token that `key` signed. Remembered, as an agent shows one token for minutes; a refusal is not."""
    claims = _read(token)
    signed, _, signature = token.rpartition(".")
    try:
        key.check(_decode(signature), signed.encode())
    except SignatureError as exc:
        raise AuthenticationError("the agent's token is not signed by the key that joined", code="agent-key") from exc
    return claims


def _read(token: str) -> AgentClaims:
    try:
        prefix, body, _ = token.split(".")
        claims = json.loads(_decode(body))
        if prefix != _PREFIX or claims["aud"] != _AUDIENCE:
            raise ValueError(prefix)
        return AgentClaims(
            site=str(claims["sub"]),
            issued_at=datetime.fromtimestamp(claims["iat"], UTC),
            expires_at=datetime.fromtimestamp(claims["exp"], UTC),
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise AuthenticationError("this is not an agent's token", code="agent-token") from exc
