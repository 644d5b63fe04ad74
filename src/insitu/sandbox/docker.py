"""Sandboxes by Docker, through the HTTP API on its unix socket: three calls, no client program.

Docker can't run on a folder, so it gets an image that holds nothing but the
bare root, some folders and links of a few hundred bytes, made once and named by
its own digest; the base is bound into it, as for Podman and bubblewrap. So the
storage driver doesn't matter, and no copy of the base is in Docker's store.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from insitu.domain.errors import InsituError, UnreachableError
from insitu.sandbox.addresses import connect_to
from insitu.sandbox.contract import (
    LABEL,
    Capabilities,
    Likely,
    SandboxSettings,
    Started,
    failed_to_make,
    is_available,
    not_available,
)
from insitu.sandbox.engines import HIDDEN, Container, Room, enforced, short
from insitu.sandbox.rootfs import OWN_PLACES, RootPlan
from insitu.sandbox.seccomp import oci_profile_path
from insitu.sandbox.spec import SandboxSpec

_API = "/v1.40"
_IMAGE = "insitu-skeleton"
_TIMEOUT_S = 60


class DockerSandbox:
    """See the module."""

    name = "docker"

    def __init__(self, settings: SandboxSettings) -> None:
        self._socket = settings.docker_socket

    def prepare(self, likely: Likely | None = None) -> None:
        """Nothing can be done ahead."""

    def unprepare(self) -> None:
        """See `prepare`."""

    def probe(self) -> Capabilities:
        """See the contract. A daemon that answers is taken to work; a start that fails says why."""
        install = "apt install docker.io, and let this user reach its socket"
        if not self._socket.exists():
            return not_available(self.name, f"no daemon listens at {self._socket}", install)
        try:
            _, version = self._call("GET", "/version")
        except InsituError as exc:
            return not_available(self.name, exc.why, install)
        return is_available(self.name, version["Version"], enforced())

    def start(self, spec: SandboxSpec, room: Path, streams: Callable[[], tuple[int, int]]) -> Started:
        """See the contract."""
        try:
            ends = streams()
            door = Room(room, spec)
            container = door.container()
            skeleton = _skeleton_tar(container.root)
            tag = hashlib.sha256(skeleton).hexdigest()[:32]
            body = _request(spec, container, f"{_IMAGE}:{tag}")
            create = f"/containers/create?name={quote(spec.name)}"
            status, answer = self._call("POST", create, body, accept=(201, 404))
            if status == 404:  # the first sandbox with such a root
                self._call("POST", f"/images/create?fromSrc=-&repo={_IMAGE}&tag={tag}", skeleton)
                _, answer = self._call("POST", create, body, accept=(201,))
            self._call("POST", f"/containers/{answer['Id']}/start", accept=(204,))
            try:
                return door.receive_init(container.root, ends, lambda: self._failure(answer["Id"]))
            finally:
                door.close()
        except (OSError, InsituError) as exc:
            with contextlib.suppress(InsituError):
                self.destroy(spec.name)
            raise failed_to_make(spec.name, exc) from exc

    def destroy(self, name: str) -> None:
        """See the contract."""
        if not self._socket.exists():
            return
        self._call("DELETE", f"/containers/{quote(name)}?force=1&v=1", accept=(204, 404))

    def running(self) -> frozenset[str]:
        """See the contract."""
        if not self._socket.exists():
            return frozenset()
        filters = quote(json.dumps({"label": [LABEL]}))
        _, listed = self._call("GET", f"/containers/json?all=1&filters={filters}")
        return frozenset(each["Labels"][LABEL] for each in listed)

    def _failure(self, identity: str) -> str | None:
        _, seen = self._call("GET", f"/containers/{identity}/json")
        state = seen["State"]
        return None if state["Running"] else short(state["Error"] or f"init ended with {state['ExitCode']}")

    def _call(
        self, method: str, path: str, body: dict[str, Any] | bytes | None = None, accept: tuple[int, ...] = (200,)
    ) -> tuple[int, Any]:
        """One request on a connection of its own. Returns the status and the parsed answer.

        Raises:
            UnreachableError: nobody answers, or not as expected.
        """
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        kind = "application/json" if isinstance(body, dict) else "application/x-tar"
        connection = _UnixConnection(self._socket)
        try:
            connection.request(method, _API + path, raw, {"Content-Type": kind} if raw is not None else {})
            response = connection.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException) as exc:
            raise UnreachableError(f"Docker did not answer at {self._socket}", why=str(exc)) from exc
        finally:
            connection.close()
        if response.status not in accept:
            said = data.decode(errors="replace")
            raise UnreachableError(
                f"Docker refused {method} {path.partition('?')[0]}", code="docker-refused", why=short(said)
            )
        return response.status, json.loads(data) if data.startswith(
            (b"{", b"[")
        ) and b"\n{" not in data.strip() else None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        connect_to(self.sock, self._path)


def _request(spec: SandboxSpec, container: Container, image: str) -> dict[str, Any]:
    limits = spec.limits
    host: dict[str, Any] = {
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={oci_profile_path().read_text(encoding='utf-8')}"],
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
        "NanoCpus": int(limits.cpus * 1e9),
        "PidsLimit": limits.processes + 1,  # init is one
        "ShmSize": limits.scratch_bytes,
        "Tmpfs": {"/tmp": f"rw,nosuid,nodev,mode=1777,size={limits.scratch_bytes}"},  # noqa: S108 - inside
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "MaskedPaths": list(HIDDEN),
        "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        "LogConfig": {"Type": "none"},
        "Mounts": [
            {
                "Type": "bind",
                "Source": str(bind.source),
                "Target": bind.target,
                "ReadOnly": not bind.writable,
                "BindOptions": {"Propagation": "rprivate"},
            }
            for bind in container.binds
        ],
    }
    return {
        "Image": image,
        "Entrypoint": list(container.command),
        "User": f"{spec.uid}:{spec.gid}",
        "WorkingDir": "/",
        "Hostname": "sandbox",
        "Labels": {LABEL: spec.name},
        "NetworkDisabled": True,
        "HostConfig": host,
    }


def _skeleton_tar(root: RootPlan) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in (*root.folders, *sorted(OWN_PLACES)):
            member = tarfile.TarInfo(folder.lstrip("/"))
            # runc gives what it mounts there the mode of what it found.
            member.type, member.mode = tarfile.DIRTYPE, 0o1777 if folder == "/tmp" else 0o755  # noqa: S108 - inside
            tar.addfile(member)
        for path, says in root.links:
            member = tarfile.TarInfo(path.lstrip("/"))
            member.type, member.linkname = tarfile.SYMTYPE, says
            tar.addfile(member)
    return buffer.getvalue()
