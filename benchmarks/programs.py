"""Starting programs, timing their first byte, and ending them by process id."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_STOP_S = 15.0
_LOOK_S = 1.0
_QUIET = 0.03  # of a core


@dataclass(frozen=True)
class Timed:
    """How long a program took until it said something, and until it had ended. Seconds."""

    first_byte_s: float
    end_s: float


def run_timed(command: Sequence[str]) -> Timed:
    """Run a program that prints.

    Raises:
        RuntimeError: it failed, or printed nothing.
    """
    begun = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = os.read(process.stdout.fileno(), 1)
        first_byte_s = time.perf_counter() - begun
        process.stdout.read()
        process.wait()
        end_s = time.perf_counter() - begun
        if process.returncode != 0 or not first:
            raise RuntimeError(f"{command[0]} failed: {process.stderr.read().decode(errors='replace')[-400:]}")
    return Timed(first_byte_s, end_s)


@contextlib.contextmanager
def ended_by_pid(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that serves, in a session of its own; it and its children are ended afterwards."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        # The session's group: servers of others start workers, which would outlive them.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


def free_port() -> int:
    """A loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Use:
    """What a process has used so far."""

    cpu_s: float
    memory_mb: float


def use_of(pid: int) -> Use:
    """Read from the kernel; memory is what is resident."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Use(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


def use_of_family(pid: int) -> float:
    """Processor time, in seconds, that a process and all below it that live now have used."""
    return sum(use_of(one).cpu_s for one in _family(pid))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))


def wait_until_family_quiet(pid: int, *, for_at_most_s: float = 60.0) -> None:
    """As `wait_until_quiet`, of a process and what it has started, as an agent's waiting gate imports its packages."""
    end = time.monotonic() + for_at_most_s
    while time.monotonic() < end:
        with contextlib.suppress(OSError):  # one of them has ended meanwhile: look again
            before = use_of_family(pid)
            time.sleep(_LOOK_S)
            if abs(use_of_family(pid) - before) < _QUIET * _LOOK_S:
                return


def wait_until_quiet(pid: int, *, for_at_most_s: float = 60.0) -> None:
    """Until a process that was just started has done what it does beside its work, as a hub imports MLflow."""
    end = time.monotonic() + for_at_most_s
    while time.monotonic() < end:
        before = use_of(pid).cpu_s
        time.sleep(_LOOK_S)
        if use_of(pid).cpu_s - before < _QUIET * _LOOK_S:
            return
