"""`insitu predict`: straight to the endpoint's own address. The hub sees neither input nor output."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.text import Text

from insitu.cli.commands import single
from insitu.cli.output import current
from insitu.cli.session import hub
from insitu.domain.errors import InvalidInputError, NotFoundError, UnavailableError, UnreachableError

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")  # MLflow's scoring protocol
_TIMEOUT_S = 60.0


def predict(
    target: Annotated[str, typer.Argument(help="A deployment's name, or an endpoint's address.", metavar="NAME|URL")],
    *,
    data: Annotated[Path, typer.Option("--data", help="Rows: FILE.json, FILE.csv, or - for stdin.")],
) -> None:
    """Send rows to a deployed model, and print its answers, one a line."""
    body, kind = read_rows(data)
    answers = ask(_address(target), body, kind)
    out = current()
    out.show({"predictions": answers}, *(Text(json.dumps(one)) for one in answers))


def read_rows(path: Path) -> tuple[bytes, str]:
    """What to send, and its content type. JSON may be rows alone, or any form of MLflow's scoring protocol.

    Raises:
        InvalidInputError: it can't be read, or is neither JSON nor CSV.
    """
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as exc:
        raise InvalidInputError(f"{path} can't be read", code="data-file", why=exc.strerror or "") from exc
    if path.suffix.lower() == ".csv" or (str(path) == "-" and raw.lstrip()[:1] not in (b"{", b"[")):
        return raw, "text/csv"
    try:
        document = json.loads(raw)
    except ValueError as exc:
        raise InvalidInputError(
            f"{path} is not JSON", code="data-file", why=str(exc)[:200], hint="end its name with .csv if it is a table"
        ) from exc
    return json.dumps(_as_request(document)).encode(), "application/json"


def _as_request(document: Any) -> Any:
    if isinstance(document, list):
        records = bool(document) and isinstance(document[0], dict)
        return {"dataframe_records" if records else "inputs": document}
    if isinstance(document, dict) and any(form in document for form in _FORMS):
        return document
    raise InvalidInputError(
        "these are no rows",
        code="data-form",
        hint=f"a list of rows, a list of objects, or one of {', '.join(_FORMS)} (MLflow's scoring protocol)",
    )


def ask(address: str, body: bytes, kind: str) -> list[Any]:
    """The answers of `POST /invocations`.

    Raises:
        UnreachableError: nothing answers there.
        InvalidInputError: the model does not take these rows.
    """
    try:
        reply = httpx.post(
            f"{address}/invocations",
            content=body,
            headers={"Content-Type": kind},
            timeout=_TIMEOUT_S,
            verify=os.environ.get("SSL_CERT_FILE") or True,
        )
    except httpx.TransportError as exc:
        raise UnreachableError(
            f"nothing answers at {address}",
            code="endpoint-unreachable",
            why=type(exc).__name__,
            hint="the endpoint is at the site: is it reachable from here? see `insitu deployment list`",
        ) from exc
    if reply.is_success:
        return list(reply.json()["predictions"])
    message = _message(reply)
    if reply.is_client_error:
        raise InvalidInputError("the model does not take these rows", code="bad-rows", why=message)
    raise UnavailableError(f"the endpoint answered {reply.status_code}", code="endpoint-failed", why=message)


def _message(reply: httpx.Response) -> str:
    try:
        return str(reply.json().get("message", ""))[:500]
    except (ValueError, AttributeError):
        return reply.text[:500]


def _address(target: str) -> str:
    if target.startswith(("http://", "https://")):
        return target.rstrip("/").removesuffix("/invocations")
    with hub() as client:
        found = client.deployment(target)
    if not found.url:
        raise NotFoundError(
            f"{target} has no address: it is {found.state}",
            code="no-endpoint",
            hint=f"`insitu deployment show {target}`",
        )
    return found.url.rstrip("/")


app = single(predict)
