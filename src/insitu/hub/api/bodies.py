"""Bodies as they arrive: bounded when they are documents, in pieces when they are files.

Async, because only so can a body be read piece by piece; what touches disk or
database runs in a thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from insitu.domain.errors import InvalidInputError
from insitu.hub.api.errors import invalid

Model = TypeVar("Model", bound=BaseModel)

_PIECE = 1 << 20  # bytes handed on at once: a thread is worth waking for that


async def read_document(request: Request, *, max_bytes: int) -> bytes:
    """A whole body of at most `max_bytes`.

    Raises:
        InvalidInputError: it is larger, or broke off.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > max_bytes:
                raise InvalidInputError(
                    "the request is too large",
                    code="too-large",
                    rule="max-body-bytes",
                    measure=f"over {max_bytes} bytes",
                    limit=f"{max_bytes} bytes",
                )
            parts.append(part)
    except ClientDisconnect as exc:
        raise broken_off() from exc
    return parts[0] if len(parts) == 1 else b"".join(parts)


def parse(model: type[Model], body: bytes) -> Model:
    """A document as its wire type.

    Raises:
        InvalidInputError: it isn't one.
    """
    try:
        return model.model_validate_json(body)
    except ValidationError as exc:
        raise invalid(exc) from exc


async def pieces(request: Request) -> AsyncIterator[list[bytes]]:
    """A body by about a mebibyte, in parts as they came; what came before it broke off has been handed on by then.

    Raises:
        InvalidInputError: it broke off.
    """
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size >= _PIECE:
                yield parts
                parts, size = [], 0
    except ClientDisconnect as exc:
        if size:
            yield parts
        raise broken_off() from exc
    if size:
        yield parts


def broken_off() -> InvalidInputError:
    return InvalidInputError("the request broke off", code="broken-off", hint="send it again from where it stopped")
