"""What can go wrong, in two kinds: the server can't start, or a request can't be answered.

This package stands alone in an image, so it doesn't use the error tree of the rest.
"""

from __future__ import annotations


class StartError(Exception):
    """The model can't be served; the process says so in one line and exits 1."""

    def __init__(self, what: str, *, code: str, why: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.code = code
        self.why = why
        self.hint = hint

    def as_dict(self) -> dict[str, str]:
        fields = {"code": self.code, "what": self.what, "why": self.why, "hint": self.hint}
        return {key: value for key, value in fields.items() if value}


class RequestError(Exception):
    """A request that gets an error for an answer; each protocol gives it its own form.

    Args:
        message: for the caller. May repeat names that the caller or the signature gave, never values.
        status: the HTTP status.
        code: MLflow's error code; the Open Inference Protocol has none.
    """

    def __init__(self, message: str, *, status: int = 400, code: str = "BAD_REQUEST") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code


class OverloadedError(RequestError):
    """More is waiting than the limits allow. The caller may try again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=503, code="TEMPORARILY_UNAVAILABLE")
