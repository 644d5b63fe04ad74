"""The sandbox's contract, on every implementation: bubblewrap as root and as a user, Podman, Docker; none of them faked."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from insitu.domain.errors import ConflictError, InvalidInputError, UnavailableError
from insitu.sandbox.contract import SANDBOXES, SandboxSettings, choose, open_sandbox
from insitu.sandbox.keeper_pool import KeeperHandle, KeeperPool
from insitu.sandbox.spec import Mount, Reason, SandboxResult
from tests.sandbox_rig import END_LIMIT_S, Rig, bubblewrap_rig, docker_socket, rig, until

FIXTURES = (bubblewrap_rig, docker_socket, rig)

IGNORE_TERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "


# --- how code ends ------------------------------------------------------------------------------------------------------


def test_the_exit_code_is_told(rig: Rig):
    result = rig.run("import sys; sys.exit(7)").result()
    assert (result.reason, result.exit_code, result.signal) == (Reason.EXITED, 7, None)
    assert result.started_at is not None
    assert result.ended_at is not None
    assert result.started_at <= result.ended_at


def test_the_signal_that_ended_it_is_told(rig: Rig):
    result = rig.run("import os; os.kill(os.getpid(), 11)").result()
    assert (result.reason, result.exit_code, result.signal) == (Reason.EXITED, None, 11)


def test_what_it_prints_is_kept_in_two_streams(rig: Rig):
    run = rig.run("import sys; print('out'); print('err', file=sys.stderr)")
    assert (run.stdout(), run.stderr()) == ("out\n", "err\n")


def test_streams_are_handed_to_the_intake_and_end_with_the_code(rig: Rig):
    with _an_intake(rig) as intake:
        run = rig.start("import sys; print('out'); print('err', file=sys.stderr)", streams=intake.path)
        read: list[bytes] = []
        for descriptor in intake.hears(b"streams"):
            with os.fdopen(descriptor, "rb") as stream:
                read.append(stream.read())  # ends only when nobody holds the other end
    assert read == [b"out\n", b"err\n"]
    assert run.result().exit_code == 0


def test_what_is_not_told_to_go_never_was(rig: Rig):
    spec = rig.spec("open('/job/outputs/ran', 'w')")
    request = rig.request(spec)
    with rig.pool.starting(request):
        pass
    assert not (request.state_dir / "keeper.json").exists()
    assert not (rig.folder / spec.name / "outputs" / "ran").exists()
    assert spec.name not in rig.sandbox.running()


def test_what_a_dead_keeper_made_ahead_is_ended_by_the_next(bubblewrap_rig: Rig):
    mark = ["--setenv", "INSITU_SANDBOX", "ahead:k4194304-1", "-"]  # of a process that can't be
    with subprocess.Popen(["/bin/sh", "-c", "sleep 600; :", *mark], start_new_session=True) as left:
        bubblewrap_rig.run("")
        assert left.wait(END_LIMIT_S) == -signal.SIGKILL
        os.killpg(left.pid, signal.SIGKILL)  # its child, which has no mark


@pytest.mark.parametrize("changes", [{"limits": {"scratch_bytes": 8 << 20}}, {"workdir": "/srv/elsewhere"}])
def test_what_nobody_expected_runs_all_the_same(rig: Rig, changes: dict[str, Any]):
    """A place that was made ahead is thrown away when the spec is another than the likely one."""
    folder = rig.folder / f"elsewhere-{rig.count}"
    folder.mkdir()
    more = (Mount(folder, "/srv/elsewhere"),) if "workdir" in changes else ()
    said = rig.says("import os; print(os.getcwd(), os.statvfs('/tmp').f_blocks > 0)", more_mounts=more, **changes)
    assert said == f"{changes.get('workdir', '/job/outputs')} True"


def test_a_program_that_is_not_there_fails_to_start(rig: Rig):
    result = rig.run("", argv=("/usr/bin/no-such-program",)).result()
    assert (result.reason, result.detail) == (Reason.FAILED_TO_START, "exec ENOENT")
    assert result.started_at is None


def test_a_mount_that_is_not_there_fails_to_start(rig: Rig):
    run = rig.run("", more_mounts=(Mount(rig.folder / "nothing", "/job/inputs/nothing"),))
    assert run.result().reason is Reason.FAILED_TO_START
    assert "nothing" in run.stderr()
    assert rig.what_is_left(run) == []


# --- what it sees -------------------------------------------------------------------------------------------------------


def test_only_the_declared_environment_is_seen(rig: Rig):
    said = rig.says("import os; print(dict(os.environ))", env={"PATH": "/usr/bin", "INSITU_INPUT_A": "with space='1'"})
    assert eval(said) == {"PATH": "/usr/bin", "INSITU_INPUT_A": "with space='1'", "LC_CTYPE": "C.UTF-8"}


def test_it_starts_in_its_workdir_with_nothing_open(rig: Rig):
    said = rig.says(
        "import os; print(os.getcwd(), sorted(int(f) for f in os.listdir('/proc/self/fd'))[:3], os.read(0, 1))"
    )
    assert said == "/job/outputs [0, 1, 2] b''"
    # The fourth is the listing's own.
    assert rig.says("import os; print(len(os.listdir('/proc/self/fd')))") == "4"


def test_data_is_read_only(rig: Rig):
    code = """
import errno
try: open('/job/inputs/data/table.csv', 'a')
except OSError as exc: print(errno.errorcode[exc.errno])
try: open('/job/inputs/data/new', 'w')
except OSError as exc: print(errno.errorcode[exc.errno])
print(open('/job/inputs/data/table.csv').read().split()[0])
"""
    said = rig.says(code).split()
    assert said[1:] == ["EROFS", "a,b"]
    assert said[0] in ("EROFS", "EACCES")  # the file is not the code's own: either is asked first


def test_outputs_are_writable_and_stay(rig: Rig):
    run = rig.run("open('/job/outputs/model.txt', 'w').write('weights')")
    assert run.result().exit_code == 0, run.stderr()
    assert (run.outputs / "model.txt").read_text() == "weights"
    assert (run.outputs / "model.txt").stat().st_uid == rig.uid


def test_a_mount_may_lie_where_the_base_has_something(rig: Rig):
    code = "import os; print(os.listdir('/usr/local/share/own'), 'bin' in os.listdir('/usr'))"
    extra = rig.folder / f"extra-{rig.kind}"
    extra.mkdir()
    (extra / "here").touch()
    assert rig.says(code, more_mounts=(Mount(extra, "/usr/local/share/own"),)) == "['here'] True"


def test_the_base_is_not_written_to(rig: Rig):
    def listing() -> list[str]:
        return sorted(str(path) for pattern in ("*", "opt/*", "usr/*", "run/*") for path in rig.rootfs.glob(pattern))

    before = listing()
    extra = rig.folder / f"env-{rig.kind}"
    extra.mkdir()
    rig.says("print(1)", more_mounts=(Mount(extra, "/opt/new/env"), Mount(extra, "/usr/new")))
    assert listing() == before


def test_scratch_is_fresh_bounded_and_gone(rig: Rig):
    code = """
import os
for folder in ('/tmp', '/dev/shm'):
    assert os.listdir(folder) == [], os.listdir(folder)
    try:
        with open(folder + '/big', 'wb') as stream:
            for _ in range(40): stream.write(b'x' * (1 << 20))
    except OSError as exc: print(exc.strerror)
    os.unlink(folder + '/big'); open(folder + '/left', 'w').close()
"""
    for _ in range(2):  # the second finds nothing of the first
        assert rig.says(code).splitlines() == ["No space left on device"] * 2


def test_code_reaches_the_gate_on_loopback(rig: Rig):
    code = """
import socket
import threading
for size in (1, 5, 3_000_000):
    with socket.create_connection(('127.0.0.1', 5000)) as gate:
        sender = threading.Thread(target=lambda: (gate.sendall(b'ab' * size), gate.shutdown(socket.SHUT_WR)))
        sender.start()
        got = b''
        while part := gate.recv(1 << 16): got += part
        sender.join()
        print(got == b'ba' * size)
"""
    with _an_intake(rig) as intake:
        run = rig.start(code, streams=intake.path, gate_port=5000)
        stdout, stderr = intake.hears(b"streams")
        (listening,) = intake.hears(b"gate")
        with socket.socket(fileno=listening) as gate:
            gate.settimeout(END_LIMIT_S)
            _echo_backwards(gate, 3)
        with os.fdopen(stdout, "rb") as stream:
            assert stream.read().split() == [b"True"] * 3
        os.close(stderr)
    assert run.result().exit_code == 0


def test_nobody_inside_holds_the_gates_socket(rig: Rig):
    """A gate that is gone is seen at once: nobody else is there who could take a call and leave it unanswered."""
    code = """
import socket
try: socket.create_connection(('127.0.0.1', 5000)).recv(1)
except OSError: print('gone')
"""
    with _an_intake(rig) as intake:
        run = rig.start(code, streams=intake.path, gate_port=5000)
        stdout, stderr = intake.hears(b"streams")
        (listening,) = intake.hears(b"gate")
        os.close(listening)
        with os.fdopen(stdout, "rb") as stream:
            assert stream.read() == b"gone\n"
        os.close(stderr)
    assert run.result().exit_code == 0


def test_without_a_gate_nothing_listens(rig: Rig):
    code = (
        "import socket\ntry: socket.create_connection(('127.0.0.1', 5000))\nexcept OSError as exc: print(exc.strerror)"
    )
    assert rig.says(code) == "Connection refused"


def test_what_training_needs_works(rig: Rig):
    code = """
import asyncio, ctypes, multiprocessing, os, socket, subprocess, sys, tempfile, threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
os.close(os.memfd_create('x'))
with ThreadPoolExecutor(4) as pool: print(sum(pool.map(abs, range(10))))
with ProcessPoolExecutor(2) as pool: print(sum(pool.map(abs, range(10))))
multiprocessing.Lock(); multiprocessing.shared_memory if False else None
print(subprocess.run(['/bin/echo', 'child'], capture_output=True, text=True).stdout.strip())
async def nothing(): await asyncio.sleep(0); return 'async'
print(asyncio.run(nothing()))
tempfile.TemporaryFile().close(); socket.socketpair()
print(len(socket.if_nameindex()), os.sched_getaffinity(0) != set())
"""
    assert rig.says(code).splitlines() == ["45", "45", "child", "async", "1 True"]


# --- limits -------------------------------------------------------------------------------------------------------------


def test_wall_time_is_enforced_on_code_that_will_not_end(rig: Rig):
    run = rig.run(IGNORE_TERM + "time.sleep(600)", limits={"wall_s": 0.5}, grace_s=0.2)
    result = run.result()
    assert (result.reason, result.signal) == (Reason.TIMEOUT, None)
    assert rig.what_is_left(run) == []


def test_code_may_tidy_up_when_its_time_is_over(rig: Rig):
    code = "import signal, sys, time; signal.signal(15, lambda *_: (print('bye'), sys.exit(3))); time.sleep(600)"
    run = rig.run(code, limits={"wall_s": 1}, grace_s=20)
    assert (run.result().reason, run.result().exit_code, run.stdout()) == (Reason.TIMEOUT, 3, "bye\n")


def test_memory_is_limited_and_the_reason_told(rig: Rig):
    run = rig.run("x = bytearray(64 << 20); y = [bytearray(b'1' * (8 << 20)) for _ in range(100)]")
    result = run.result()
    if rig.kind == "bubblewrap-as-user":  # no cgroup is granted: address space, so the code itself is told
        assert (result.reason, result.exit_code) == (Reason.EXITED, 1)
        assert "MemoryError" in run.stderr()
    else:
        assert (result.reason, result.signal) == (Reason.MEMORY, 9)


def test_a_job_that_runs_out_of_memory_leaves_nothing_outside_its_own_folders(rig: Rig):
    places = [Path.cwd(), Path("/")]
    before = [{path.name: path.lstat().st_ctime_ns for path in place.glob("oom*")} for place in places]
    rig.run("x = [bytearray(b'1' * (8 << 20)) for _ in range(100)]").result()
    assert [{path.name: path.lstat().st_ctime_ns for path in place.glob("oom*")} for place in places] == before


def test_memory_of_a_child_counts_and_is_told(rig: Rig):
    child = "x = [bytearray(b'1' * (8 << 20)) for _ in range(100)]"
    run = rig.run(
        f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {child!r}]).returncode != 0)"
    )
    expected = Reason.EXITED if rig.kind == "bubblewrap-as-user" else Reason.MEMORY
    assert (run.result().reason, run.result().exit_code) == (expected, 1)


def test_a_fork_bomb_is_bounded(rig: Rig):
    code = """
import os, time
children = 0
try:
    while children < 500:
        if os.fork() == 0: time.sleep(600)
        children += 1
except OSError as exc: print(exc.strerror, children)
"""
    run = rig.run(code, limits={"processes": 20})
    words = run.stdout().split()
    assert words[:-1] == ["Resource", "temporarily", "unavailable"], run.stderr()
    assert 5 < int(words[-1]) <= 20
    assert rig.what_is_left(run) == []


def test_the_size_of_a_file_and_open_files_are_limited(rig: Rig):
    code = """
import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try: open('/job/outputs/big', 'wb').write(b'x' * (3 << 20))
except OSError as exc: print(exc.strerror)
held = []
try:
    while True: held.append(os.open('/dev/null', 0))
except OSError as exc: print(exc.strerror, len(held) < 100)
"""
    said = rig.says(code, limits={"file_bytes": 1 << 20, "open_files": 100})
    assert said.splitlines() == ["File too large", "Too many open files True"]


# --- stopping, and what is left -----------------------------------------------------------------------------------------


def test_stop_ends_code_whose_child_ignores_it(rig: Rig):
    child = IGNORE_TERM + "print('child', flush=True); time.sleep(600)"
    code = f"import os, subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}], start_new_session=True)"
    run = rig.start(code)
    run.until_it_says("child")
    run.handle.stop()
    assert run.result().reason is Reason.STOPPED
    assert rig.what_is_left(run) == []


def test_what_outlives_the_code_ends_with_it(rig: Rig):
    child = IGNORE_TERM + "time.sleep(600)"
    run = rig.run(
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True)"
    )
    assert run.result().exit_code == 0
    assert rig.what_is_left(run) == []


def test_a_stop_that_comes_twice_or_late_changes_nothing(rig: Rig):
    run = rig.start("import time; print('up', flush=True); time.sleep(600)")
    run.until_it_says("up")
    run.handle.stop()
    run.handle.stop()
    assert run.result().reason is Reason.STOPPED
    run.handle.stop()
    assert run.result().reason is Reason.STOPPED


def test_running_sandboxes_can_be_named_and_destroyed_by_name_alone(rig: Rig):
    run = rig.start("import time; print('up', flush=True); time.sleep(600)")
    run.until_it_says("up")
    assert run.name in rig.sandbox.running()
    rig.sandbox.destroy(run.name)
    assert run.name not in rig.sandbox.running()
    assert run.result().reason in (Reason.LOST, Reason.EXITED)  # killed by somebody else: no guess is made
    rig.sandbox.destroy(run.name)
    assert rig.what_is_left(run) == []


def test_destroying_what_never_was_is_no_error(rig: Rig):
    rig.sandbox.destroy("never-was")


# --- keepers and restarted agents ---------------------------------------------------------------------------------------


def test_a_sandbox_survives_its_agent_and_is_adopted(rig: Rig):
    spec = rig.spec("import time; print('up', flush=True); time.sleep(1.5); print('done')")
    request = rig.request(spec)
    agent_code = (
        "import sys, json, time\n"
        "from insitu.sandbox.keeper import KeeperRequest\n"
        "from insitu.sandbox.keeper_pool import KeeperPool\n"
        "request = KeeperRequest.from_json(sys.stdin.readline())\n"
        f"KeeperPool(0, {rig.python!r}, request.settings).start(request)\n"
        "time.sleep(600)\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", agent_code], stdin=subprocess.PIPE, text=True)
    assert agent.stdin is not None
    agent.stdin.write(request.to_json() + "\n")
    agent.stdin.close()
    stdout = request.state_dir / "stdout"
    until(lambda: stdout.exists() and "up" in stdout.read_text(), "the sandbox to start")
    agent.kill()
    agent.wait()

    adopted = rig.pool.adopt(request.state_dir)
    assert isinstance(adopted, KeeperHandle)
    result = adopted.wait(END_LIMIT_S)
    assert result is not None
    assert (result.reason, result.exit_code, stdout.read_text()) == (Reason.EXITED, 0, "up\ndone\n")
    again = rig.pool.adopt(request.state_dir)
    assert isinstance(again, SandboxResult | KeeperHandle)
    assert (again if isinstance(again, SandboxResult) else again.wait(END_LIMIT_S)) == result


def test_what_no_keeper_took_on_can_be_started(rig: Rig):
    assert rig.pool.adopt(rig.folder / "no-such-state") is None


def test_a_killed_keeper_takes_its_sandbox_with_it_and_it_is_lost(rig: Rig):
    run = rig.start("import time; print('up', flush=True); time.sleep(600)")
    run.until_it_says("up")
    os.kill(run.handle.pid, signal.SIGKILL)
    assert run.result().reason is Reason.LOST
    until(lambda: rig.what_is_left(run) == [], "everything to be gone")
    adopted = rig.pool.adopt(run.state_dir)
    assert isinstance(adopted, SandboxResult)
    assert adopted.reason is Reason.LOST


def test_one_state_folder_is_started_once(rig: Rig):
    spec = rig.spec("print(1)")
    request = rig.request(spec)
    assert rig.pool.start(request).wait(END_LIMIT_S) is not None
    with pytest.raises(ConflictError):
        rig.pool.start(request)


def test_a_closed_pool_leaves_no_keeper_behind(rig: Rig):
    pool = KeeperPool(2, rig.python, rig.settings, rig.sandbox.name)
    pids = [child.pid for child in pool._waiting]
    pool.close()
    assert pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_many_run_at_a_time(rig: Rig):
    runs = [rig.start(f"print({number})") for number in range(4)]
    assert [(run.result().exit_code, run.stdout()) for run in runs] == [(0, f"{number}\n") for number in range(4)]
    assert not any(rig.what_is_left(run) for run in runs)


# --- choosing -----------------------------------------------------------------------------------------------------------


def test_every_implementation_says_what_limits_what(rig: Rig):
    enforced = rig.sandbox.probe().enforced or {}
    assert set(enforced) == {"memory", "cpus", "processes", "open_files", "file_bytes", "scratch_bytes", "wall_s"}


def test_an_unknown_sandbox_is_refused_with_the_known_ones(tmp_path: Path):
    with pytest.raises(InvalidInputError) as refused:
        choose("chroot", SandboxSettings(tmp_path))
    assert all(name in refused.value.hint for name in SANDBOXES)


def test_nothing_to_choose_says_why_and_what_to_install(tmp_path: Path):
    settings = SandboxSettings(tmp_path, bwrap="no-bwrap", podman="no-podman", docker_socket=tmp_path / "no.sock")
    with pytest.raises(UnavailableError) as refused:
        choose(None, settings)
    assert "apt install" in refused.value.hint
    assert all(name in refused.value.why for name in SANDBOXES)


def test_without_an_engine_bubblewrap_is_chosen(tmp_path: Path):
    settings = SandboxSettings(tmp_path, podman="no-podman", docker_socket=tmp_path / "no.sock")
    assert choose(None, settings).name == "bubblewrap"
    assert open_sandbox("docker", settings).probe().available is False


class _Intake:
    """The unix socket to which a keeper brings descriptors."""

    def __init__(self, path: Path, listener: socket.socket) -> None:
        self.path, self._listener = path, listener

    def hears(self, word: bytes) -> list[int]:
        """The descriptors that come with the next message, which is `word`."""
        keeper, _ = self._listener.accept()
        with keeper:
            message, descriptors, _, _ = socket.recv_fds(keeper, 100, 4)
        assert message == word
        return descriptors


@contextlib.contextmanager
def _an_intake(rig: Rig) -> Iterator[_Intake]:
    path = rig.folder / f"intake-{rig.count}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        listener.settimeout(END_LIMIT_S)
        yield _Intake(path, listener)
    path.unlink()


def _echo_backwards(gate: socket.socket, times: int) -> None:
    """Answers `ab…` with `ba…` as it comes, so that both directions are busy at once."""
    for _ in range(times):
        connection, _ = gate.accept()
        rest = b""
        with connection:
            while part := connection.recv(1 << 16):
                rest += part
                pairs, rest = rest[: len(rest) & ~1], rest[len(rest) & ~1 :]
                connection.sendall(pairs.translate(bytes.maketrans(b"ab", b"ba")))
