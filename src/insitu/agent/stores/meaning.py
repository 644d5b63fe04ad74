"""What a store's refusal means: its status and short code, as one of the contract's errors.

Pure. Of an answer only the status, the code in its XML and the store's own time are
looked at, and nothing of its text is passed on: it may hold an address with a
signature in it, and names.

Codes: Azure Blob service error codes and common REST API error codes; Amazon S3 error responses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

from insitu.agent.stores.contract import (
    ObjectChangedError,
    ObjectMissingError,
    Step,
    StoreError,
    StoreListError,
    StoreLoginError,
    StoreReadError,
    StoreUnreachableError,
    StoreWriteError,
)

MOST_SKEW = timedelta(minutes=15)
"""More than that between two clocks, and both protocols refuse what was signed."""

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,64})</Code>")
_TIME = re.compile(r"(?:Time:|<ServerTime>)(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)")

_CONTAINER = frozenset({"ContainerNotFound", "NoSuchBucket", "ContainerBeingDeleted", "ResourceNotFound"})
_SKEWED = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_EXPIRED = frozenset({"ExpiredToken", "TokenRefreshRequired"})
_WRONG_KEY = frozenset(
    {
        *("AuthenticationFailed", "InvalidAuthenticationInfo", "AuthorizationFailure"),
        *("SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken"),
    }
)
_NOT_ALLOWED = frozenset(
    {
        *("AuthorizationPermissionMismatch", "AuthorizationServiceMismatch", "AuthorizationResourceTypeMismatch"),
        *("AuthorizationProtocolMismatch", "AuthorizationSourceIPMismatch", "InsufficientAccountPermissions"),
        *("AccessDenied", "AllAccessDisabled", "PublicAccessNotPermitted"),
    }
)


@dataclass(frozen=True)
class Refusal:
    """What is kept of a store's answer. All of it empty: nobody answered."""

    status: int = 0
    code: str = ""
    at: datetime | None = None
    """The store's own time, if it said it."""

    @staticmethod
    def of(text: str) -> Refusal:
        """What a library's message holds of the store's answer."""
        status, code, at = _STATUS.search(text), _CODE.search(text), _TIME.search(text)
        return Refusal(
            int(status[1]) if status else 0,
            code[1] if code else "",
            datetime.fromisoformat(at[1]).replace(tzinfo=UTC) if at else None,
        )


@dataclass(frozen=True)
class Asked:
    """What was asked of whom, as far as an error may name it at the site."""

    step: Step
    where: str
    """The store's endpoint, or the folder."""
    container: str = ""
    name: str = ""
    """Of the object."""


def error_of(refusal: Refusal, asked: Asked, *, now: datetime, sas_token: str = "") -> StoreError:
    """The error to raise for a refusal.

    Args:
        now: of this machine's clock.
        sas_token: what was logged in with, for the time at which it ends; nothing else of it is looked at.
    """
    if refusal.status in (404, 410) or refusal.code in _CONTAINER:
        return _missing(refusal, asked)
    if refusal.status == 412 or refusal.code in ("ConditionNotMet", "PreconditionFailed"):
        return changed(asked.name)
    if refusal.status == 416:
        return changed(asked.name)
    if refusal.status in (400, 401, 403):
        return _denied(refusal, asked, now, sas_token)
    if refusal.status == 507 or refusal.code in ("AccountLimitExceeded", "QuotaExceeded"):
        return StoreWriteError(f"{asked.container} has no room left", code="store-full")
    if not refusal.status or refusal.status >= 500:
        return unreachable(asked.where, why=f"it answered {refusal.status}" if refusal.status else "")
    return _at_step(asked, "", f"it answered {refusal.status} {refusal.code}".rstrip(), "")


def changed(name: str) -> ObjectChangedError:
    return ObjectChangedError(
        f"{name} is not the object that was listed",
        why="it was written again or cut meanwhile",
        hint="add it as a new version with `insitu data add`",
    )


def unreachable(where: str, *, why: str = "") -> StoreUnreachableError:
    return StoreUnreachableError(
        f"nobody answers at {where}" if not why else f"{where} does not answer as a store does",
        why=why,
        hint="check the endpoint's name, port and TLS, and the firewall between this machine and it",
    )


def missing_container(asked: Asked) -> StoreListError:
    return StoreListError(
        f"there is no container {asked.container!r} at {asked.where}",
        code="store-container-missing",
        hint="check its name (they are case-sensitive), and the endpoint's account",
    )


def _missing(refusal: Refusal, asked: Asked) -> StoreError:
    if refusal.code in _CONTAINER or asked.step in ("list", "write"):
        return missing_container(asked)
    return ObjectMissingError(
        f"there is no object {asked.name!r} in {asked.container}", hint="it was removed or renamed"
    )


def _denied(refusal: Refusal, asked: Asked, now: datetime, sas_token: str) -> StoreError:
    ended = _end_of(sas_token)
    if refusal.code in _EXPIRED or (ended is not None and ended < now):
        return StoreLoginError(
            f"the token for {asked.where} has expired",
            code="store-token-expired",
            why=f"it was good until {ended:%Y-%m-%d %H:%M} UTC" if ended else "",
            hint="have a new one made, and give it with `insitu datastore add --replace --credentials-file`",
        )
    ahead = now - refusal.at if refusal.at else timedelta()
    about_who = refusal.code in _WRONG_KEY or (refusal.status != 400 and refusal.code not in _NOT_ALLOWED)
    if refusal.code in _SKEWED or (abs(ahead) > MOST_SKEW and about_who):
        return StoreLoginError(
            f"this machine's clock is {_apart(ahead)} that of {asked.where}",
            code="store-clock-skew",
            measure=f"{now:%Y-%m-%d %H:%M} UTC here" + (f", {refusal.at:%H:%M} there" if refusal.at else ""),
            limit=f"{MOST_SKEW.total_seconds() / 60:.0f} minutes apart",
            hint="set this machine's clock (`timedatectl`, chrony); a store refuses what was signed at another time",
        )
    if refusal.code in _WRONG_KEY or refusal.status == 401:
        what = "token" if sas_token else "key"
        return StoreLoginError(
            f"{asked.where} does not accept the {what}",
            code="store-key-wrong",
            why=refusal.code,
            hint=f"check that the {what} belongs to this account and was not replaced by a new one",
        )
    if refusal.code in _NOT_ALLOWED or refusal.status == 403:
        return _at_step(asked, "denied", refusal.code, "give these credentials the right to do so, at the store")
    return _at_step(asked, "", refusal.code, "")


def _apart(ahead: timedelta) -> str:
    minutes = round(abs(ahead).total_seconds() / 60)
    if not minutes:
        return "more than 15 minutes off"
    return f"{minutes} minutes {'ahead of' if ahead > timedelta() else 'behind'}"


_ERRORS: Mapping[Step, type[StoreError]] = {
    "reach": StoreUnreachableError,
    "login": StoreLoginError,
    "list": StoreListError,
    "read": StoreReadError,
    "write": StoreWriteError,
}
_DOING: Mapping[Step, str] = {
    "reach": "reach {where}",
    "login": "log in at {where}",
    "list": "list {container} at {where}",
    "read": "read {name} in {container}",
    "write": "write {name} into {container}",
}


def _at_step(asked: Asked, kind: str, why: str, hint: str) -> StoreError:
    doing = _DOING[asked.step].format(where=asked.where, container=asked.container, name=asked.name)
    what = f"we may not {doing}" if kind == "denied" else f"could not {doing}"
    return _ERRORS[asked.step](what, code=f"store-{asked.step}{'-' if kind else ''}{kind}", why=why, hint=hint)


def _end_of(sas_token: str) -> datetime | None:
    """When a shared access signature ends (its field `se`), if it says so."""
    value = parse_qs(sas_token.lstrip("?")).get("se", [""])[0]
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
