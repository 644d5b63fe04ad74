"""The demo's processes: each in a group of its own, all of them gone in the end.

Sandboxes and services outlive an agent on purpose, so ending the children that we
started is not enough. We are the subreaper (prctl(2), PR_SET_CHILD_SUBREAPER) of all
that comes from them: what loses its parent becomes our child, and is found and ended.
Containers that an engine's daemon runs are ended by name, through the engine.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from insitu.agent.folder import SiteFolder
from insitu.domain.errors import InsituError, UnavailableError, error_from_dict
from insitu.sandbox.contract import SandboxSettings, open_sandbox

_PR_SET_CHILD_SUBREAPER = 36
_START_S = 60.0
_STOP_S = 3.0  # hub and agent may be killed at any time: what they said is on disk
_GONE_S = 10.0
_TAIL_LINES = 15


@dataclass
class Child:
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """The end of what it said: for people, when it failed."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])


@dataclass
class Processes:
    """Starts them, and ends them and everything below them."""

    logs: Path
    _children: list[Child] = field(default_factory=list)

    def __post_init__(self) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> tuple[Child, dict[str, Any]]:
        """Start a program that says in one JSON line on stdout when it is ready.

        Raises:
            UnavailableError: it ended, or was not ready in time; the end of its log says why.
        """
        child = self._spawn(name, argv, env, stdout=subprocess.PIPE)
        line = self._first_line(child)
        if b'"ready"' not in line:
            raise self._not_ready(child, line)
        return child, json.loads(line)

    def start_registry(self, folder: Path) -> str | None:
        """An OCI registry on loopback, and its URL; None where the program is not installed."""
        program = shutil.which("docker-registry")
        if program is None:
            return None
        config = folder / "registry.yml"
        # Its packaged configuration wants a password and a fixed port.
        config.write_text(
            "version: 0.1\n"
            "log: {accesslog: {disabled: true}, level: info}\n"
            f"storage: {{filesystem: {{rootdirectory: {folder / 'registry'}}}}}\n"
            "http: {addr: '127.0.0.1:0'}\n"
        )
        pattern = re.compile(r"listening on (127\.0\.0\.1:\d+)")
        return f"http://{self.start_said('registry', [program, 'serve', str(config)], os.environ, pattern)}"

    def start_said(self, name: str, argv: Sequence[str], env: Mapping[str, str], ready: re.Pattern[str]) -> str:
        """Start a program that says in its log when it is ready; what `ready`'s group found there.

        Raises:
            UnavailableError: it ended, or was not ready in time; the end of its log says why.
        """
        child = self._spawn(name, argv, env, stdout=None)
        found = self._until(child, lambda: ready.search(child.log.read_text(errors="replace")))
        return str(found[1])

    def check_alive(self) -> None:
        """Raise when one of them has ended."""
        for child in self._children:
            if child.process.poll() is not None:
                raise self._not_ready(child)

    def end(self, site: SiteFolder, is_ours: Callable[[str], bool]) -> None:
        """End everything: first as each of them wants to end, then whatever is left.

        Args:
            site: the agent's folder.
            is_ours: whether a sandbox of that name was the demo's; other agents may run here too.
        """
        _end([child.process for child in reversed(self._children)])
        _end_sandboxes(site, is_ours)
        _end_descendants()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _spawn(self, name: str, argv: Sequence[str], env: Mapping[str, str], *, stdout: int | None) -> Child:
        log = self.logs / f"{name}.log"
        with log.open("wb") as stream:
            # A group of its own: Ctrl-C at the terminal reaches us, and we end them in order.
            process = subprocess.Popen(
                [*_guarded(), *argv],
                stdin=subprocess.DEVNULL,
                stdout=stream if stdout is None else stdout,
                stderr=stream,
                env=dict(env),
                process_group=0,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def _first_line(self, child: Child) -> bytes:
        stdout = child.process.stdout
        assert stdout is not None, "it was started with a pipe"
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            return stdout.readline() if selector.select(_START_S) else b""

    def _until(self, child: Child, ready: Callable[[], Any]) -> Any:
        end = time.monotonic() + _START_S
        while time.monotonic() < end and child.process.poll() is None:
            found = ready()
            if found:
                return found
            time.sleep(0.02)
        raise self._not_ready(child)

    def _not_ready(self, child: Child, said: bytes = b"") -> InsituError:
        if child.process.stdout is not None:
            child.process.terminate()  # one that is late would not end what is read here
            said += child.process.stdout.read()
        told = error_in(said)
        if told is not None:
            return told
        return UnavailableError(
            f"the demo's {child.name} does not run",
            code="demo-process",
            why=child.tail(),
            hint="`insitu demo --keep` keeps its folder, with the logs",
        )


def error_in(said: bytes | str) -> InsituError | None:
    """The error that a command of ours printed with `--json`, if it did."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        document = json.loads(said)
        return error_from_dict(document["error"], exit_code=document["exit_code"])
    return None


def insitu() -> list[str]:
    """This very program, as a command."""
    return [sys.executable, "-m", "insitu.cli"]


def _guarded() -> list[str]:
    """Ends a child also when we are killed and can't end it ourselves."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig=TERM"] if setpriv else []


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """All are told at once, and have the same time; then they are killed."""
    for process in processes:
        process.send_signal(signal.SIGTERM)  # to one that has ended already it does nothing
    end = time.monotonic() + _STOP_S
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _end_sandboxes(site: SiteFolder, is_ours: Callable[[str], bool]) -> None:
    """Jobs and services run on without their agent, in whatever it was that ran them."""
    settings = SandboxSettings(state_dir=site.run / "sandbox")
    for name in ("bubblewrap", "podman", "docker"):
        sandbox = open_sandbox(name, settings)
        with contextlib.suppress(InsituError, OSError):
            for running in sandbox.running():
                if is_ours(running):
                    sandbox.destroy(running)


def _end_descendants() -> None:
    """Whoever is left of our children's children is our child now, or below one."""
    end = time.monotonic() + _GONE_S
    signal_ = signal.SIGTERM
    while (left := _descendants()) and time.monotonic() < end:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal_)
        _reap()
        time.sleep(0.05)
        signal_ = signal.SIGKILL if end - time.monotonic() < _GONE_S - 1 else signal.SIGTERM
    _reap()


def _descendants() -> list[int]:
    """Every process below this one that is not dead already."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError):
                # The second field is the name, which may hold anything, brackets too.
                state, parent = entry.joinpath("stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(entry.name)] = int(parent)
    found: list[int] = []
    generation = {os.getpid()}
    while generation:
        generation = {pid for pid, parent in parents.items() if parent in generation}
        found += generation
    return found


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
