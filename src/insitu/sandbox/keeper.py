"""The process that stands beside one sandbox, whatever becomes of the agent.

    python -m insitu.sandbox.keeper [sandbox settings] < request

It waits for one line of JSON on stdin, so that it can be started ahead of time
and its own start costs no job anything; told which sandbox to expect, it also
prepares that. After the request it waits for a second line, `go`, and meanwhile
makes ready what nobody could find yet. When stdin ends first, it ends, and
nothing was. From then on it needs nobody: it is in a session of its own, keeps
all it knows in the folder that the request names, and does six things in this
order:

1. writes `keeper.json`: who it is (pid and start time, so that a number used
   again is not mistaken for it), which sandbox, which name;
2. makes the job's two pipes; or else lets the streams be files in the folder;
3. lets the sandbox run, which it has made through the contract; when the code is about
   to start, hands the pipes' reading ends to the intake over its unix socket, and then
   the socket on which the code finds its gate: until then both only wait, and whoever
   takes them up would take the processor from the start;
4. waits for the end, for the time to be up, or for SIGTERM; asks the code to
   end, and after the grace kills all of it;
5. writes `result.json`, whole and synced: it is there or it is not. Before
   that, no process of the sandbox is left, so what it wrote can be judged;
6. destroys what is left.

If it can't tell how the code ended, it says `lost`, never a guess. A keeper
that dies takes its sandbox with it; whoever finds `keeper.json` of a dead
process and no result has the same answer: lost.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from insitu.domain.errors import InsituError, InvalidInputError, UnavailableError
from insitu.sandbox.addresses import connect_to
from insitu.sandbox.contract import Likely, Sandbox, SandboxSettings, Started, open_sandbox
from insitu.sandbox.plan import make_plan, receive_descriptors
from insitu.sandbox.processes import start_ticks
from insitu.sandbox.spec import Limits, Mount, Reason, SandboxResult, SandboxSpec

GO = "go\n"
"""The second line: what was asked for may run."""
_SELFTEST_WAIT_S = 60
"""A busy machine may be slow to start an engine's container; an end is needed all the same."""
_UNTIL_FAST = 8  # calls until the interpreter has made the most of a function
_LAST_WORDS_S = 0.005
_LONGEST_WAIT_S = 86400
"""epoll counts milliseconds in 31 bits; a service may be given more time than that."""


@dataclass(frozen=True, slots=True)
class KeeperRequest:
    spec: SandboxSpec
    sandbox: str
    state_dir: Path
    """This sandbox's alone, mode 0700; made when missing."""
    settings: SandboxSettings
    streams_socket: Path | None = None
    """Gets the message `streams` with two descriptors, and `gate` with one if the spec has a gate's port.

    None: the streams are files `stdout` and `stderr` in the folder, and nobody serves a gate.
    """

    def to_json(self) -> str:
        """One line."""
        fields = {
            "spec": self.spec.as_dict(),
            "sandbox": self.sandbox,
            "state_dir": str(self.state_dir),
            "settings": self.settings.as_dict(),
            "streams_socket": str(self.streams_socket) if self.streams_socket else None,
        }
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises InvalidInputError: it is not a request."""
        try:
            fields: dict[str, Any] = json.loads(text)
            streams = fields["streams_socket"]
            return cls(
                spec=SandboxSpec.from_dict(fields["spec"]),
                sandbox=fields["sandbox"],
                state_dir=Path(fields["state_dir"]),
                settings=SandboxSettings.from_dict(fields["settings"]),
                streams_socket=Path(streams) if streams else None,
            )
        except (ValueError, TypeError, KeyError) as exc:
            raise InvalidInputError(
                "this is not a keeper's request", code="bad-request", why=type(exc).__name__
            ) from exc


def main(arguments: Sequence[str]) -> int:
    gc.disable()  # it leaves no cycles; and to look for some would copy each page that its fork shares with it
    stop = _stop_on_signal()
    ready = _prepare(*arguments) if arguments else None
    line = sys.stdin.readline()
    request = KeeperRequest.from_json(line) if line else None
    if ready is not None and (request is None or request.sandbox != ready.name):
        ready.unprepare()
        ready = None
    if request is None:
        return 0  # nobody needs this keeper any more
    sandbox = ready or open_sandbox(request.sandbox, request.settings)
    claim = _Claim(request)
    try:
        result = _keep(request, sandbox, stop, claim)
    except (InsituError, OSError) as exc:
        if not claim.take():
            return 3  # nobody wants it, or another keeper has it: nothing of that is touched
        why = exc.code if isinstance(exc, InsituError) else type(exc).__name__
        _note(request, exc)
        result = SandboxResult(Reason.FAILED_TO_START, detail=why, ended_at=datetime.now(UTC))
    _write_whole(request.state_dir / "result.json", result.to_json(), sync=True)
    with contextlib.suppress(InsituError):  # the agent destroys again what it finds by name
        sandbox.destroy(request.spec.name)
    return 0


def _prepare(expected: str, settings: str, likely: str = "") -> Sandbox:
    """The sandbox that will be asked for, as ready as it can be, while nobody waits."""
    given = SandboxSettings.from_dict(json.loads(settings))
    _read_one_of_nobody(expected, given)
    sandbox = open_sandbox(expected, given)
    with contextlib.suppress(InsituError, OSError):  # what is wrong is said when it is asked for
        sandbox.prepare(Likely.from_dict(json.loads(likely)) if likely else None)
    return sandbox


def _read_one_of_nobody(expected: str, settings: SandboxSettings) -> None:
    """Do what the request will need, some times: what runs for the first time takes several times as long."""
    root = Path("/")
    limits = Limits(memory_bytes=1, cpus=1, processes=1, wall_s=1, scratch_bytes=1)
    mounts = (Mount(root, "/job/code"), Mount(root, "/job/outputs", writable=True))
    spec = SandboxSpec("nobody", root, ("true",), {"PATH": "/bin"}, "/", mounts, limits, uid=1, gid=1)
    line = KeeperRequest(spec, expected, root, settings).to_json()
    for _ in range(_UNTIL_FAST):
        request = KeeperRequest.from_json(line)
        json.dumps(make_plan(request.spec, (), {}))
        json.dumps(_who_i_am(request))


def _stop_on_signal() -> socket.socket:
    """A socket that becomes readable when somebody asks this keeper to stop."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)  # noqa: FBT003 - the library's
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _wakes_only)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    reader.setblocking(False)  # noqa: FBT003
    _KEPT.append(writer)
    return reader


_KEPT: list[socket.socket] = []


def _wakes_only(_signal: int, _frame: object) -> None:
    """That it came is written to the socket of `_stop_on_signal`."""


class _Claim:
    """Whether this sandbox is ours to run: it is wanted, and no other keeper has it."""

    def __init__(self, request: KeeperRequest) -> None:
        self._request = request
        self._is_ours: bool | None = None

    def prepare(self) -> None:
        """Write down who this is, under a name that nobody looks for: when it is wanted, only that is left to be made."""
        self._partial.write_text(json.dumps(_who_i_am(self._request)), encoding="utf-8")

    def take(self) -> bool:
        """Waits until it is wanted. May be asked again."""
        found = self._is_ours
        if found is None:
            found = self._is_ours = sys.stdin.readline() == GO and self._say_who_i_am()
        return found

    @property
    def _partial(self) -> Path:
        return self._request.state_dir / f"keeper.json.{os.getpid()}"

    def _say_who_i_am(self) -> bool:
        """Make `keeper.json`; False when there is one already, of a keeper that an earlier agent started."""
        if not self._partial.exists():
            self.prepare()
        try:
            os.link(self._partial, self._request.state_dir / "keeper.json")
        except FileExistsError:
            return False
        finally:
            self._partial.unlink()
        return True


def _who_i_am(request: KeeperRequest) -> dict[str, Any]:
    pid = os.getpid()
    return {
        "pid": pid,
        "start_ticks": start_ticks(pid),
        "sandbox": request.sandbox,
        "name": request.spec.name,
        "settings": request.settings.as_dict(),
    }


def _keep(request: KeeperRequest, sandbox: Sandbox, stop: socket.socket, claim: _Claim) -> SandboxResult:
    spec = request.spec
    if not request.state_dir.exists():
        request.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _give_writable_mounts(spec)
    with _Streams(request) as streams:

        def when_wanted() -> tuple[int, int]:
            claim.prepare()
            ends = streams.make()
            if not claim.take():
                raise UnavailableError(f"the sandbox {spec.name} is not for this keeper", code="not-wanted")
            return ends

        def once_it_runs() -> None:
            # Only now: a disk takes as long as the whole start, and a crash of the machine ends the sandbox too.
            _sync(request.state_dir / "keeper.json")

        started = sandbox.start(spec, request.state_dir / "room", when_wanted)
        try:
            watch = _Watch(spec, started, stop, streams.hand_over, once_it_runs)
            result = watch.until_the_end()
            if watch.note:
                _note(request, watch.note)
            return result
        finally:
            started.kill()


def _give_writable_mounts(spec: SandboxSpec) -> None:
    """As root, the code's uid gets the folders that it may write to; themselves, not what is in them."""
    if os.getuid() != 0:
        return
    for mount in spec.mounts:
        if mount.writable:
            os.chown(mount.source, spec.uid, spec.gid, follow_symlinks=False)


class _Streams:
    """The code's output and errors: pipes whose reading ends the intake gets, or files."""

    def __init__(self, request: KeeperRequest) -> None:
        self._request = request
        self._reading: list[int] = []
        self._writing: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        for descriptor in (*self._reading, *self._writing):
            os.close(descriptor)
        self._reading, self._writing = [], []

    def make(self) -> tuple[int, int]:
        """The ends that the code writes to; ours to close."""
        for name in ("stdout", "stderr"):
            if self._request.streams_socket is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
                self._writing.append(os.open(self._request.state_dir / name, flags, 0o600))
            else:
                reading, writing = os.pipe()
                self._reading.append(reading)
                self._writing.append(writing)
        return self._writing[0], self._writing[1]

    def hand_over(self, gate: list[int]) -> None:
        """Give the reading ends to the intake, and the socket on which the code finds its gate.

        The code begins: what it says waits in the pipes, and whoever connects in the socket's queue.

        Raises:
            OSError: there is no intake.
        """
        if self._reading:
            _tell_intake(self._request, b"streams", self._reading)
        self._close()  # what the code said ends with the code
        with contextlib.suppress(OSError):  # the intake is gone since, which its agent sees
            for listener in gate:
                _tell_intake(self._request, b"gate", [listener])


def _tell_intake(request: KeeperRequest, word: bytes, descriptors: list[int]) -> None:
    if request.streams_socket is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as intake:
        connect_to(intake, request.streams_socket)
        intake.sendmsg([word], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])


class _Watch:
    """One sandbox from its start to its end: what init says, the clock, and who asks to stop."""

    def __init__(
        self,
        spec: SandboxSpec,
        started: Started,
        stop: socket.socket,
        hand_over: Callable[[list[int]], None],
        once_it_runs: Callable[[], None],
    ) -> None:
        self._spec = spec
        self._hand_over = hand_over
        self._once_it_runs = once_it_runs
        self._gate: list[int] = []
        """The socket on which the code finds its gate, once it is there."""
        self._started = started
        self._stop = stop
        self._words: list[str] = []
        self._started_at: datetime | None = None
        self._deadline = time.monotonic() + _SELFTEST_WAIT_S
        self._ending: Reason | None = None
        """Why we asked it to end; None: we did not."""
        self._rest = b""
        self.note = ""
        """What is worth knowing at the site, beside the result."""

    def until_the_end(self) -> SandboxResult:
        selector = selectors.DefaultSelector()
        selector.register(self._started.channel, selectors.EVENT_READ)
        selector.register(self._stop, selectors.EVENT_READ)
        while True:
            left_s = max(0.0, self._deadline - time.monotonic())
            ready = {key.fileobj for key, _ in selector.select(min(left_s, _LONGEST_WAIT_S))}
            if self._started.channel in ready and not self._hear():
                self._let_its_last_words_pass()
                return self._result()
            if self._stop in ready:
                self._drain_stop()
                self._end(Reason.STOPPED)
            if time.monotonic() >= self._deadline:
                if self._ending is not None or self._started_at is None:
                    return self._result()  # the grace is over, or it never got going; the caller kills
                self._end(Reason.TIMEOUT)

    def _hear(self) -> bool:
        """What init says. False: it has said its last, or is gone."""
        listeners: list[int] = []
        try:
            data, listeners = receive_descriptors(self._started.channel, 4096, 1)
        except OSError:
            data = b""
        self._keep_gate(listeners)
        if not data:
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            words = line.decode("ascii", "replace").split()
            # After `started` the code could speak on a container's channel: then only an end is believed.
            if words == ["starting"] and self._started_at is None:
                self._hand_over(self._gate)
                self._close_gate()
            elif words == ["started"] and self._started_at is None:
                self._started_at = datetime.now(UTC)
                self._once_it_runs()
                if self._ending is None:
                    self._deadline = time.monotonic() + self._spec.limits.wall_s
            elif words and words[0] in (("exit", "signal") if self._started_at else ("refused", "failed")):
                self._words = words
                return False
        return True

    def _keep_gate(self, listeners: list[int]) -> None:
        """The socket on which the code finds its gate. Init gives it before the code runs; what comes later is not init's."""
        if self._started_at is None and not self._gate:
            self._gate, listeners = listeners[:1], listeners[1:]
        for listener in listeners:
            os.close(listener)

    def _close_gate(self) -> None:
        for listener in self._gate:
            os.close(listener)
        self._gate = []

    def _end(self, why: Reason) -> None:
        """Ask the code to end; the deadline becomes the end of the grace."""
        if self._ending is not None:
            return
        self._ending = why
        self._deadline = time.monotonic() + self._spec.grace_s
        with contextlib.suppress(OSError):
            self._started.channel.send(b"stop\n")

    def _let_its_last_words_pass(self) -> None:
        """What the code said at its end passes the gate now, and ending a sandbox would take its processors and disk."""
        if self._words and self._words[0] == "exit":
            time.sleep(_LAST_WORDS_S)

    def _drain_stop(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._stop.recv(64):
                pass

    def _result(self) -> SandboxResult:
        killed_for_memory = self._started.memory_kills() > 0
        # Kill before the time is taken and the result exists: nothing may write after it.
        self._started.kill()
        ended_at = datetime.now(UTC)
        word, number = (self._words[0], self._words[1:]) if self._words else ("", [])
        if word in ("refused", "failed"):
            self.note = " ".join(self._words)
            number = number[:2] if number[:1] != ["join"] else ["join"]  # the rest is bubblewrap's, and names paths
            reason = Reason.SELFTEST if word == "refused" else Reason.FAILED_TO_START
            return SandboxResult(reason, detail=" ".join(number)[:200], ended_at=ended_at)
        value = int(number[0]) if number and number[0].isdigit() else None
        exit_code, signal_number = (value, None) if word == "exit" else (None, value)
        reason, detail = self._reason(exit_code, signal_number, killed_for_memory)
        return SandboxResult(reason, exit_code, signal_number, detail, self._started_at, ended_at)

    def _reason(self, exit_code: int | None, number: int | None, killed_for_memory: bool) -> tuple[Reason, str]:
        if killed_for_memory and exit_code != 0:
            return Reason.MEMORY, f"the limit is {self._spec.limits.memory_bytes} bytes"
        if self._ending is Reason.TIMEOUT:
            return Reason.TIMEOUT, f"the limit is {self._spec.limits.wall_s:g} s"
        if self._ending is Reason.STOPPED:
            return Reason.STOPPED, "it was asked to stop"
        if exit_code is not None or number is not None:
            return Reason.EXITED, ""
        if self._started_at is None:
            return Reason.FAILED_TO_START, "the sandbox ended before its self-test did"
        return Reason.LOST, "the sandbox ended, and nobody inside said how"


def _note(request: KeeperRequest, what: object) -> None:
    """The whole error, for the site alone."""
    with contextlib.suppress(OSError):
        _write_whole(request.state_dir / "keeper.log", f"{what}\n")


def _write_whole(path: Path, text: str, *, sync: bool = False) -> None:
    """All of it or nothing; with `sync`, the name is never there before the content is on the disk."""
    partial = path.with_name(path.name + ".new")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text.encode())
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.rename(path)
    if sync:
        _sync(path)


def _sync(path: Path) -> None:
    """On the disk, content and name, when this returns."""
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
