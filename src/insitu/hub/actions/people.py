"""Tokens and keys of people."""

from __future__ import annotations

from datetime import datetime

from insitu.domain.errors import AuthenticationError, ConflictError, InvalidInputError, NotFoundError
from insitu.domain.ids import check_name
from insitu.hub.access import Actor, Permission, check_can
from insitu.hub.store import people
from insitu.hub.store.session import ReadSession, Store, WriteSession
from insitu.wire.keys import parse_verify_key
from insitu.wire.people import KeyRequest, NewToken, Role, TokenRequest, TokenView, WhoAmI


def authenticate(store: Store, authorization: str, *, now: datetime) -> Actor:
    """Whose token a request carries.

    Raises:
        AuthenticationError: none, or one that nobody has now.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise AuthenticationError(
            "this needs a token", hint="run `insitu login`, or send the header `Authorization: Bearer <token>`"
        )
    with store.read() as session:
        found = people.actor_of(session, token.strip(), now=now)
    if found is None:
        raise AuthenticationError(
            "the hub knows no such token",
            code="unknown-token",
            why="it was never given out, has expired, or was revoked",
            hint="ask an admin for a new one: `insitu hub token create`",
        )
    actor, should_note = found
    if should_note:
        with store.write() as session:
            people.note_use(session, token.strip(), now=now)
    return actor


def create_token(actor: Actor, session: WriteSession, request: TokenRequest, *, now: datetime) -> NewToken:
    check_can(actor, Permission.KEEP_TOKENS)
    return new_token(session, request.name, request.role, days=request.days, now=now)


def new_token(session: WriteSession, name: str, role: Role, *, days: int, now: datetime) -> NewToken:
    """A token on behalf of whoever has the data folder: there nobody needs to be asked."""
    check_name(name, what="person")
    if not 1 <= days <= 3650:
        raise InvalidInputError("a token is good for 1 to 3650 days", code="token-days", measure=f"{days} days")
    return people.create_token(session, name, role, days=days, now=now)


def list_tokens(actor: Actor, session: ReadSession) -> list[TokenView]:
    check_can(actor, Permission.KEEP_TOKENS)
    return people.tokens(session)


def revoke_token(actor: Actor, session: WriteSession, token_id: str, *, now: datetime) -> None:
    check_can(actor, Permission.KEEP_TOKENS)
    if not people.revoke_token(session, token_id, now=now):
        raise NotFoundError(f"there is no token {token_id[:40]!r}", hint="see `insitu hub token list`")


def who_am_i(actor: Actor) -> WhoAmI:
    return WhoAmI(name=actor.name, role=actor.role, key=actor.fingerprint)


def set_key(actor: Actor, session: WriteSession, request: KeyRequest) -> WhoAmI:
    """Register the public key that this person signs with; it replaces the one before."""
    key = parse_verify_key(request.public_key)
    holder = people.holder_of_key(session, key.fingerprint)
    if holder not in {None, actor.name}:
        raise ConflictError(
            "this key is somebody else's",
            code="key-taken",
            why="a key stands for one person",
            hint="make one of your own with `insitu login`",
        )
    people.set_key(session, actor.name, key)
    return WhoAmI(name=actor.name, role=actor.role, key=key.fingerprint)
