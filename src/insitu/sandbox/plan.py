"""What `init.py` is told: made from a spec, outside, as plain values that survive JSON."""

from __future__ import annotations

import array
import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from insitu.sandbox.beside import TOOLS_TARGET
from insitu.sandbox.spec import SandboxSpec

RUN_TARGET = "/run/insitu"
SCRATCH_TARGETS = ("/tmp", "/dev/shm")  # noqa: S108 - inside a sandbox, not here


def make_plan(spec: SandboxSpec, binds: Iterable[str], enforced: Mapping[str, str]) -> dict[str, Any]:
    """The plan for `init.run`.

    Args:
        binds: where entries of the base are bound, inside.
        enforced: limit → mechanism; what names `rlimit` is left to init.
    """
    beside = [TOOLS_TARGET] if spec.tools else []
    read_only = [*beside, *(mount.target for mount in spec.mounts if not mount.writable)]
    return {
        "argv": list(spec.argv),
        "env": dict(spec.env),
        "workdir": spec.workdir,
        "port": spec.gate_port,
        "declared": [*binds, RUN_TARGET, *beside, *(mount.target for mount in spec.mounts)],
        "writable": [*(mount.target for mount in spec.mounts if mount.writable), *SCRATCH_TARGETS],
        "read_only": ["/", *sorted({*read_only, *spec.selftest})],
        "mountinfo": None,
        "uid": spec.uid,
        "gid": spec.gid,
        "cpus": spec.limits.cpus,
        "rlimits": _rlimits(spec, enforced),
    }


def send_plan(channel: socket.socket, plan: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """To an init that waits for it in `init.receive_plan`, with what it needs: a container's the code's stdout and stderr."""
    data = json.dumps(plan).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    sent = channel.sendmsg([b"%010d\n" % len(data)], rights)
    assert sent
    channel.sendall(data)


def receive_descriptors(channel: socket.socket, size: int, most: int) -> tuple[bytes, list[int]]:
    """Data, and descriptors that came with it; none of them is left open by an exec, as `socket.recv_fds` leaves them."""
    data, extra, _, _ = channel.recvmsg(size, socket.CMSG_SPACE(4 * most), socket.MSG_CMSG_CLOEXEC)
    found = array.array("i")
    for level, kind, sent in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(sent[: len(sent) - len(sent) % found.itemsize])
    return data, list(found)


def _rlimits(spec: SandboxSpec, enforced: Mapping[str, str]) -> list[tuple[str, int]]:
    limits = spec.limits
    chosen = [("RLIMIT_NOFILE", limits.open_files), ("RLIMIT_CORE", 0)]
    if limits.file_bytes is not None:
        chosen.append(("RLIMIT_FSIZE", limits.file_bytes))
    if enforced.get("memory") == "rlimit":
        chosen.append(("RLIMIT_AS", limits.memory_bytes))
    if enforced.get("processes") == "rlimit":
        chosen.append(("RLIMIT_NPROC", limits.processes))
    return chosen
