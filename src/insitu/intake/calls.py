"""A call of MLflow's REST protocol and its answer, apart from any socket.

Errors have MLflow's form, so that the client raises an `MlflowException` with
our sentence in it. Their statuses are chosen among those that the client takes
for final: it repeats a call for minutes on 408, 429 and most of 5xx, and no
answer of ours changes by asking again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

JsonObject = dict[str, Any]

_STATUS: Mapping[str, int] = {
    "INVALID_PARAMETER_VALUE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "INTERNAL_ERROR": 400,  # ours, not 500: see above
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "ENDPOINT_NOT_FOUND": 404,
    "REQUEST_TOO_LARGE": 413,
}


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes
    content_type: str = "application/json"
    reason: str = ""
    """In the status line, in place of the status' own words."""


DONE = Response(200, b"{}")


class CallRefused(Exception):
    """A call that gets an error of MLflow's kind. The script sees `message`; nobody outside the sandbox does."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def response(self) -> Response:
        body = json.dumps({"error_code": self.code, "message": self.message})
        return Response(_STATUS[self.code], body.encode())


def invalid(message: str) -> CallRefused:
    return CallRefused("INVALID_PARAMETER_VALUE", message)


def unknown(message: str) -> CallRefused:
    return CallRefused("RESOURCE_DOES_NOT_EXIST", message)


def denied(message: str) -> CallRefused:
    return CallRefused("PERMISSION_DENIED", message)


def answer(body: JsonObject) -> Response:
    return Response(200, json.dumps(body, separators=(",", ":")).encode()) if body else DONE


# ── Reading a body whose shape the script chose ─────────────────────────────


def text(body: Mapping[str, Any], key: str, *, longest: int, default: str | None = None) -> str:
    """The text at `key`, as it stands, or `default` when it is absent."""
    value = body.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise invalid(f"{key!r} must be a text")
    if len(value) > longest:
        raise invalid(f"{key!r} is longer than {longest} characters")
    return value


def integer(body: Mapping[str, Any], key: str, *, default: int = 0) -> int:
    """The 64-bit integer at `key`. Protocol buffers write them in JSON as numbers or as texts."""
    value = body.get(key, default)
    if isinstance(value, str) and value.lstrip("-").isdecimal() and len(value) <= 20:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise invalid(f"{key!r} must be a 64-bit integer")
    return value


_SPECIAL = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def number(body: Mapping[str, Any], key: str) -> float:
    """The double at `key`; JSON has no NaN and no infinity, so protocol buffers spell them out."""
    value = body.get(key)
    if isinstance(value, float):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1000:
        return float(value)
    if isinstance(value, str) and value in _SPECIAL:
        return _SPECIAL[value]
    raise invalid(f"{key!r} must be a number")


def objects(body: Mapping[str, Any], key: str, *, most: int = 1000) -> list[JsonObject]:
    """The list of objects at `key`, empty when it is absent."""
    value = body.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid(f"{key!r} must be a list of objects")
    items = cast("list[JsonObject]", value)
    if not all(isinstance(item, dict) for item in items):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise invalid(f"{key!r} must be a list of objects")
    if len(items) > most:
        raise invalid(f"{key!r} has more than {most} items")
    return items


def texts(body: Mapping[str, Any], key: str) -> list[str]:
    """The list of texts at `key`, empty when it is absent."""
    value = body.get(key, [])
    if not isinstance(value, list):
        raise invalid(f"{key!r} must be a list of texts")
    items = cast("list[str]", value)
    if len(items) > 20 or not all(isinstance(item, str) for item in items):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise invalid(f"{key!r} must be a list of texts")
    return items


def pairs(body: Mapping[str, Any], key: str, *, longest_value: int) -> list[tuple[str, str]]:
    """The `{key, value}` objects at `key`."""
    return [
        (text(item, "key", longest=250), text(item, "value", longest=longest_value, default=""))
        for item in objects(body, key)
    ]


def read_body(raw: bytes) -> JsonObject:
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):  # the exception would repeat what was sent
        body = None
    if not isinstance(body, dict):
        raise invalid("the call's body is not a JSON object")
    return cast("JsonObject", body)
