"""Errors as problem documents (RFC 9457): the one table of error classes and HTTP statuses.

What nobody foresaw is a 500 with a trace id: the log has the rest under that id,
the answer has nothing of it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from insitu.domain.errors import (
    AuthenticationError,
    ConflictError,
    DeniedError,
    InsituError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    UnreachableError,
)
from insitu.hub.blobs import OffsetError
from insitu.wire.people import Problem

_log = logging.getLogger("insitu.hub")

STATUS: Mapping[type[InsituError], int] = {
    InvalidInputError: 422,
    DeniedError: 403,
    AuthenticationError: 401,
    NotFoundError: 404,
    UnreachableError: 502,
    ConflictError: 409,
    IntegrityError: 422,
    UnavailableError: 503,
    InsituError: 500,
}
"""A class that is not here has the status of the nearest one above it."""

_BY_STATUS: Mapping[int, type[InsituError]] = {
    401: AuthenticationError,
    403: DeniedError,
    404: NotFoundError,
    405: InvalidInputError,
    409: ConflictError,
    503: UnavailableError,
}


def status_of(error: InsituError) -> int:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(error: InsituError, *, trace: str = "") -> Problem:
    status = status_of(error)
    return Problem(
        type=f"urn:insitu:error:{error.code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=str(error),
        code=error.code,
        what=error.what,
        why=error.why,
        hint=error.hint,
        rule=error.rule,
        measure=error.measure,
        limit=error.limit,
        exit_code=error.exit_code,
        missing=list(getattr(error, "missing", [])),
        trace=trace,
    )


def answer(error: InsituError, *, trace: str = "") -> Response:
    found = problem(error, trace=trace)
    return Response(
        found.model_dump_json(), found.status, headers=_headers(error), media_type="application/problem+json"
    )


def _headers(error: InsituError) -> dict[str, str]:
    if isinstance(error, AuthenticationError):
        return {"WWW-Authenticate": 'Bearer realm="insitu"'}  # RFC 6750
    if isinstance(error, UnavailableError):
        return {"Retry-After": "2"}
    if isinstance(error, OffsetError):
        return {"Upload-Offset": str(error.offset)}
    return {}


def invalid(exc: ValidationError | RequestValidationError) -> InvalidInputError:
    """The first complaint, without the value: what was sent may be a secret."""
    first: Mapping[str, Any] = exc.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the body"
    more = len(exc.errors()) - 1
    return InvalidInputError(
        f"the request is not right at {place}",
        code="invalid-request",
        why=str(first["msg"]),
        hint=f"{more} more complaints follow once this is mended" if more else "see /openapi.json",
    )


def unforeseen(exc: Exception) -> Response:
    trace = secrets.token_hex(8)
    _log.error("unforeseen, trace %s", trace, exc_info=exc)
    error = InsituError(
        "the hub failed", code="internal", why="this was not foreseen", hint=f"its log says more under {trace}"
    )
    return answer(error, trace=trace)


def install(app: FastAPI) -> None:
    """Every error of the application leaves as a problem document."""

    @app.exception_handler(InsituError)
    def _ours(_: Request, exc: InsituError) -> Response:
        return answer(exc)

    @app.exception_handler(RequestValidationError)
    def _wrong_input(_: Request, exc: RequestValidationError) -> Response:
        return answer(invalid(exc))

    @app.exception_handler(HTTPException)
    def _of_the_framework(request: Request, exc: HTTPException) -> Response:
        kind = _BY_STATUS.get(exc.status_code, InvalidInputError if exc.status_code < 500 else InsituError)
        error = kind(f"{request.method} {request.url.path[:200]}: {exc.detail}", hint="see /openapi.json")
        found = problem(error).model_copy(update={"status": exc.status_code, "title": str(exc.detail)})
        return Response(
            found.model_dump_json(), exc.status_code, headers=exc.headers, media_type="application/problem+json"
        )
