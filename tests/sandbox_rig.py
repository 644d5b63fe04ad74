"""Real sandboxes for tests: each implementation as an agent would use it, and a Docker daemon of our own.

    rig                one implementation after the other -> Rig
    bubblewrap_rig     bubblewrap as root alone, for what is its own
    docker_socket      a daemon with folders and socket of its own -> the socket's path

A `Rig` starts code in a sandbox and says what became of it. `bubblewrap-as-user` is bubblewrap without root: its keepers
run as an ordinary user, with user namespaces. dockerd runs as root in a private data-root, exec-root and socket, without
bridge and iptables, so it changes nothing on this machine; every sandbox has network `none` anyway.
"""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from insitu.sandbox.contract import Capabilities, Likely, Sandbox, SandboxSettings, open_sandbox
from insitu.sandbox.keeper import KeeperRequest
from insitu.sandbox.keeper_pool import KeeperHandle, KeeperPool
from insitu.sandbox.spec import Limits, Mount, SandboxResult, SandboxSpec
from tests.services import program, service, wait_until

# Nobody's, and not those of other tests that run on this machine at the same time: what is left of a job is looked for by uid.
JOB_UID = 10_000_000 + 3 * os.getpid()
USER_UID = JOB_UID + 1
LIMITS = Limits(memory_bytes=256 << 20, cpus=1.0, processes=64, wall_s=60, scratch_bytes=16 << 20)
END_LIMIT_S = 60

# Becomes another user and runs the rest, seeing the interpreter even where it lies in root's home.
_AS_USER = """
import os, sys
from pathlib import Path
from insitu.sandbox import confine
uid, rootfs, *argv = sys.argv[1:]
confine._open_the_way(confine._needed(), [Path(rootfs)])
os.setgroups([]); os.setresgid(*[int(uid)] * 3); os.setresuid(*[int(uid)] * 3)
os.execv(argv[0], argv)
"""


@dataclass
class Run:
    """One sandbox that was started."""

    name: str
    handle: KeeperHandle
    state_dir: Path
    outputs: Path

    def result(self, timeout_s: float = END_LIMIT_S) -> SandboxResult:
        found = self.handle.wait(timeout_s)
        if found is None:
            pytest.fail(f"{self.name} did not end in {timeout_s} s; it said: {self.stdout()}{self.stderr()}")
        return found

    def stdout(self) -> str:
        return self._read("stdout")

    def stderr(self) -> str:
        return self._read("stderr") + self._read("keeper.log")

    def until_it_says(self, word: str) -> None:
        until(lambda: word in self.stdout() or self.handle.wait(0) is not None, f"{self.name} to say {word}")
        assert word in self.stdout(), self.stderr()

    def _read(self, name: str) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.state_dir / name).read_text()
        return ""


@dataclass
class Rig:
    kind: str
    sandbox: Sandbox
    settings: SandboxSettings
    rootfs: Path
    folder: Path
    uid: int
    python: list[str]
    pool: KeeperPool
    runs: list[Run] = field(default_factory=list)
    count: int = 0

    def spec(self, code: str, **changes: Any) -> SandboxSpec:
        """A spec for a few lines of Python, with one read-only input `data` and `/job/outputs`."""
        self.count += 1
        name = f"t{os.getpid()}-{self.count}-{self.kind}"
        (self.folder / name).mkdir()
        data, outputs = self.folder / name / "data", self.folder / name / "outputs"
        for each in (data, outputs):
            each.mkdir()
        (data / "table.csv").write_text("a,b\n1,2\n")
        for each in (self.folder / name, data, outputs):
            os.chown(each, self.owner, self.owner)
        mounts = (Mount(data, "/job/inputs/data"), Mount(outputs, "/job/outputs", writable=True))
        base = SandboxSpec(
            name=name,
            rootfs=self.rootfs,
            argv=("/usr/bin/python3", "-c", code),
            env={"PATH": "/usr/bin:/bin", "HOME": "/tmp"},
            workdir="/job/outputs",
            mounts=mounts,
            limits=LIMITS,
            uid=self.uid,
            gid=self.uid,
            grace_s=1,
        )
        changes["mounts"] = changes.get("mounts", mounts) + changes.pop("more_mounts", ())
        changes["limits"] = replace(LIMITS, **changes.get("limits", {}))
        return replace(base, **changes)

    @property
    def owner(self) -> int:
        """Who owns folders at the site."""
        return USER_UID if self.kind == "bubblewrap-as-user" else 0

    def request(self, spec: SandboxSpec, streams: Path | None = None) -> KeeperRequest:
        return KeeperRequest(spec, self.sandbox.name, self.folder / spec.name / "state", self.settings, streams)

    def start(self, code: str, streams: Path | None = None, **changes: Any) -> Run:
        spec = self.spec(code, **changes)
        request = self.request(spec, streams)
        run = Run(spec.name, self.pool.start(request), request.state_dir, self.folder / spec.name / "outputs")
        self.runs.append(run)
        return run

    def run(self, code: str, **changes: Any) -> Run:
        """Start it and wait until it ended."""
        run = self.start(code, **changes)
        run.result()
        return run

    def says(self, code: str, **changes: Any) -> str:
        """What the code prints, which must end well."""
        run = self.run(code, **changes)
        result = run.result()
        assert (result.reason, result.exit_code) == ("exited", 0), (result, run.stdout(), run.stderr())
        return run.stdout().strip()

    def what_is_left(self, run: Run) -> list[str]:
        """Everything on this machine that still belongs to it."""
        left = [f"sandbox {name}" for name in self.sandbox.running() if name == run.name]
        left += [f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines() if run.name in line]
        left += [f"group {path}" for path in Path("/sys/fs/cgroup").glob(f"*/**/name.{run.name}")]
        waiting = {child.pid for child in self.pool._waiting}
        return left + [f"process {pid}" for pid, parent in processes_of(self.uid) if not {pid, parent} & waiting]

    def close(self) -> None:
        self.pool.close()
        for run in self.runs:
            run.handle.stop()
        for run in self.runs:
            run.handle.wait(END_LIMIT_S)
            self.sandbox.destroy(run.name)


class AsUser:
    """The same sandbox, asked by the user whose it is: root does not look after other people's."""

    def __init__(self, sandbox: Sandbox, settings: SandboxSettings, python: list[str]) -> None:
        self.name = sandbox.name
        self._settings = settings
        self._python = python

    def __getattr__(self, question: str) -> Callable[..., Any]:
        def ask(*arguments: str) -> Any:
            code = (
                "import json, sys\n"
                "from insitu.sandbox.contract import Capabilities, SandboxSettings, open_sandbox\n"
                f"sandbox = open_sandbox({self.name!r}, SandboxSettings.from_dict({self._settings.as_dict()!r}))\n"
                f"print(repr(sandbox.{question}(*{arguments!r})))\n"
            )
            done = subprocess.run([*self._python, "-c", code], capture_output=True, text=True, check=True)
            return eval(done.stdout, {"Capabilities": Capabilities})

        return ask


def processes_of(uid: int) -> list[tuple[int, int]]:
    """(pid, parent) of this machine's processes of that uid, zombies left out; keepers of an ordinary user too."""
    found: list[tuple[int, int]] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                status = (entry / "status").read_text()
                if f"\nUid:\t{uid}\t" in status and "\nState:\tZ" not in status:
                    found.append((int(entry.name), int(status.partition("\nPPid:")[2].split()[0])))
    return found


def until(holds: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_s} s for {what}")
        time.sleep(0.01)


@pytest.fixture(scope="session")
def docker_socket() -> Iterator[Path]:
    """A Docker daemon of our own, ended with everything it made."""
    dockerd = program("dockerd", "docker.io")
    folder = Path(tempfile.mkdtemp(prefix="insitu-docker-"))
    path = folder / "docker.sock"
    command = [dockerd, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
    command += [
        "--host",
        f"unix://{path}",
        "--bridge=none",
        "--iptables=false",
        "--ip-masq=false",
        "--ip-forward=false",
    ]
    command += [
        "--containerd-namespace",
        f"t{os.getpid()}",
        "--containerd-plugins-namespace",
        f"t{os.getpid()}-plugins",
    ]

    def answers() -> bool | None:
        with contextlib.suppress(OSError, http.client.HTTPException), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in client.recv(100) or None
        return None

    with service(command, folder / "log", stop=signal.SIGTERM) as running:
        wait_until(answers, running, "dockerd")
        yield path
    # dockerd leaves the name of the empty network namespace mounted.
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split()[4].startswith(f"{folder}/"):
            subprocess.run(["umount", line.split()[4]], check=True)
    shutil.rmtree(folder)


@contextlib.contextmanager
def open_rig(
    kind: str,
    rootfs: Path,
    docker: Path | None = None,
    *,
    podman: str = "podman",
    bwrap: str = "bwrap",
    ahead: bool = True,
) -> Iterator[Rig]:
    """A rig in a folder of its own; everything it started is gone when the block ends.

    Its keepers make ahead what they can, as an agent's do, unless told otherwise.
    """
    folder = Path(tempfile.mkdtemp(prefix="insitu-sandbox-"))
    folder.chmod(0o711)
    owner = USER_UID if kind == "bubblewrap-as-user" else 0
    os.chown(folder, owner, owner)
    settings = SandboxSettings(
        state_dir=folder / "engines", bwrap=bwrap, podman=podman, docker_socket=docker or folder / "no.sock"
    )
    as_user = [sys.executable, "-c", _AS_USER, str(USER_UID), str(rootfs)] if owner else []
    python = [*as_user, sys.executable]
    sandbox: Any = open_sandbox(kind.removesuffix("-as-user"), settings)
    if owner:
        sandbox = AsUser(sandbox, settings, python)
    found = sandbox.probe()
    assert found.available, f"{kind}: {found.why_not}. hint: `make test` installs it; {found.hint}"
    likely = Likely(rootfs, LIMITS.scratch_bytes) if ahead else None
    pool = KeeperPool(1, python, settings, sandbox.name, likely)
    rig = Rig(kind, sandbox, settings, rootfs, folder, USER_UID if owner else JOB_UID, python, pool)
    try:
        yield rig
    finally:
        rig.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", params=["bubblewrap", "bubblewrap-as-user", "podman", "docker"])
def rig(request: pytest.FixtureRequest, base_rootfs: Path) -> Iterator[Rig]:
    docker = request.getfixturevalue("docker_socket") if request.param == "docker" else None
    with open_rig(request.param, base_rootfs, docker) as made:
        yield made


@pytest.fixture(scope="module")
def bubblewrap_rig(base_rootfs: Path) -> Iterator[Rig]:
    with open_rig("bubblewrap", base_rootfs) as made:
        yield made
