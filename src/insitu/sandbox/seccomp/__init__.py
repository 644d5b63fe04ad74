"""The one allow-list of system calls, and what is made of it.

`syscalls.toml` is the list; `generate.py` makes `x86_64.bpf`, `aarch64.bpf` and
`oci.json` from it; these are checked in, and a test makes them again and
compares. Programs that need the filter read it from here.
"""

from __future__ import annotations

import platform
from pathlib import Path

from insitu.domain.errors import UnavailableError

_FOLDER = Path(__file__).parent
_MACHINES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}


def bpf_program(machine: str | None = None) -> bytes:
    """The filter as an array of `struct sock_filter`, for this machine or the one named.

    Raises:
        UnavailableError: there is none for that processor. Nothing may run without it.
    """
    wanted = machine or platform.machine()
    name = _MACHINES.get(wanted)
    if name is None:
        raise UnavailableError(
            f"there is no system call filter for {wanted}",
            code="no-seccomp-filter",
            why="filters are made for x86_64 and aarch64",
            hint="run the agent on one of these",
        )
    return (_FOLDER / f"{name}.bpf").read_bytes()


def oci_profile_path() -> Path:
    """The same list as an OCI profile, for Podman and Docker."""
    return _FOLDER / "oci.json"
