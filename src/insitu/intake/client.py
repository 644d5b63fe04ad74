"""The agent's side of an intake: a pool of waiting processes, a handle on a serving one, a reader of its events.

Standard library alone. One thread uses a handle at a time; a pool may be shared.

The agent may be killed at any moment. Serving processes go on without it, and
an agent that comes back takes each up again by its control socket (`attach`)
and reads on in its events from the offset that its journal remembers. Waiting
processes end with the agent: their input ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from insitu.domain.errors import UnavailableError
from insitu.intake.doors import listen

_READY_S = 20.0  # a process just started on a busy machine has to import first
_MOST_INDEXES_AHEAD = 4
_REFILL_AFTER_S = 0.5  # so that making the next one does not compete with the job that took the last one


class EventReader:
    """Reads the whole lines that were appended to a file of events."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, after_offset: int = 0, *, most_bytes: int = 4 << 20) -> tuple[list[bytes], int]:
        """Lines after `after_offset` (bytes), without their ends, and the offset to go on from.

        A last line without its end is left for the next time. At most about
        `most_bytes` are read, but always one line if there is one.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(after_offset)
                data = file.read(most_bytes)
                if b"\n" not in data:
                    data += file.readline()
        except FileNotFoundError:
            return [], after_offset
        whole = data[: data.rfind(b"\n") + 1]
        return whole.split(b"\n")[:-1], after_offset + len(whole)


class IntakeHandle:
    """One serving process, by its control socket.

    Args:
        control: path of the control socket.
        process: the process when this agent started it; None after `attach`.
    """

    def __init__(self, control: Path, process: subprocess.Popen[bytes] | None = None) -> None:
        self._path = control
        self._process = process
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._replies: deque[dict[str, Any]] = deque()
        self.seq = 0
        """The last sequence number that it told; never falls."""
        self.pid = process.pid if process else 0

    def connect(self, *, timeout_s: float = 2.0) -> None:
        """Connect to its control socket; nothing happens when that is done.

        Raises:
            UnavailableError: nobody listens there.
        """
        if self._socket is not None:
            return
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(self._path))
        except OSError as exc:
            connection.close()
            raise UnavailableError(
                "the job's intake does not answer", code="intake-gone", hint="its attempt has failed; run the job again"
            ) from exc
        self._socket = connection
        self._buffer = b""

    def fileno(self) -> int:
        """The control connection, for a selector: readable when `wait_seq(…, timeout_s=0)` has news."""
        self.connect()
        assert self._socket is not None
        return self._socket.fileno()

    def wait_seq(self, after: int, *, timeout_s: float) -> int:
        """The last sequence number, once it is greater than `after` or the time is up.

        Raises:
            UnavailableError: the process is gone.
        """
        deadline = time.monotonic() + timeout_s
        while self.seq <= after:
            left_s = deadline - time.monotonic()
            if not self._receive(max(0.0, left_s)) and left_s <= 0:
                break
        return self.seq

    def notifications(self, after: int = 0, *, timeout_s: float) -> Iterator[int]:
        """Growing sequence numbers, until none comes for `timeout_s`."""
        while (seq := self.wait_seq(after, timeout_s=timeout_s)) > after:
            yield seq
            after = seq

    def status(self, *, timeout_s: float = 2.0) -> dict[str, Any]:
        """Its counts.

        Raises:
            UnavailableError: the process is gone.
        """
        status: dict[str, Any] = self._ask({"op": "status"}, "status", timeout_s)
        self.pid = int(status["pid"]) if self._process is None else self.pid
        return status

    def finish(self, *, reason: str = "", timeout_s: float = 10.0) -> int:
        """End it. Returns the last sequence number; then its folder is complete and it has ended or is about to.

        Raises:
            UnavailableError: it is gone, or could not write down what it decided. Its folder is not complete.
        """
        last_seq = int(self._ask({"op": "finish", "reason": reason}, "finished", timeout_s))
        self.close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=timeout_s)
        return last_seq

    def alive(self) -> bool:
        """Whether it runs, or, after `attach`, whether it answers."""
        if self._process is not None:
            return self._process.poll() is None
        try:
            self.status()
        except UnavailableError:
            return False
        return True

    def kill(self) -> None:
        """End it without a last word: the attempt has failed, and its folder is as it is."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        elif self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, 9)
        self.close()

    def close(self) -> None:
        """Let go of it. It goes on serving."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # ── Messages ────────────────────────────────────────────────────────────

    def _ask(self, order: Mapping[str, Any], reply: str, timeout_s: float) -> Any:
        self.connect(timeout_s=timeout_s)
        assert self._socket is not None
        self._replies.clear()
        deadline = time.monotonic() + timeout_s
        try:
            self._socket.settimeout(timeout_s)
            self._socket.sendall(json.dumps(order).encode() + b"\n")
        except OSError as exc:
            raise self._gone() from exc
        while time.monotonic() < deadline:
            self._receive(max(0.0, deadline - time.monotonic()))
            while self._replies:
                message = self._replies.popleft()
                if reply in message:
                    return message[reply]
                if "error" in message:
                    raise UnavailableError("the job's intake refused an order", code="intake-order")
        raise UnavailableError(f"the job's intake did not answer within {timeout_s:g} s", code="intake-slow")

    def _receive(self, timeout_s: float) -> bool:
        """Take in what comes within the time. False when nothing came."""
        self.connect()
        assert self._socket is not None
        if not _readable(self._socket.fileno(), timeout_s):
            return False
        try:
            data = self._socket.recv(64 << 10)
        except OSError as exc:
            raise self._gone() from exc
        if not data:
            raise self._gone()
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "seq" in message:
                self.seq = max(self.seq, int(message["seq"]))
            else:
                self._replies.append(message)
        return True

    def _gone(self) -> UnavailableError:
        self.close()
        return UnavailableError("the job's intake is gone", code="intake-gone", hint="look into its intake.log")


def attach(control: Path) -> IntakeHandle:
    """A handle on a process that an earlier agent started.

    Raises:
        UnavailableError: it is gone; the attempt has failed.
    """
    handle = IntakeHandle(control)
    handle.status()
    handle.close()  # the next connection is greeted with the number, and a selector that waits for it wakes
    return handle


class WaitingIntake:
    """A process that waits for its request."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self.process = subprocess.Popen(
                list(argv),
                env=dict(env),
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C at the agent's terminal is for the agent
            )

    def tell(self, message: Mapping[str, Any], given: socket.socket | None = None) -> None:
        """Send one line, and a socket with it. A process that died is not noticed here."""
        line = json.dumps(message).encode() + b"\n"
        with contextlib.suppress(OSError):
            sent = socket.send_fds(self._orders, [line], [given.fileno()] if given else [])
            self._orders.sendall(line[sent:])

    def let_go(self) -> None:
        """It hears no more: while it waits, it ends; with a job, it goes on."""
        self._orders.close()
        if self.process.stdout is not None:
            self.process.stdout.close()


class StartingIntake:
    """A process that has its request and gets ready. Its control socket takes connections already, and lets them wait."""

    def __init__(self, process: subprocess.Popen[bytes], control: Path) -> None:
        self._process = process
        self._control = control
        self._is_ready = False

    def ready(self, *, timeout_s: float = _READY_S) -> IntakeHandle:
        """Return when it answers.

        Raises:
            UnavailableError: it did not get ready: the request is not one, or a folder or socket can't be made.
        """
        out = self._process.stdout
        assert out is not None
        line = b""
        with contextlib.suppress(OSError):
            line = out.readline() if _readable(out.fileno(), timeout_s) else b""
        if line != b'{"ready": true}\n':
            raise UnavailableError(
                "the job's intake did not start", code="intake-start", hint="look into intake.log in the job's folder"
            )
        self._is_ready = True
        return IntakeHandle(self._control, self._process)

    def end_unless_ready(self) -> None:
        if not self._is_ready:
            self._process.kill()
            self._process.wait()


class IntakePool:
    """Processes that wait for a job, a few ahead of need.

    Args:
        size: how many wait. With 0 each is started when a job needs it.
        argv: how to start one, confined; its command must end in `python -m insitu.intake`.
        env: their whole environment.
        policy: the site's policy as it stands, read ahead by those who wait; see `expect_policy`.
    """

    def __init__(
        self, size: int, argv: Callable[[], Sequence[str]], *, env: Mapping[str, str], policy: str = ""
    ) -> None:
        self._size = size
        self._argv = argv
        self._env = dict(env)
        self._policy = policy
        self._index_dirs: Sequence[str] = ()
        """Of the last job's datasets: the next one will probably ask for the same."""
        self._waiting: deque[WaitingIntake] = deque()
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._closed = False

    def fill(self) -> None:
        """Start what is missing. Returns before they are warm."""
        with self._lock:
            while not self._closed and len(self._waiting) < self._size:
                self._waiting.append(self._spawn())

    def expect_policy(self, policy: str) -> None:
        """Those who wait read this policy ahead: reading it takes as long as all else between request and ready."""
        with self._lock:
            self._policy = policy
            for waiting in self._waiting:
                self._warm_up(waiting)

    def start(self, request: Mapping[str, Any], *, timeout_s: float = _READY_S) -> IntakeHandle:
        """Give the request to a waiting process (or a new one), and return when it answers.

        Raises:
            UnavailableError: it did not get ready: the request is not one, or a folder or socket can't be made.
        """
        with self.starting(request) as starting:
            return starting.ready(timeout_s=timeout_s)

    @contextlib.contextmanager
    def starting(self, request: Mapping[str, Any], *, stand_back_s: float = 0.0) -> Generator[StartingIntake]:
        """Give the request to a waiting process (or a new one); at the end of the block it is ready, or ended.

        In the block its control socket takes connections: what is said there is heard once it is ready.

        Args:
            stand_back_s: for that long at most it does nothing before somebody connects there, as the sandbox's keeper
                does when the code starts. It has the request from the beginning, whatever becomes of this agent.

        Raises:
            UnavailableError: the control socket can't be made.
        """
        control = Path(request["control"])
        try:
            door = listen(control, mode=0o600)
        except OSError as exc:
            raise UnavailableError(
                "the job's intake has no place for its socket", code="intake-start", why=exc.strerror or ""
            ) from exc
        with door:
            waiting = self._take()
            self._index_dirs = request.get("index_dirs", ())[:_MOST_INDEXES_AHEAD]
            if stand_back_s:
                waiting.tell({"stand_back": {"at_most_s": stand_back_s}})
            waiting.tell(request, door)
        starting = StartingIntake(waiting.process, control)
        try:
            yield starting
        finally:
            starting.end_unless_ready()
            waiting.let_go()
            self._refill_later()

    def close(self) -> None:
        """End those who wait. Those who serve go on."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            waiting, self._waiting = list(self._waiting), deque()
        for one in waiting:
            one.let_go()
        for one in waiting:
            try:
                one.process.wait(timeout=2)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()

    def _take(self) -> WaitingIntake:
        with self._lock:
            while self._waiting:
                waiting = self._waiting.popleft()
                if waiting.process.poll() is None:
                    return waiting
                waiting.let_go()
            return self._spawn()

    def _spawn(self) -> WaitingIntake:
        waiting = WaitingIntake(self._argv(), self._env)
        self._warm_up(waiting)
        return waiting

    def _warm_up(self, waiting: WaitingIntake) -> None:
        if self._policy or self._index_dirs:
            waiting.tell({"warm_up": {"policy": self._policy, "index_dirs": list(self._index_dirs)}})

    def _refill_later(self) -> None:
        with self._lock:
            if self._closed or (self._timer is not None and self._timer.is_alive()):
                return
            self._timer = threading.Timer(_REFILL_AFTER_S, self.fill)
            self._timer.daemon = True
            self._timer.start()


def _readable(fd: int, timeout_s: float) -> bool:
    poll = select.poll()  # select() can't look at descriptors beyond 1023
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
