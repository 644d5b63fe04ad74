"""Each guard is removed once, and the sandbox refuses to start: so the self-test looks, and not only passes.

Where an engine is asked by a program, a script in front of it drops the guard; where by a request, the request is altered;
where we do it ourselves, that function.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from insitu.sandbox import docker, joiner
from insitu.sandbox.contract import Likely, open_sandbox
from insitu.sandbox.spec import Reason
from tests.sandbox_rig import LIMITS, Rig, bubblewrap_rig, docker_socket, open_rig

FIXTURES = (docker_socket, bubblewrap_rig)

# What the script in front of bubblewrap or Podman does to the arguments, and what the self-test must then say.
BUBBLEWRAP = {
    "network": ("drop('--unshare-net')", "network interface"),
    "own-processes": ("drop('--unshare-pid')", "mounts writable"),
    "read-only-data": ("swap('--ro-bind', '--bind', before='/job/inputs/data')", "mounts writable"),
    "read-only-base": ("swap('--ro-bind', '--bind', before='/usr')", "mounts writable"),
    "read-only-root": ("drop('--remount-ro', '/')", "mounts writable"),
    "no-host-paths": ("insert('--ro-bind', '/etc', '/srv')", "mounts undeclared"),
}
# In a place that is made ahead these two are not bubblewrap's: see `ATTACHED`.
_NOT_AHEAD = {"read-only-data", "read-only-root"}
PODMAN = {
    "network": (
        "swap('--network=none', '--network=host'); drop('--hostname=sandbox'); drop('--uts=private')",
        "network",
    ),
    "capabilities": ("drop('--cap-drop=all')", "capabilities CapBnd"),
    "no-new-privileges": ("drop('--security-opt=no-new-privileges')", "no-new-privs"),
    "read-only-root": ("drop('--read-only')", "mounts writable"),
    "not-root": ("swap_after('--user', '0:0')", "uid root"),
    "read-only-data": ("edit('dst=/job/inputs/data,ro=true', 'dst=/job/inputs/data,ro=false')", "mounts writable"),
    "no-host-paths": (
        "insert('--mount', 'type=bind,src=/etc,dst=/srv,ro=true', before='--rootfs')",
        "mounts undeclared",
    ),
}
SCRIPT = """\
#!{python} -IS
import os, sys
words = sys.argv[1:]
def at(*sought, before=None):
    spots = [i for i in range(len(words)) if words[i : i + len(sought)] == list(sought)]
    return [i for i in spots if before is None or before in words[i : i + 3]]
def drop(*sought):
    for i in reversed(at(*sought)): del words[i : i + len(sought)]
def swap(old, new, before=None):
    for i in at(old, before=before): words[i] = new
def swap_after(option, new):
    for i in at(option): words[i + 1] = new
def edit(old, new): words[:] = [word.replace(old, new) for word in words]
def insert(*new, before='--'):
    if before in words: words[words.index(before) : words.index(before)] = new
{change}
os.execvp({program!r}, [{program!r}, *words])
"""


@contextmanager
def script(program: str, change: str) -> Iterator[Path]:
    path = Path("/tmp") / f"insitu-{program}-{os.getpid()}"
    path.write_text(SCRIPT.format(python=sys.executable, program=program, change=change))
    path.chmod(0o755)
    try:
        yield path
    finally:
        path.unlink()


@pytest.mark.parametrize("guard", BUBBLEWRAP)
def test_bubblewrap_without_a_guard_starts_nothing(guard: str, base_rootfs: Path):
    change, word = BUBBLEWRAP[guard]
    with (
        script("bwrap", change) as program,
        open_rig("bubblewrap", base_rootfs, bwrap=str(program), ahead=False) as rig,
    ):
        _refused(rig, word)


@pytest.mark.parametrize("guard", sorted(BUBBLEWRAP.keys() - _NOT_AHEAD))
def test_a_place_made_ahead_without_a_guard_starts_nothing(guard: str, base_rootfs: Path):
    change, word = BUBBLEWRAP[guard]
    with script("bwrap", change) as program, open_rig("bubblewrap", base_rootfs, bwrap=str(program)) as rig:
        _refused(rig, word)


@pytest.mark.parametrize("guard", PODMAN)
def test_podman_without_a_guard_starts_nothing(guard: str, base_rootfs: Path):
    change, word = PODMAN[guard]
    with script("podman", change) as program, open_rig("podman", base_rootfs, podman=str(program)) as rig:
        _refused(rig, word)


def _set(**fields: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        for name, value in fields.items():
            (body if name in body else body["HostConfig"])[name] = value

    return change


def _open_data(body: dict[str, Any]) -> None:
    for mount in body["HostConfig"]["Mounts"]:
        mount["ReadOnly"] = False


DOCKER: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "network": (_set(NetworkMode="host", NetworkDisabled=False, Hostname=""), "network interface"),
    "capabilities": (_set(CapDrop=[]), "capabilities CapBnd"),
    "filter": (_set(SecurityOpt=["no-new-privileges", "seccomp=unconfined"]), "seccomp"),
    "no-new-privileges": (_set(SecurityOpt=["seccomp=unconfined"]), "no-new-privs"),
    "read-only-root": (_set(ReadonlyRootfs=False), "mounts writable"),
    "read-only-data": (_open_data, "mounts writable"),
    "not-root": (_set(User="0:0"), "uid root"),
}


@pytest.mark.parametrize("guard", DOCKER)
def test_docker_without_a_guard_starts_nothing(guard: str, base_rootfs: Path, docker_socket: Path, monkeypatch):
    change, word = DOCKER[guard]
    honest = docker._request

    def altered(*arguments: Any) -> dict[str, Any]:
        body = honest(*arguments)
        change(body)
        return body

    monkeypatch.setattr(docker, "_request", altered)
    with open_rig("docker", base_rootfs, docker_socket) as rig:
        assert _first_words(rig).startswith(f"refused {word}")


def _without(*functions: str) -> Callable[[pytest.MonkeyPatch], None]:
    def remove(monkeypatch: pytest.MonkeyPatch) -> None:
        for function in functions:
            monkeypatch.setattr(joiner.kernel, function, lambda *_: None)

    return remove


@pytest.mark.parametrize(
    ("remove", "word"),
    [
        (_without("clear_bounding_set"), "capabilities CapBnd"),
        (_without("load_filter"), "seccomp"),
        (_without("set_no_new_privileges", "load_filter"), "no-new-privs"),
    ],
)
def test_a_joiner_that_keeps_a_privilege_starts_nothing(remove, word: str, bubblewrap_rig: Rig, monkeypatch):
    remove(monkeypatch)
    assert _first_words(bubblewrap_rig).startswith(f"refused {word}")


def test_with_all_guards_the_same_way_in_starts(bubblewrap_rig: Rig):
    assert _first_words(bubblewrap_rig) == "starting"


def _attach_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = joiner.kernel.attach_tree
    monkeypatch.setattr(joiner.kernel, "attach_tree", lambda tree, target, **_: honest(tree, target, read_only=False))


ATTACHED = {
    "read-only-data": (_attach_writable, "refused mounts writable"),
    "read-only-root": (_without("make_read_only"), "refused mounts writable"),
    "nothing": (lambda _: None, "starting"),
}


@pytest.mark.parametrize("guard", ATTACHED)
def test_a_joiner_that_attaches_mounts_otherwise_starts_nothing(guard: str, bubblewrap_rig: Rig, monkeypatch):
    remove, words = ATTACHED[guard]
    remove(monkeypatch)
    likely = Likely(bubblewrap_rig.rootfs, LIMITS.scratch_bytes)
    assert _first_words(bubblewrap_rig, likely) == words


def test_a_place_that_is_promised_read_only_and_is_not_there_is_refused(bubblewrap_rig: Rig):
    result = bubblewrap_rig.run("print(1)", selftest=("/job/outputs",)).result()
    assert (result.reason, result.detail) == (Reason.SELFTEST, "read-only written")
    assert not any((bubblewrap_rig.folder / "outputs").glob("*"))


def _refused(rig: Rig, word: str) -> None:
    run = rig.run("open('/job/outputs/ran', 'w')")
    result = run.result()
    assert result.reason is Reason.SELFTEST, (result, run.stderr())
    assert result.detail.startswith(word)
    assert result.started_at is None
    assert not (run.outputs / "ran").exists()
    assert rig.what_is_left(run) == []


def _first_words(rig: Rig, likely: Likely | None = None) -> str:
    """What init says first when this process stands in for the keeper."""
    spec = rig.spec("print(1)")
    room = rig.folder / spec.name / "room"
    room.mkdir()
    sink = os.open("/dev/null", os.O_WRONLY)
    sandbox = open_sandbox(rig.kind, rig.settings)
    if likely is not None:
        sandbox.prepare(likely)
    try:
        started = sandbox.start(spec, room, lambda: (sink, sink))
        try:
            return started.channel.recv(200).decode().splitlines()[0]
        finally:
            started.kill()
            sandbox.destroy(spec.name)
    finally:
        os.close(sink)
