"""What people may ask of MLflow's server: an allow-list of calls, by method and path.

MLflow has over three hundred routes; this is the list of those that answer here.
Reading is for everybody who is known to the hub. Writing is tags and aliases, for
roles that may label models; who wants to write a run or a version submits a job.
What is not in the list is refused, so a route that a later MLflow brings is closed
until somebody writes it down.

A call's path must match as a whole, after percent-decoding, and the body of a write
is read here and written anew from the fields that are named: what was checked is
what MLflow sees.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from graphql import GraphQLError, OperationDefinitionNode, OperationType, parse

from insitu.domain.errors import (
    AuthenticationError,
    DeniedError,
    InsituError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from insitu.hub.access import PERMISSIONS, Permission
from insitu.hub.mlflow_records import check_tag_key
from insitu.wire.people import Role

MAX_BODY_BYTES = 1 << 20


@dataclass(frozen=True)
class Call:
    """One thing that may be asked. `fields` of a write are all that its body may hold."""

    method: str
    path: str  # a regular expression
    permission: Permission = Permission.LOOK
    fields: tuple[str, ...] = ()
    query_only: bool = False  # GraphQL that must not be a mutation


_ID = r"[A-Za-z0-9][A-Za-z0-9_-]*"
_FILE = r"[^/\\\x00-\x1f]+(?:/[^/\\\x00-\x1f]+)*"  # `.` and `..` are looked for below
_REST = r"/(?:ajax-)?api/2\.0/mlflow"
_REST_3 = r"/(?:ajax-)?api/3\.0/mlflow"
_FILES = r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts"

_PAGES = (
    Call("GET", r"/"),
    Call("GET", r"/first-visit\.js"),
    Call("GET", rf"/static-files/{_FILE}"),
    Call("GET", r"/health"),
    Call("GET", r"/version"),
    Call("GET", rf"{_REST_3}/server-info"),
    Call("GET", rf"{_REST_3}/ui-telemetry"),  # answers that it is off
    Call("GET", r"/ajax-api/2\.0/mlflow/gateway-proxy"),  # ours, and answers that there is none
)
_RUNS = (
    Call("GET", rf"{_REST}/experiments/(?:get|get-by-name|search)"),
    Call("POST", rf"{_REST}/experiments/(?:search|search-datasets)"),
    Call("GET", rf"{_REST}/runs/get"),
    Call("POST", rf"{_REST}/runs/search"),
    Call("GET", rf"{_REST}/metrics/(?:get-history|get-history-bulk|get-history-bulk-interval)"),
    Call("POST", rf"{_REST}/logged-models/search"),
    Call("GET", rf"{_REST}/logged-models/{_ID}"),
    Call("POST", r"/graphql", query_only=True),
    # Pages of ours that hold no traces, no prompts and no evaluations still ask for them.
    Call("POST", rf"{_REST_3}/traces/(?:search|metrics)"),
    Call("POST", rf"{_REST_3}/datasets/search"),
)
_ARTIFACTS = (
    Call("GET", rf"{_REST}/artifacts/list"),
    Call("GET", rf"{_REST}/logged-models/{_ID}/artifacts/(?:directories|files)"),
    Call("GET", rf"{_FILES}(?:/{_FILE})?"),
    Call("GET", r"/get-artifact"),
    Call("GET", r"/model-versions/get-artifact"),
)
_MODELS = (
    Call("GET", rf"{_REST}/registered-models/(?:get|search|alias|get-latest-versions)"),
    Call("POST", rf"{_REST}/registered-models/get-latest-versions"),
    Call("GET", rf"{_REST}/model-versions/(?:get|search|get-download-uri)"),
)
_LABEL = Permission.LABEL_MODELS
_WRITES = (
    Call("POST", rf"{_REST}/runs/set-tag", _LABEL, ("run_id", "run_uuid", "key", "value")),
    Call("POST", rf"{_REST}/runs/delete-tag", _LABEL, ("run_id", "key")),
    Call("POST", rf"{_REST}/registered-models/set-tag", _LABEL, ("name", "key", "value")),
    Call("DELETE", rf"{_REST}/registered-models/delete-tag", _LABEL, ("name", "key")),
    Call("POST", rf"{_REST}/model-versions/set-tag", _LABEL, ("name", "version", "key", "value")),
    Call("DELETE", rf"{_REST}/model-versions/delete-tag", _LABEL, ("name", "version", "key")),
    Call("POST", rf"{_REST}/registered-models/alias", _LABEL, ("name", "alias", "version")),
    Call("DELETE", rf"{_REST}/registered-models/alias", _LABEL, ("name", "alias")),
)
CALLS: tuple[Call, ...] = (*_PAGES, *_RUNS, *_ARTIFACTS, *_MODELS, *_WRITES)

_BY_METHOD = {
    method: [(re.compile(call.path), call) for call in CALLS if call.method == method]
    for method in ("GET", "POST", "DELETE")
}
# Where MLflow's calls are: what is refused there exists, or may one day; elsewhere there is nothing.
_NAMESPACES = re.compile(r"/(?:(?:ajax-)?api/.*|graphql|gateway/.*|v1/.*|mcp.*|(?:model-versions/)?get-artifact)")


def find_call(method: str, path: str, role: Role) -> Call:
    """The call that a request is, if its sender's role may make it. `path` is decoded, without the mount's prefix.

    Raises:
        DeniedError: it is not in the list, or not for this role.
        NotFoundError: there is no such page.
    """
    # HEAD is GET without the body.
    known = _BY_METHOD.get("GET" if method == "HEAD" else method, [])
    call = next((call for pattern, call in known if pattern.fullmatch(path)), None)
    if call is None or {".", ".."} & set(path.split("/")):
        raise _refusal(method, path)
    if call.permission not in PERMISSIONS[role]:
        raise DeniedError(
            f"{method} {path} is not for the role {role}",
            code="role",
            hint=f"it needs a token whose role may {call.permission}",
            rule="role",
        )
    return call


def checked_request(call: Call, query: bytes, body: bytes) -> tuple[bytes, bytes]:
    """The query and body to hand on: for a write, made anew from what was checked.

    Raises:
        DeniedError: it would change what only the hub may change.
        InvalidInputError: it can't be understood.
    """
    if call.query_only:
        return b"", _checked_graphql(body)
    if call.fields:
        return b"", _checked_write(call, query, body)
    if call.method == "POST":
        return b"", body
    _check_paths(query)
    return query, b""


_OF_A_VERSION = re.compile(
    r"/(?:(?:ajax-)?api/2\.0/mlflow/model-versions/get-download-uri|model-versions/get-artifact)"
)


def version_whose_files(path: str, query: bytes) -> tuple[str, int] | None:
    """The model version whose files a request asks for, if it asks for any that way."""
    if not _OF_A_VERSION.fullmatch(path):
        return None
    given = parse_qs(query.decode("latin-1"))
    name, version = given.get("name", [""])[0], given.get("version", [""])[0]
    return (name, int(version)) if name and version.isascii() and version.isdecimal() else None


def error_body(error: InsituError) -> tuple[int, bytes]:
    """An error's status and body as MLflow's clients read them."""
    status, code = next((found for kind, found in _STATUS.items() if isinstance(error, kind)), (500, "INTERNAL_ERROR"))
    fields: dict[str, Any] = {"error_code": code, "message": str(error), "code": error.code}
    return status, json.dumps(fields).encode()


_STATUS: dict[type[InsituError], tuple[int, str]] = {
    DeniedError: (403, "PERMISSION_DENIED"),
    NotFoundError: (404, "ENDPOINT_NOT_FOUND"),
    InvalidInputError: (400, "INVALID_PARAMETER_VALUE"),
    AuthenticationError: (401, "UNAUTHENTICATED"),
    UnavailableError: (503, "TEMPORARILY_UNAVAILABLE"),
}


def _refusal(method: str, path: str) -> InsituError:
    shown = path[:200]
    if not _NAMESPACES.fullmatch(path):
        return NotFoundError(f"there is no {shown} in MLflow at this hub", hint="its pages begin at /mlflow/")
    return DeniedError(
        f"{method} {shown} is not allowed at this hub",
        code="mlflow-read-only",
        why="MLflow is read-only here but for tags and aliases: the hub alone writes runs and versions",
        hint="submit a job with `insitu run`; what it logs and what its site releases appears here",
        rule="mlflow-read-only",
    )


def _checked_graphql(body: bytes) -> bytes:
    fields = _json_object(body)
    if set(fields) - {"query", "variables", "operationName"} or not isinstance(fields.get("query"), str):
        raise InvalidInputError("the GraphQL request is not one", hint="send query, variables and operationName")
    try:
        definitions = parse(fields["query"]).definitions
    except (GraphQLError, RecursionError) as exc:
        raise InvalidInputError("the GraphQL query can't be parsed") from exc
    for definition in definitions:
        if isinstance(definition, OperationDefinitionNode) and definition.operation != OperationType.QUERY:
            raise DeniedError(
                f"a GraphQL {definition.operation.value} is not allowed at this hub",
                code="mlflow-read-only",
                rule="mlflow-read-only",
            )
    return json.dumps(fields).encode()


def _checked_write(call: Call, query: bytes, body: bytes) -> bytes:
    fields = _json_object(body)
    if query or set(fields) - set(call.fields) or not all(isinstance(value, str) for value in fields.values()):
        raise InvalidInputError(
            "the request holds something else than this call takes",
            hint=f"send a JSON object with {', '.join(call.fields)}, all strings",
        )
    if "key" in call.fields:
        if not fields.get("key"):
            raise InvalidInputError("the request names no tag", hint="give its name as `key`")
        check_tag_key(fields["key"])
    return json.dumps(fields).encode()


def _check_paths(query: bytes) -> None:
    """Paths in a query stay inside of the folder that they are relative to. MLflow looks too."""
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    for name in ("path", "artifact_file_path", "artifact_directory_path"):
        for path in given.get(name, []):
            if path.startswith("/") or "\\" in path or {".."} & set(path.split("/")):
                raise InvalidInputError(f"{path[:200]!r} is not a path inside of the artifacts")


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body or b"{}")
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError("the body is not JSON") from exc
    if not isinstance(fields, dict):
        raise InvalidInputError("the body is not a JSON object")
    return fields
