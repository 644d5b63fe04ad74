"""People: their tokens (as hashes) and the public keys that they sign with."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from sqlalchemy import bindparam, select, update

from insitu.hub.access import Actor
from insitu.hub.store.session import ReadSession, WriteSession
from insitu.hub.store.tables import PersonRow, TokenRow, table_of
from insitu.wire.keys import VerifyKey
from insitu.wire.people import NewToken, Role, TokenView

PREFIX = "insitu_"
_NOTE_USE_EVERY = timedelta(minutes=5)

# Made once: every request of every person asks for it.
_TOKENS, _PEOPLE = table_of(TokenRow), table_of(PersonRow)
_KNOWN = (
    select(_TOKENS.c.name, _TOKENS.c.role, _TOKENS.c.last_used_at, _PEOPLE.c.fingerprint)
    .outerjoin(_PEOPLE, _PEOPLE.c.name == _TOKENS.c.name)
    .where(
        _TOKENS.c.hash == bindparam("token"), _TOKENS.c.revoked_at.is_(None), _TOKENS.c.expires_at > bindparam("now")
    )
)


def hash_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def create_token(session: WriteSession, name: str, role: Role, *, days: int, now: datetime) -> NewToken:
    """A new token. Its text is in what is returned and nowhere else."""
    token = PREFIX + secrets.token_urlsafe(32)
    row = TokenRow(
        id="t-" + secrets.token_hex(4),
        name=name,
        role=role.value,
        hash=hash_of(token),
        created_at=now,
        expires_at=now + timedelta(days=days),
    )
    session.add(row)
    return NewToken(**_view(row).model_dump(), token=token)


def actor_of(session: ReadSession, token: str, *, now: datetime) -> tuple[Actor, bool] | None:
    """Whose token this is and whether its use should be noted; None: nobody's that is good now."""
    found = session.rows(_KNOWN, {"token": hash_of(token), "now": now}).one_or_none()
    if found is None:
        return None
    name, role, used_at, fingerprint = found
    return Actor(name, Role(role), fingerprint or ""), used_at is None or now - used_at > _NOTE_USE_EVERY


def note_use(session: WriteSession, token: str, *, now: datetime) -> None:
    session.change(update(TokenRow).where(TokenRow.hash == hash_of(token)).values(last_used_at=now))


def tokens(session: ReadSession) -> list[TokenView]:
    rows = session.rows(select(TokenRow).order_by(TokenRow.created_at.desc(), TokenRow.id)).scalars()
    return [_view(row) for row in rows]


def any_token(session: ReadSession) -> bool:
    return session.rows(select(TokenRow.id).limit(1)).first() is not None


def revoke_token(session: WriteSession, token_id: str, *, now: datetime) -> bool:
    """Revoke; True also when it was revoked before."""
    session.change(
        update(TokenRow).where(TokenRow.id == token_id, TokenRow.revoked_at.is_(None)).values(revoked_at=now)
    )
    return session.rows(select(TokenRow.id).where(TokenRow.id == token_id)).first() is not None


def holder_of_key(session: ReadSession, fingerprint: str) -> str | None:
    return session.rows(select(PersonRow.name).where(PersonRow.fingerprint == fingerprint)).scalar_one_or_none()


def set_key(session: WriteSession, name: str, key: VerifyKey) -> None:
    values = {"public_key": key.text, "fingerprint": key.fingerprint}
    insert = session.insert(PersonRow).values(name=name, **values)
    session.change(insert.on_conflict_do_update(index_elements=["name"], set_=values))


def _view(row: TokenRow) -> TokenView:
    return TokenView(
        id=row.id,
        name=row.name,
        role=Role(row.role),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
