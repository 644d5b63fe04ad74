"""Keepers ahead of time, and what the agent holds of each.

An interpreter with its imports takes longer to start than a sandbox. So a pool
has a few keepers waiting for their request; taking one starts another, a little
later, so that it doesn't compete with the job for the processor.

A handle waits without asking again and again: a pidfd becomes readable when the
keeper has ended, whether it is our child or was adopted after a restart.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import threading
from collections.abc import Generator, Sequence
from pathlib import Path

from insitu.domain.errors import ConflictError, InsituError, UnavailableError
from insitu.sandbox.contract import Likely, SandboxSettings, open_sandbox
from insitu.sandbox.keeper import GO, KeeperRequest
from insitu.sandbox.processes import start_ticks
from insitu.sandbox.spec import Reason, SandboxResult

_REFILL_AFTER_S = 0.3


class KeeperHandle:
    """A keeper that has its request; ours, or an earlier agent's."""

    def __init__(self, pid: int, pidfd: int, state_dir: Path, child: subprocess.Popen[str] | None = None) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._state_dir = state_dir
        self._child = child

    def wait(self, timeout_s: float | None = None) -> SandboxResult | None:
        """The result, when the keeper ended within the time; else None. May be called again."""
        if self._pidfd >= 0:
            waiting = select.poll()
            waiting.register(self._pidfd, select.POLLIN)
            if not waiting.poll(None if timeout_s is None else int(timeout_s * 1000)):
                return None
            if self._child is not None:
                self._child.wait()
            os.close(self._pidfd)
            self._pidfd = -1
        return read_result(self._state_dir) or _lost(self._state_dir)

    def stop(self) -> None:
        """Ask the keeper to stop its job: TERM, grace, KILL. Returns at once; `wait` tells the rest. Idempotent."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)


class StartingKeeper:
    """A keeper that makes ready what it was asked for, and lets it run when it is told to."""

    def __init__(self, child: subprocess.Popen[str], request: KeeperRequest) -> None:
        self._child = child
        self._request = request

    def go(self) -> KeeperHandle:
        """Let it run. Returns at once.

        Raises:
            UnavailableError: the keeper is gone.
        """
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(GO)
            self._child.stdin.close()
        except BrokenPipeError as exc:
            raise UnavailableError("the keeper ended early", code="no-keeper", hint="see the agent's log") from exc
        return KeeperHandle(self._child.pid, os.pidfd_open(self._child.pid), self._request.state_dir, self._child)

    def end_unless_told(self) -> None:
        """Nobody wants it any more, if it was not told to go: its input ends, and so does it. Idempotent."""
        assert self._child.stdin is not None
        if not self._child.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()
            self._child.wait()


class KeeperPool:
    """A few keepers that wait for work.

    Args:
        size: how many wait at a time.
        python: the interpreter to run them with, and its options.
        settings: what they prepare for; a request may name others, and then starts later.
        sandbox: what they prepare; unless told, what the last request asked for.
        likely: what most requests will say, as far as it is known.
    """

    def __init__(
        self,
        size: int,
        python: Sequence[str],
        settings: SandboxSettings,
        sandbox: str | None = None,
        likely: Likely | None = None,
    ) -> None:
        self._size = size
        self._command = [*python, "-P", "-m", "insitu.sandbox.keeper"]
        self._settings = settings
        self._expected = sandbox
        self._likely = likely
        self._lock = threading.Lock()
        self._waiting: list[subprocess.Popen[str]] = []
        self._refill: threading.Timer | None = None
        self._closed = False
        self._fill()

    def start(self, request: KeeperRequest) -> KeeperHandle:
        """Hand the request to a waiting keeper, and let it run. Returns at once.

        Raises:
            ConflictError: the state folder belongs to an earlier keeper.
            UnavailableError: no keeper could be started.
        """
        with self.starting(request) as starting:
            return starting.go()

    @contextlib.contextmanager
    def starting(self, request: KeeperRequest) -> Generator[StartingKeeper]:
        """Hand the request to a waiting keeper; at the end of the block it was told to go, or has ended.

        Raises:
            ConflictError, UnavailableError: as `start`.
        """
        try:
            starting = self._begin(request)
            try:
                yield starting
            finally:
                starting.end_unless_told()
        finally:
            self._refill_later()  # last, since starting a thread takes time, and now nobody waits for this one

    def _begin(self, request: KeeperRequest) -> StartingKeeper:
        if (request.state_dir / "keeper.json").exists():
            raise ConflictError(f"the sandbox {request.spec.name} was started already", hint="adopt it")
        self._expected = request.sandbox
        for _ in range(3):
            child = self._take()
            assert child.stdin is not None
            try:
                child.stdin.write(request.to_json() + "\n")
                child.stdin.flush()
            except BrokenPipeError:  # it died while it waited
                child.wait()
                continue
            return StartingKeeper(child, request)
        raise UnavailableError("no keeper could be started", code="no-keeper", hint="see the agent's log")

    def adopt(self, state_dir: Path) -> KeeperHandle | SandboxResult | None:
        """What became of a sandbox that an earlier agent started.

        A handle while its keeper lives; the result when it has ended, which is
        `lost` when its keeper died (what is left of it is then destroyed here);
        None when no keeper ever took it on, so that it can be started.
        """
        try:
            known = json.loads((state_dir / "keeper.json").read_text())
        except FileNotFoundError:
            return None
        with contextlib.suppress(ProcessLookupError):
            pidfd = os.pidfd_open(known["pid"])
            if start_ticks(known["pid"]) == known["start_ticks"]:
                return KeeperHandle(known["pid"], pidfd, state_dir)
            os.close(pidfd)
        return read_result(state_dir) or _lost(state_dir)

    def close(self) -> None:
        """Let the waiting keepers go. Those with a job go on."""
        with self._lock:
            self._closed = True
            if self._refill is not None:
                self._refill.cancel()
            waiting, self._waiting = self._waiting, []
        for child in waiting:
            assert child.stdin is not None
            child.stdin.close()
        for child in waiting:
            child.wait()

    def _take(self) -> subprocess.Popen[str]:
        with self._lock:
            return self._waiting.pop(0) if self._waiting else self._spawn()

    def _refill_later(self) -> None:
        with self._lock:
            if self._refill is None and not self._closed:
                self._refill = threading.Timer(_REFILL_AFTER_S, self._fill)
                self._refill.daemon = True
                self._refill.start()

    def _fill(self) -> None:
        with self._lock:
            self._refill = None
            while len(self._waiting) < self._size and not self._closed:
                self._waiting.append(self._spawn())

    def _spawn(self) -> subprocess.Popen[str]:
        prepared = [self._expected, json.dumps(self._settings.as_dict())] if self._expected else []
        if prepared and self._likely is not None:
            prepared.append(json.dumps(self._likely.as_dict()))
        # Its stderr is the agent's log: what it says there is ours, never the job's.
        return subprocess.Popen(
            [*self._command, *prepared],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            cwd="/",
        )


def read_result(state_dir: Path) -> SandboxResult | None:
    try:
        return SandboxResult.from_json((state_dir / "result.json").read_text())
    except FileNotFoundError:
        return None


def _lost(state_dir: Path) -> SandboxResult:
    """The keeper is gone and left no result: end what may be left, and say so."""
    with contextlib.suppress(OSError, ValueError, KeyError, InsituError):
        known = json.loads((state_dir / "keeper.json").read_text())
        settings = SandboxSettings.from_dict(known["settings"])
        open_sandbox(known["sandbox"], settings).destroy(known["name"])
    return SandboxResult(Reason.LOST, detail="its keeper ended without a result")
