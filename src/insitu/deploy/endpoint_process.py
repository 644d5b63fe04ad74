"""Starting, finding again and ending the process that owns a deployment's address."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from insitu.deploy.records import ProcessRecord
from insitu.domain.errors import UnavailableError

_MODULE = "insitu.deploy.endpoint"
_STOP_S = 12.0  # it gives open requests 10 s

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Those that this process started: whoever ends one must also wait for it, or its number stays taken."""


def take_address(host: str, port: int | None, choices: Iterable[int]) -> socket.socket:
    """A listening socket at `port`, or at the first of `choices` that is free when it is None.

    Raises:
        UnavailableError: the port is in use, or none of the choices is free.
    """
    if port is not None:
        try:
            return _listen(host, port)
        except OSError as exc:
            raise UnavailableError(
                f"port {port} of {host} can't be had",
                code="port-in-use",
                why=exc.strerror or type(exc).__name__,
                hint="deploy with another port, or stop what listens there",
            ) from exc
    for choice in choices:
        with contextlib.suppress(OSError):
            return _listen(host, choice)
    raise UnavailableError(
        f"no port that the site allows is free at {host}",
        code="port-in-use",
        hint="delete a deployment, or widen deployments.ports in the site's policy",
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except BaseException:
        listener.close()
        raise
    return listener


class EndpointProcess:
    """One endpoint; ours, or an earlier agent's."""

    def __init__(self, record: ProcessRecord) -> None:
        self.record = record

    def alive(self) -> bool:
        child = _children.get(self.record.pid)
        if child is not None and child.poll() is not None:
            del _children[self.record.pid]
        return _is_same(self.record)

    def stop(self) -> None:
        """alive → gone: it answers what it was asked, then ends, or is ended. Idempotent."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(self.record.pid)
            try:
                if not self.alive():
                    return
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                waiting = select.poll()
                waiting.register(handle, select.POLLIN)
                if not waiting.poll(_STOP_S * 1000):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    waiting.poll(5000)
            finally:
                os.close(handle)
        if not _is_same(self.record) and (child := _children.pop(self.record.pid, None)) is not None:
            child.wait()


def start_endpoint(
    state: Path, listener: socket.socket, log: Path, *, python: Sequence[str] = (sys.executable,)
) -> EndpointProcess:
    """Start an endpoint on a listening socket. It is in a session of its own and outlives this process."""
    with listener, log.open("wb") as stream:
        child = subprocess.Popen(
            [*python, "-P", "-m", _MODULE, "--state", str(state), "--fd", str(listener.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            pass_fds=[listener.fileno()],
            start_new_session=True,
            cwd="/",
        )
    _children[child.pid] = child
    return EndpointProcess(ProcessRecord(child.pid, start_ticks(child.pid), boot_id()))


def find_endpoint(state: Path) -> EndpointProcess | None:
    """An endpoint with that state file which nobody remembers: the agent ended between starting and noting it."""
    wanted = [b"-m", _MODULE.encode(), b"--state", os.fsencode(state)]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if any(words[at : at + 4] == wanted for at in range(1, 5)) and _is_mine(entry):
                    pid = int(entry.name)
                    return EndpointProcess(ProcessRecord(pid, start_ticks(pid), boot_id()))
    return None


def start_ticks(pid: int) -> int:
    """When a process started; 0 when there is none."""
    try:
        # The name, second field, may hold anything, a closing parenthesis too.
        after_name = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if after_name[0] in (b"Z", b"X") else int(after_name[19])


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _is_same(record: ProcessRecord) -> bool:
    return record.boot == boot_id() and record.ticks > 0 and start_ticks(record.pid) == record.ticks


def _is_mine(entry: Path) -> bool:
    # Another user could name its program like ours, to be taken for it.
    return entry.stat().st_uid == os.geteuid()
