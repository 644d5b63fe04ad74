"""Who may do what at the hub: roles and permissions, as data.

May this person? is answered here; may this be done to this thing in this state?
is answered where the thing is changed. What may leave a site is decided at the
site by its policy: no role of the hub reaches there.

One hub is one confidentiality domain: who may look at all may look at every job,
model and release that the sites let out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from insitu.domain.errors import DeniedError
from insitu.wire.people import Role


class Permission(StrEnum):
    """One thing that somebody may do."""

    LOOK = "look"  # at jobs, sites, datasets, models, images, deployments and releases
    SUBMIT = "submit jobs"
    CANCEL_OWN = "cancel one's own jobs"
    CANCEL_ANY = "cancel anybody's jobs"
    KEEP_SITES = "create sites and let agents join"
    LABEL_MODELS = "tag models and move aliases"
    BUILD = "build images"
    DEPLOY = "deploy"
    KEEP_TOKENS = "create and revoke tokens"
    KEEP_WHEELS = "bring packages to the hub"


_EVERYBODY = frozenset({Permission.LOOK})

PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    Role.DATA_SCIENTIST: _EVERYBODY | {Permission.SUBMIT, Permission.CANCEL_OWN, Permission.LABEL_MODELS},
    Role.STEWARD: _EVERYBODY | {Permission.KEEP_SITES, Permission.CANCEL_ANY},
    Role.ML_ENGINEER: _EVERYBODY | {Permission.LABEL_MODELS, Permission.BUILD, Permission.DEPLOY},
    Role.ADMIN: frozenset(Permission),
}


@dataclass(frozen=True)
class Actor:
    """Somebody whose token was checked."""

    name: str
    role: Role
    fingerprint: str = ""  # of the key that they registered; empty: none yet


@dataclass(frozen=True)
class JoinedSite:
    """A site whose agent proved that it holds the key that joined."""

    name: str
    public_key: str
    fingerprint: str


def can(actor: Actor, permission: Permission) -> bool:
    return permission in PERMISSIONS[actor.role]


def check_can(actor: Actor, permission: Permission) -> None:
    """Raise unless `actor` may.

    Raises:
        DeniedError: their role does not let them.
    """
    if not can(actor, permission):
        roles = ", ".join(sorted(role for role, held in PERMISSIONS.items() if permission in held))
        raise DeniedError(
            f"{actor.name} may not {permission}",
            code="role",
            why=f"the token's role is {actor.role}",
            hint=f"ask for a token with the role {roles}",
            rule="role",
            measure=actor.role,
            limit=roles,
        )


def can_cancel(actor: Actor, *, submitter: str) -> bool:
    return can(actor, Permission.CANCEL_ANY) or (can(actor, Permission.CANCEL_OWN) and actor.name == submitter)


def check_can_cancel(actor: Actor, *, submitter: str, job_id: str) -> None:
    """Raise unless `actor` may cancel a job of `submitter`.

    Raises:
        DeniedError: it is not theirs, and their role reaches only their own.
    """
    if not can_cancel(actor, submitter=submitter):
        raise DeniedError(
            f"{actor.name} may not cancel {job_id}",
            code="role",
            why=f"it was submitted by {submitter}",
            hint=f"ask {submitter}, a steward or an admin",
            rule="role",
        )
