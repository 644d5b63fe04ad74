"""The whole error tree, on one page.

    InsituError
    ├── InvalidInputError      what was given can't be understood or is not allowed to be said   (exit 2)
    ├── DeniedError            a policy, a signature or a role says no                           (exit 3)
    │   └── SignatureError     the bytes are not what a listed key signed
    ├── AuthenticationError    nobody is known by this token or key                              (exit 4)
    ├── NotFoundError          the named thing does not exist here                               (exit 5)
    ├── UnreachableError       hub, site, registry or store did not answer                       (exit 6)
    ├── ConflictError          somebody was faster, or the thing is in another state             (exit 1)
    ├── IntegrityError         stored bytes are not what their digest says                       (exit 1)
    └── UnavailableError       this machine can't do it now: no disk, no engine, port in use     (exit 1)

Each error names what happened to which thing, why, and what to do. `code` is
stable and for machines; the other parts are for people. A refusal also names
the rule that said no, the measure it took and the limit it compared with.

At a site the text of an error may hold data, so nothing of an exception leaves
but its `code` and what `shareable()` builds from fields that we wrote ourselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar


class InsituError(Exception):
    """Something a person or program can act on.

    Args:
        what: what happened to which thing, one sentence.
        code: stable, kebab-case, for machines; defaults to the class's own.
        why: the cause, one sentence.
        hint: what to do next, one sentence, a command where there is one.
        rule: the rule that refused, when one did.
        measure: what the rule measured, with its unit.
        limit: what it was compared with, with its unit.
    """

    default_code: ClassVar[str] = "failure"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        code: str | None = None,
        why: str = "",
        hint: str = "",
        rule: str = "",
        measure: str = "",
        limit: str = "",
    ) -> None:
        super().__init__(what)
        self.what = what
        self.code = code or self.default_code
        self.why = why
        self.hint = hint
        self.rule = rule
        self.measure = measure
        self.limit = limit

    def __str__(self) -> str:
        parts = [self.what]
        if self.why:
            parts.append(self.why)
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)

    def as_dict(self) -> dict[str, str]:
        """The error's fields that are not empty, for `--json` and problem documents."""
        fields = {
            "code": self.code,
            "what": self.what,
            "why": self.why,
            "hint": self.hint,
            "rule": self.rule,
            "measure": self.measure,
            "limit": self.limit,
        }
        return {key: value for key, value in fields.items() if value}


class InvalidInputError(InsituError):
    default_code = "invalid-input"
    exit_code = 2


class DeniedError(InsituError):
    default_code = "denied"
    exit_code = 3


class SignatureError(DeniedError):
    default_code = "bad-signature"


class AuthenticationError(InsituError):
    default_code = "not-authenticated"
    exit_code = 4


class NotFoundError(InsituError):
    default_code = "not-found"
    exit_code = 5


class UnreachableError(InsituError):
    default_code = "unreachable"
    exit_code = 6


class ConflictError(InsituError):
    default_code = "conflict"


class IntegrityError(InsituError):
    default_code = "integrity"


class UnavailableError(InsituError):
    default_code = "unavailable"


_BY_EXIT: Mapping[int, type[InsituError]] = {
    2: InvalidInputError,
    3: DeniedError,
    4: AuthenticationError,
    5: NotFoundError,
    6: UnreachableError,
}


def error_from_dict(fields: Mapping[str, str], *, exit_code: int = 1) -> InsituError:
    """Rebuild an error that travelled as `as_dict()`, e.g. in a problem document."""
    kind = _BY_EXIT.get(exit_code, InsituError)
    return kind(
        fields.get("what", "the request failed"),
        code=fields.get("code"),
        why=fields.get("why", ""),
        hint=fields.get("hint", ""),
        rule=fields.get("rule", ""),
        measure=fields.get("measure", ""),
        limit=fields.get("limit", ""),
    )
