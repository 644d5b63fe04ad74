"""Sites and what they offer; how an agent joins."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Any

from insitu.domain.errors import AuthenticationError, ConflictError, NotFoundError
from insitu.domain.ids import check_name
from insitu.hub import croissant
from insitu.hub.access import Actor, Permission, check_can
from insitu.hub.store import people, sites
from insitu.hub.store.session import ReadSession, Store, WriteSession
from insitu.wire.keys import SigningKey, parse_verify_key
from insitu.wire.people import DatasetView, NewSite, SitePolicyView, SiteRequest, SiteView
from insitu.wire.sync import JoinReply, JoinRequest

_PREFIX = "insitu-join_"


def create_site(
    actor: Actor, session: WriteSession, request: SiteRequest, *, now: datetime, valid_for: timedelta
) -> NewSite:
    """A site and the token by which its agent joins."""
    check_can(actor, Permission.KEEP_SITES)
    check_name(request.name, what="site")
    if not sites.create(session, request.name, request.labels, now=now):
        raise ConflictError(
            f"there is a site {request.name!r} already",
            code="site-exists",
            hint=f"for a new join token: `insitu site join-token {request.name}`",
        )
    return _with_join_token(session, request.name, now=now, valid_for=valid_for)


def new_join_token(actor: Actor, session: WriteSession, name: str, *, now: datetime, valid_for: timedelta) -> NewSite:
    """Another token for a site that nobody joined yet."""
    check_can(actor, Permission.KEEP_SITES)
    if _existing(session, name, now).joined:
        raise ConflictError(
            f"{name} has joined already",
            code="already-joined",
            why="a site has one agent identity for good: its policy, ledger and budgets hang on it",
            hint="create another site for another agent",
        )
    return _with_join_token(session, name, now=now, valid_for=valid_for)


def _with_join_token(session: WriteSession, name: str, *, now: datetime, valid_for: timedelta) -> NewSite:
    token = _PREFIX + secrets.token_urlsafe(32)
    sites.add_join_token(session, name, people.hash_of(token), expires_at=now + valid_for)
    view = _existing(session, name, now)
    return NewSite(**view.model_dump(), join_token=token, join_expires_at=now + valid_for)


def list_sites(actor: Actor, session: ReadSession, *, away_before: datetime) -> list[SiteView]:
    check_can(actor, Permission.LOOK)
    return sites.views(session, away_before=away_before)


def show_site(actor: Actor, session: ReadSession, name: str, *, away_before: datetime) -> SiteView:
    check_can(actor, Permission.LOOK)
    return _existing(session, name, away_before)


def clear_alarm(actor: Actor, session: WriteSession, name: str, *, away_before: datetime) -> SiteView:
    """A person has looked into it."""
    check_can(actor, Permission.KEEP_SITES)
    view = _existing(session, name, away_before)
    sites.set_alarm(session, name, "")
    return view.model_copy(update={"alarm": ""})


def show_policy(actor: Actor, session: ReadSession, name: str, *, away_before: datetime) -> SitePolicyView:
    """What a site publishes of its policy.

    Raises:
        NotFoundError: there is no such site, or it publishes nothing.
    """
    check_can(actor, Permission.LOOK)
    _existing(session, name, away_before)
    policy = sites.published_policy(session, name)
    if policy is None:
        raise NotFoundError(
            f"{name} does not publish its policy",
            code="policy-not-published",
            hint="ask its steward for `publish_policy: true` in policy.yaml, or for the file",
        )
    return SitePolicyView(site=name, policy=policy)


def list_datasets(actor: Actor, session: ReadSession) -> list[DatasetView]:
    check_can(actor, Permission.LOOK)
    return sites.datasets(session)


def describe_dataset(
    actor: Actor, session: ReadSession, name: str, *, version: int | None, site: str | None, hub: str
) -> dict[str, Any]:
    """A dataset version as Croissant metadata; the newest, where none is named.

    Raises:
        NotFoundError: nobody offers it.
    """
    found = [
        one
        for one in list_datasets(actor, session)
        if one.name == name and version in (None, one.version) and site in (None, one.site)
    ]
    if not found:
        wanted = name if version is None else f"{name}@{version}"
        raise NotFoundError(f"no site offers a dataset {wanted}", code="no-dataset", hint="see `insitu data list`")
    return croissant.describe(max(found, key=lambda one: one.version), hub=hub)


def _existing(session: ReadSession, name: str, away_before: datetime) -> SiteView:
    view = sites.view(session, name, away_before=away_before)
    if view is None:
        raise NotFoundError(f"there is no site {name[:80]!r}", code="no-such-site", hint="see `insitu site list`")
    return view


def join(store: Store, request: JoinRequest, hub_key: SigningKey, *, now: datetime) -> JoinReply:
    """Pin an agent's key for the site that its token was made for; once.

    Raises:
        AuthenticationError: the token is unknown, used or expired.
        ConflictError: another agent has joined as this site. The site shows an alarm.
    """
    key = parse_verify_key(request.public_key)
    hash_ = people.hash_of(request.token)
    with store.write() as session:
        found = sites.join_token(session, hash_)
        if found is None:
            raise AuthenticationError(
                "the hub knows no such join token", code="join-token", hint="create one: `insitu site create`"
            )
        if found.joined_key == key.text and found.used:
            # The reply to this very join was lost: nothing changes, the agent learns what it needs.
            return JoinReply(site=found.site, hub_key=hub_key.public.text)
        if not found.joined_key and not found.used:
            _check_not_expired(found, now)
            if sites.join(session, hash_, found.site, key=key.text, fingerprint=key.fingerprint, now=now):
                return JoinReply(site=found.site, hub_key=hub_key.public.text)
        # Committed before it is refused: an alarm that went with the error would tell nobody.
        sites.set_alarm(session, found.site, f"a second agent tried to join on {now:%Y-%m-%d %H:%M}Z")
    raise _second_join(found)


def _check_not_expired(token: sites.JoinToken, now: datetime) -> None:
    if token.expires_at <= now:
        raise AuthenticationError(
            f"the join token for {token.site} has expired",
            code="join-token-expired",
            measure=f"it was good until {token.expires_at:%Y-%m-%dT%H:%MZ}",
            hint=f"ask for a new one: `insitu site join-token {token.site}`",
        )


def _second_join(token: sites.JoinToken) -> AuthenticationError | ConflictError:
    if token.used:
        return AuthenticationError(
            f"the join token for {token.site} was used before",
            code="join-token-used",
            why="it is good for one join, and the site now shows an alarm",
            hint="if it was not your agent that joined, somebody else has the token: create another site",
        )
    return ConflictError(
        f"another agent has joined as {token.site}",
        code="already-joined",
        why="a site has one agent identity for good, and the site now shows an alarm",
        hint="create another site for this agent",
    )
