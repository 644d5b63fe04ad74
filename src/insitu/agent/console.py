"""The steward's way in: a unix socket in the site's folder, one JSON line each way.

    → {"call": "release_list", "arguments": {"state": "held"}}
    ← {"ok": [...]}   or   {"error": {"code": …, "what": …, …}, "exit_code": 3}

The socket is mode 0600 in a folder of mode 0700: who can open it could read the
folder anyway. Nothing of it is reachable over a network.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import socketserver
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insitu.agent import meter, steward_data, steward_envelopes, steward_policy
from insitu.agent.steward import Steward
from insitu.domain.errors import InsituError, InvalidInputError, UnreachableError, error_from_dict

_log = logging.getLogger("insitu.agent")

_MAX_LINE = 4 << 20
_CALLS = frozenset(
    {
        "ledger_show",
        "policy_show",
        "release_list",
        "release_show",
        "release_diff",
        "release_terms",
        "release_decide",
    }
)
_OTHER_CALLS = {**steward_data.CALLS, **meter.CALLS, **steward_envelopes.CALLS, **steward_policy.CALLS}


class Console:
    """Serves the steward's calls until `close`."""

    def __init__(self, path: Path, steward: Steward) -> None:
        self._path = path
        path.unlink(missing_ok=True)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline(_MAX_LINE)
                self.wfile.write(json.dumps(answer(steward, line)).encode() + b"\n")

        self._server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
        self._server.daemon_threads = True
        path.chmod(0o600)
        self._thread = threading.Thread(target=self._server.serve_forever, name="console", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._path.unlink(missing_ok=True)


def answer(steward: Steward, line: bytes) -> dict[str, Any]:
    """One call's reply. Never raises: a bug in a call must not end the console."""
    try:
        request = json.loads(line)
        call = request["call"]
        return {"ok": ask(steward, call, request.get("arguments", {}))}
    except InsituError as exc:
        return {"error": exc.as_dict(), "exit_code": exc.exit_code}
    except (ValueError, KeyError, TypeError) as exc:
        return {"error": {"code": "bad-call", "what": f"the call is not right: {type(exc).__name__}"}, "exit_code": 2}
    except Exception as exc:  # noqa: BLE001 - said in the log; the process goes on
        _log.exception("a console call failed")
        return {"error": {"code": type(exc).__name__, "what": "the agent failed at this call"}, "exit_code": 1}


def ask(steward: Steward, call: str, arguments: Mapping[str, Any]) -> Any:
    """One call's result.

    Raises:
        InvalidInputError: there is no such call.
    """
    if call in _OTHER_CALLS:
        return _OTHER_CALLS[call](steward, **arguments)
    if call not in _CALLS:
        raise InvalidInputError(f"the console knows no call {call!r}", code="no-such-call")
    return getattr(steward, call)(**arguments)


def call_console(socket_path: Path, call: str, /, **arguments: Any) -> Any:
    """Ask a running agent.

    Raises:
        UnreachableError: no agent runs with this folder.
        InsituError: what the agent answered.
    """
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        try:
            connection.connect(str(socket_path))
        except OSError as exc:
            raise UnreachableError(
                f"no agent is running with {socket_path.parent}",
                code="agent-not-running",
                hint=f"start it with `insitu agent start --dir {socket_path.parent}`, or name another folder with --dir",
            ) from exc
        connection.sendall(json.dumps({"call": call, "arguments": arguments}).encode() + b"\n")
        with connection.makefile("rb") as stream:
            reply = json.loads(stream.readline() or b'{"error": {"what": "the agent did not answer"}}')
    if "error" in reply:
        raise error_from_dict(reply["error"], exit_code=reply.get("exit_code", 1))
    return reply["ok"]
