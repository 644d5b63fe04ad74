"""A request for predictions, whatever its protocol: how it is read, answered, refused.

The scoring thread knows only this shape; `invocations` and `open_inference` give it
their forms. All three methods run in the scoring thread, so a large body never
blocks the loop that answers the health checks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Protocol

from insitu.serving.errors import RequestError
from insitu.serving.http_server import Reply
from insitu.serving.sklearn_model import LoadedModel
from insitu.serving.tables import Table


class Call(Protocol):
    def read(self, model: LoadedModel) -> tuple[Table, tuple[str, ...]]:
        """The rows, and the model's methods to call on them.

        Raises:
            RequestError: the body isn't what the protocol or the signature says.
        """
        ...

    def answer(self, results: Mapping[str, Any]) -> Reply:
        """The reply for one array of results a method."""
        ...

    def refuse(self, error: RequestError) -> Reply:
        """The protocol's form of an error."""
        ...


def json_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        RequestError: it isn't one.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise RequestError("Invalid input. Ensure that input is a valid JSON formatted string.") from exc
    if not isinstance(document, dict):
        raise RequestError(f"Invalid input. The body must be a JSON object, not a {type(document).__name__}.")
    return document


def json_bytes(document: object) -> bytes:
    """JSON that any parser reads: NaN and infinities, which JSON doesn't have, become null."""
    try:
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(_finite(document), allow_nan=False, separators=(",", ":")).encode()


def plain_list(values: Any) -> list[Any]:
    """An array as lists of what JSON knows."""
    if values.dtype.kind == "M":
        return values.astype(str).tolist()
    if values.dtype.kind == "S":
        return values.astype(str).tolist()
    return values.tolist()


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value
