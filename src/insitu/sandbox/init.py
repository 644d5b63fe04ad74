"""The first program in a sandbox: tests the guards from inside, then starts the code.

One file, standard library alone, few imports: it runs under the *base's*
interpreter with `-I -S` as pid 1 of a container, where only this file exists;
for bubblewrap the keeper calls `run` itself from a fork that has joined the
sandbox, so that no interpreter has to start. Either way it

1. is told by the keeper what to run, and gets the code's stdout and stderr;
2. tries what must not work: network, names, metadata address, writing to what
   is read-only, more mounts than declared, capabilities, root. One success, or
   one test that can't be made, and the code is never started;
3. listens on 127.0.0.1:<port> and gives that socket away: who is connected to
   it is accepted outside, by the gate, so that a call passes nobody on its way;
4. sets the limits that are inherited and starts the code in a session of its own;
5. tells the keeper how the code ended, waits until it has heard, and ends;
   as pid 1 that ends everything inside.

It speaks to the keeper in lines: `refused <check>`, `failed <step> <errno>`,
`gate` with the listening socket, `starting`, `started`, then `exit <code>` or `signal <number>`. From the keeper it hears
`stop`, or the end of the channel: then the keeper is gone, and so must this be.

The code under test shares its uid. It can't reach the channel: this process is
not dumpable after its change of uid, nor visible where the keeper forked it,
and a container's code could only end itself by it.
"""

from __future__ import annotations

import _socket
import errno
import os
import resource
import select
import signal
import sys

TYPE_CHECKING = False  # of typing, which takes longer to import than all else here together
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Plan = dict[str, Any]

CHANNEL = "/run/insitu/keeper.sock"

# What an engine mounts by itself, from files that it made for this container.
_ENGINE_MOUNTS = frozenset({"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv"})
# File systems that show nothing of this machine's disks.
_KERNEL_FILE_SYSTEMS = frozenset({"proc", "tmpfs", "devpts", "mqueue", "sysfs", "cgroup", "cgroup2", "devtmpfs"})
_BUFFER = 1 << 16
_BACKLOG = 128
_SIZE_BYTES = 11  # how long a plan is, as ten digits and the end of the line
_MOST_DESCRIPTORS = 250  # in one message; the kernel's SCM_MAX_FD is 253


class Refused(Exception):
    """A guard is not in place. The text is ours: a word for the check and, where known, a place or number."""


def run(
    channel: _socket.socket, plan: Plan, streams: Callable[[], tuple[int, int] | None], pid_one: str, status: int
) -> None:
    """Test, start, wait, report. Returns when the keeper has heard how it ended.

    Args:
        channel: the connected `_socket.socket` to the keeper.
        plan: a dict, see `keeper.make_plan`.
        streams: gives the code's stdout and stderr, closed here once it runs, when it may run; None: it may not.
        pid_one: the /proc folder whose mounts are the sandbox's.
        status: an open descriptor of this process's own /proc/<pid>/status.
    """
    try:
        check_guards(plan, pid_one, status)
    except Refused as refusal:
        _say(channel, f"refused {refusal}")
        return
    except OSError as exc:
        _say(channel, f"refused selftest-broke {errno.errorcode.get(exc.errno or 0, '?')}")
        return
    ends = streams()
    if ends is None:
        return
    try:
        if plan["port"]:
            _give_away_listener(channel, plan["port"])
        wake = _wake_on_child()
        # Before and not after: until the code's program has been loaded, this process waits.
        _say(channel, "starting")
        pid = _start(plan, *ends)
    except OSError as exc:
        _say(channel, f"failed {'exec' if exc.filename else 'start'} {errno.errorcode.get(exc.errno or 0, '?')}")
        return
    for end in ends:
        os.close(end)
    _say(channel, "started")
    _await_end(channel, wake, pid)


# --- the self-test -------------------------------------------------------------------------------


def check_guards(plan: Plan, pid_one: str, status: int) -> None:
    """Every guard, from inside, by trying. Raises Refused, or OSError when a test itself could not be made."""
    _check_identity(pid_one, status)
    _check_mounts(plan, pid_one)
    _check_read_only(plan["read_only"])
    _check_network()


def warm_up(pid_one: str, status: int) -> None:
    """Make the tests while nobody waits for them. What they find counts for nothing: they are made again.

    A fork copies each page when it first writes to it, which it does by looking at
    what is there: that takes longer than the tests themselves.
    """
    places = _read(f"{pid_one}/mountinfo").splitlines()
    declared = [line.split(" ", 5)[4] for line in places]
    plan: Plan = {"declared": declared, "writable": declared, "mountinfo": places}
    for test in (
        lambda: _check_identity(pid_one, status),
        lambda: _check_mounts(plan, pid_one),
        lambda: _check_read_only(["/proc/1/status"]),
        _check_network,
    ):
        try:  # noqa: SIM105 - contextlib is not imported here
            test()
        except (Refused, OSError):
            pass
    os.lseek(status, 0, os.SEEK_SET)


def _check_identity(pid_one: str, status: int) -> None:
    if os.getuid() == 0 or os.getgid() == 0 or os.geteuid() != os.getuid():
        raise Refused("uid root")
    for line in _read(f"{pid_one}/uid_map").splitlines():
        inside, outside, count = (int(word) for word in line.split())
        if inside <= os.getuid() < inside + count and outside + os.getuid() - inside == 0:
            raise Refused("uid root-of-host")
    fields = dict(line.split(":\t", 1) for line in os.read(status, _BUFFER).decode().splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        if int(fields[name], 16) != 0:
            raise Refused(f"capabilities {name}")
    if fields["NoNewPrivs"] != "1":
        raise Refused("no-new-privs")
    if fields["Seccomp"] != "2":
        raise Refused("seccomp")
    if any(int(group) == 0 for group in fields["Groups"].split()):
        raise Refused("groups root")


def _check_mounts(plan: Plan, pid_one: str) -> None:
    declared, writable = set(plan["declared"]), set(plan["writable"])
    for line in plan["mountinfo"] or _read(f"{pid_one}/mountinfo").splitlines():
        before, after = line.split(" - ", 1)
        place, options = before.split(" ")[4:6]
        kind = after.split(" ", 1)[0]
        for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            place = place.replace(code, character)  # as proc(5) escapes them
        writes = "rw" in options.split(",")
        own = place in ("/", "/tmp") or place.split("/")[1] in ("dev", "proc", "sys")  # noqa: S108
        if kind not in _KERNEL_FILE_SYSTEMS and not own and place not in declared and place not in _ENGINE_MOUNTS:
            raise Refused("mounts undeclared")
        if writes and place not in writable and (place == "/" or not own) and place not in _ENGINE_MOUNTS:
            raise Refused("mounts writable")


def _check_read_only(places: list[str]) -> None:
    """Really try to write. The kernel looks at the mount first, so the answer doesn't hang on whose file it is."""
    for place in places:
        try:
            # No pathlib here: it would be the longest import.
            if os.path.isdir(place):  # noqa: PTH112
                os.mkdir(place + "/.insitu-selftest")  # noqa: PTH102
                os.rmdir(place + "/.insitu-selftest")  # noqa: PTH106
            else:
                os.utime(place)
        except OSError as exc:
            if exc.errno != errno.EROFS:
                raise Refused(f"read-only {errno.errorcode.get(exc.errno or 0, '?')}") from exc
        else:
            raise Refused("read-only written")


def _check_network() -> None:
    """Only loopback exists, and no connection gets anywhere, at once and not after a wait."""
    if [name for _, name in _socket.if_nameindex()] != ["lo"]:
        raise Refused("network interface")
    tcp, udp, local, local6 = _socket.SOCK_STREAM, _socket.SOCK_DGRAM, _socket.AF_INET, _socket.AF_INET6
    for name, family, kind, address in (
        ("tcp", local, tcp, ("192.0.2.1", 443)),  # RFC 5737: for documentation, never answers
        ("tcp", local, tcp, ("1.1.1.1", 443)),
        ("metadata", local, tcp, ("169.254.169.254", 80)),
        ("tcp6", local6, tcp, ("2001:db8::1", 443)),
        ("dns", local, udp, ("8.8.8.8", 53)),
        ("dns", local, udp, ("127.0.0.53", 53)),
        ("dns", local, udp, ("127.0.0.1", 53)),
    ):
        if _answers(family, kind, address):
            raise Refused(f"network {name}")


def _answers(family: int, kind: int, address: tuple[str, int]) -> bool:
    """Whether anything but an immediate error comes of speaking to that address."""
    try:
        attempt = _socket.socket(family, kind | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
    except OSError as exc:
        if exc.errno == errno.EAFNOSUPPORT:  # no IPv6 in this kernel
            return False
        raise
    try:
        attempt.connect(address)
        attempt.send(b"\0" * 12)
        # On loopback the refusal has come when send returns; only an answer could still come later.
        attempt.recv(1)
    except OSError as exc:
        refusals = (errno.ENETUNREACH, errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH, errno.EACCES)
        return exc.errno not in refusals
    finally:
        attempt.close()
    return True


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        while part := os.read(descriptor, _BUFFER):
            parts.append(part)
        return b"".join(parts).decode()
    finally:
        os.close(descriptor)


# --- start ---------------------------------------------------------------------------------------


def _start(plan: Plan, stdout: int, stderr: int) -> int:
    for name, value in plan["rlimits"]:
        limit = getattr(resource, name)
        hard = resource.getrlimit(limit)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (bound, bound))
    # The code rather than this: who is left can tell that it was the memory.
    _prefer_for_memory("800")
    os.chdir(plan["workdir"])
    os.umask(0o022)
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, stdout, 1),
        (os.POSIX_SPAWN_DUP2, stderr, 2),
    ]
    argv, env = plan["argv"], plan["env"]
    usual = [signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXFSZ]
    program = _find(argv[0], env.get("PATH", "/usr/bin:/bin"))
    try:
        return os.posix_spawn(program, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=usual)
    finally:
        _prefer_for_memory("0")


def _prefer_for_memory(score: str) -> None:
    """Who the kernel kills first. In the keeper's fork there is no own /proc, and it needs none: nothing is lost."""
    try:
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(descriptor, score.encode())
    except OSError:
        pass
    finally:
        os.close(descriptor)


def _find(program: str, path: str) -> str:
    if "/" in program:
        return program
    for folder in path.split(":"):
        if os.access(f"{folder}/{program}", os.X_OK):
            return f"{folder}/{program}"
    raise FileNotFoundError(errno.ENOENT, "no such program", program)


def _wake_on_child() -> int:
    """A descriptor that becomes readable when a child ends."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _wakes_only)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # an engine's own stop; ours comes through the channel
    return reader


def _wakes_only(_signal: int, _frame: object) -> None:
    """That it came is written to the wake-up descriptor."""


# --- until the end -------------------------------------------------------------------------------


def _give_away_listener(channel: _socket.socket, port: int) -> None:
    """A socket belongs to the network in which it was made, whoever accepts from it. None is left open here."""
    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
        rights = listener.fileno().to_bytes(4, sys.byteorder)
        channel.sendmsg([b"gate\n"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    finally:
        listener.close()


def _await_end(channel: _socket.socket, wake: int, pid: int) -> None:
    """Until the code ends or the keeper goes."""
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    poll.register(wake, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == channel.fileno():
                message = channel.recv(64)
                if not message:
                    return  # the keeper is gone: so must the code be
                if b"stop" in message:
                    _ask_to_end(pid)
            else:
                os.read(wake, 512)
                ended = _reap(pid)
                if ended is not None:
                    _say(channel, ended)
                    _await_keeper(channel)
                    return


def _ask_to_end(pid: int) -> None:
    try:  # noqa: SIM105 - contextlib is not imported here
        os.killpg(pid, signal.SIGTERM)
    except (ProcessLookupError, PermissionError):
        pass


def _reap(pid: int) -> str | None:
    """Every child that ended; for the code itself, the line that says how."""
    line = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return line
        if ended == 0:
            return line
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            line = f"exit {code}" if code >= 0 else f"signal {-code}"


def _await_keeper(channel: _socket.socket) -> None:
    """Until the keeper has heard: it reads the memory counters first, and they vanish with this process."""
    waiting = select.poll()
    waiting.register(channel.fileno(), select.POLLIN)
    waiting.poll(5000)


def _say(channel: _socket.socket, line: str) -> None:
    try:  # noqa: SIM105 - contextlib is not imported here
        channel.sendall(line.encode() + b"\n")
    except OSError:
        pass  # nobody is left to tell


# --- as a program, in a container ----------------------------------------------------------------


def receive_plan(channel: _socket.socket) -> tuple[Plan, list[int]] | None:
    """(plan, descriptors) as `plan.send_plan` sent them; None when the keeper went away instead."""
    import json  # noqa: PLC0415 - a container's init needs it once, and the keeper's fork has it

    # No byte more, here and below: the next message may have descriptors with it.
    most = _socket.CMSG_SPACE(4 * _MOST_DESCRIPTORS)
    size, extra, _, _ = channel.recvmsg(_SIZE_BYTES, most, _socket.MSG_CMSG_CLOEXEC)
    if not size:
        return None
    sent = extra[0][2] if extra else b""
    descriptors = [int.from_bytes(sent[at : at + 4], sys.byteorder) for at in range(0, len(sent), 4)]
    plan = b""
    while len(plan) < int(size):
        part = channel.recv(int(size) - len(plan))
        if not part:
            return None
        plan += part
    return json.loads(plan), descriptors


def main() -> None:
    """Pid 1 of a container: fetch plan and descriptors from the keeper, then `run`."""
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    channel.connect(CHANNEL)
    received = receive_plan(channel)
    if received is None:
        return
    status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    plan, (stdout, stderr) = received
    run(channel, plan, lambda: (stdout, stderr), "/proc/self", status)


if __name__ == "__main__":
    main()
