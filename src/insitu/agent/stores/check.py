"""Tries a store step by step, and says which step fails and why: reach, login, list, read."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal
from urllib.parse import urlsplit

from insitu.agent.stores.addresses import StoreAddress
from insitu.agent.stores.contract import ObjectInfo, ObjectStore, Step, StoreError, StoreUnreachableError

STEPS: tuple[Step, ...] = ("reach", "login", "list", "read")
_CONNECT_S = 5.0
_LOOKED_AT = 1000


@dataclass(frozen=True)
class StepResult:
    """How one step went. A step behind one that failed was not tried."""

    step: Step
    state: Literal["ok", "failed", "not tried"]
    what: str = ""
    why: str = ""
    hint: str = ""
    code: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if value}


def check_store(address: StoreAddress, open_store: Callable[[], ObjectStore]) -> list[StepResult]:
    """All steps, in order. Raises nothing that a store does wrong."""
    try:
        store = open_store()
        try:
            return list(_try(store))
        finally:
            store.close()
    except StoreUnreachableError as exc:
        return _failed("reach", exc, why=_why_unreachable(address) or exc.why)
    except StoreError as exc:
        return _failed(exc.step, exc)


def _try(store: ObjectStore) -> Iterator[StepResult]:
    found: list[ObjectInfo] = list(islice(store.list(), _LOOKED_AT))
    yield StepResult("reach", "ok")
    yield StepResult("login", "ok")
    many = f"{_LOOKED_AT} objects or more" if len(found) == _LOOKED_AT else f"{len(found)} objects"
    yield StepResult("list", "ok", many)
    one = next((one for one in found if one.size_bytes), None)
    if one is None:
        yield StepResult("read", "not tried", "there is no object to read")
        return
    try:
        store.read(one.name, 0, 1)
    except StoreError as exc:
        yield StepResult("read", "failed", exc.what, exc.why, exc.hint, exc.code)
        return
    yield StepResult("read", "ok")


def _failed(step: Step, exc: StoreError, *, why: str = "") -> list[StepResult]:
    at = STEPS.index(step)
    return [
        *(StepResult(done, "ok") for done in STEPS[:at]),
        StepResult(step, "failed", exc.what, why or exc.why, exc.hint, exc.code),
        *(StepResult(after, "not tried") for after in STEPS[at + 1 :]),
    ]


def _why_unreachable(address: StoreAddress) -> str:
    """What connecting by hand says: stores' libraries say only that it failed."""
    parts = urlsplit(address.endpoint)
    if not parts.hostname:
        return ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname, port), timeout=_CONNECT_S) as connection:
            if parts.scheme == "https":
                with ssl.create_default_context().wrap_socket(connection, server_hostname=parts.hostname):
                    pass
    except socket.gaierror:
        return f"no name server knows {parts.hostname}"
    except TimeoutError:
        return f"{parts.hostname} does not answer at port {port} within {_CONNECT_S:g} s: is there a firewall between?"
    except ConnectionRefusedError:
        return f"nothing listens at port {port} of {parts.hostname}"
    except ssl.SSLCertVerificationError as exc:
        return f"its certificate is not trusted here: {exc.verify_message}"
    except ssl.SSLError:
        return f"port {port} of {parts.hostname} does not speak TLS; is the endpoint http://?"
    except OSError as exc:
        return exc.strerror or "it can't be connected to"
    return "it can be connected to, but gives no answer that a store would give; is it the right port?"
