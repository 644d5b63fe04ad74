"""The defences of each sandbox, one by one: name → how to start it without that one, and with all others.

For bubblewrap most are an argument or a call of ours, for Podman an argument, for Docker a field of the request. What is
replaced is the function of the product that states it, so a defence that is stated elsewhere by then is an error here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from insitu.sandbox import bubblewrap, cgroups, docker, engines, joiner, kernel, plan, podman
from tests.sandbox_rig import Rig

Change = Callable[[pytest.MonkeyPatch, Rig], None]
Words = list[str]


def _replace(owner: Any, name: str, made: Any) -> Change:
    return lambda monkeypatch, _: monkeypatch.setattr(owner, name, made)


def _without(words: Words, *sought: str) -> Words:
    found = [at for at in range(len(words)) if tuple(words[at : at + len(sought)]) == sought]
    assert found, f"{sought} is not among the arguments: is the defence another one by now?"
    return [word for at, word in enumerate(words) if not any(first <= at < first + len(sought) for first in found)]


def _without_pair(words: Words, option: str) -> Words:
    """An option and its value."""
    return _without(words, option, words[words.index(option) + 1])


def _arguments(owner: type, change: Callable[[Words, Rig], Words]) -> Change:
    """Other arguments for bubblewrap or Podman."""

    def apply(monkeypatch: pytest.MonkeyPatch, rig: Rig) -> None:
        honest: Any = owner._arguments
        monkeypatch.setattr(owner, "_arguments", lambda *given, **named: change(honest(*given, **named), rig))

    return apply


def _bwrap(change: Callable[[Words, Rig], Words]) -> Change:
    return _arguments(bubblewrap.BubblewrapSandbox, change)


def _podman(change: Callable[[Words, Rig], Words]) -> Change:
    return _arguments(podman.PodmanSandbox, change)


def _settings_without(controller: str) -> Change:
    honest = cgroups._settings

    def others(version: int, name: str, limits: Any) -> list[tuple[str, str]]:
        return [] if name == controller else honest(version, name, limits)

    return _replace(cgroups, "_settings", others)


def _stay_root(_uid: int, _gid: int, program: bytes) -> None:
    kernel.set_no_new_privileges()
    kernel.load_filter(program)


def _allow_new_privileges(uid: int, gid: int, program: bytes) -> None:
    kernel.load_filter(program)  # first: without no_new_privs it needs a capability
    kernel.clear_bounding_set()
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    kernel.drop_capabilities()
    kernel.die_with_parent()


def _keep_descriptors(_channel: int) -> None:
    nothing = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)


def _attach_writable(monkeypatch: pytest.MonkeyPatch, _rig: Rig) -> None:
    honest = kernel.attach_tree
    monkeypatch.setattr(kernel, "attach_tree", lambda tree, target, **_: honest(tree, target, read_only=False))


def _agents_environment(owner: Any) -> Change:
    honest = plan.make_plan

    def leaky(*given: Any) -> dict[str, Any]:
        made = honest(*given)
        return {**made, "env": {**os.environ, **made["env"]}}

    return _replace(owner, "make_plan", leaky)


def shared_scratch(rig: Rig) -> Path:
    """A folder of the site that stands in for a /tmp of the sandbox's own."""
    folder = rig.folder / "scratch"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    return folder


BUBBLEWRAP: dict[str, Change] = {
    "own network": _bwrap(lambda words, _: _without(words, "--unshare-net")),
    "own processes": _bwrap(lambda words, _: _without(words, "--unshare-pid")),
    "own shared memory": _bwrap(lambda words, _: _without(words, "--unshare-ipc")),
    "own host name": _bwrap(lambda words, _: _without(_without(words, "--unshare-uts"), "--hostname", "sandbox")),
    "only declared mounts": _bwrap(lambda words, rig: [*words, "--ro-bind", str(rig.folder), str(rig.folder)]),
    "own scratch": _bwrap(
        lambda words, rig: [
            *words,
            *(word for at in ("/tmp", "/dev/shm") for word in ("--bind", str(shared_scratch(rig)), at)),
        ]
    ),
    "bounded scratch": _bwrap(lambda words, _: _without_pair(words, "--size")),
    "few devices": _bwrap(lambda words, _: [*words, "--dev-bind", "/dev", "/dev"]),
    "hidden tables": _replace(bubblewrap, "_HIDDEN_FILES", ()),
    "filter": _replace(kernel, "load_filter", lambda *_: None),
    "not root": _replace(joiner, "_give_up_privileges", _stay_root),
    "no new privileges": _replace(joiner, "_give_up_privileges", _allow_new_privileges),
    "mounts without set-uid": _replace(kernel, "_MOUNT_ATTR_NOSUID", 0),
    "mounts without devices": _replace(kernel, "_MOUNT_ATTR_NODEV", 0),
    "read-only data": _attach_writable,
    "memory limit": _settings_without("memory"),
    "process limit": _settings_without("pids"),
    "limits of a process": _replace(plan, "_rlimits", lambda *_: []),
    "environment of its own": _agents_environment(bubblewrap),
    "no descriptors": _replace(joiner, "_keep_only", _keep_descriptors),
}

# Not all: a machine that is a container itself has not all to give.
_CAPABILITIES = ("DAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "SYS_TIME", "SYSLOG")
_PODMAN_ROOT = ("--user", "0:0", *(f"--cap-add={name}" for name in _CAPABILITIES))
PODMAN: dict[str, Change] = {
    "own network": _podman(
        lambda words, _: [
            "--network=host",
            *_without(_without(_without(words, "--network=none"), "--hostname=sandbox"), "--uts=private"),
        ]
    ),
    "own processes": _podman(lambda words, _: ["--pid=host", *_without(words, "--pid=private")]),
    "own shared memory": _podman(
        lambda words, _: ["--ipc=host", *_without(_without_pair(words, "--shm-size"), "--ipc=private")]
    ),
    "own host name": _podman(
        lambda words, _: ["--uts=host", *_without(_without(words, "--hostname=sandbox"), "--uts=private")]
    ),
    "only declared mounts": _podman(
        lambda words, rig: ["--mount", f"type=bind,src={rig.folder},dst={rig.folder},ro=true", *words]
    ),
    "few devices": _podman(lambda words, _: ["--device", "/dev/kmsg", *words]),
    "hidden tables": _podman(lambda words, _: [re.sub("^mask=.*", "unmask=ALL", word) for word in words]),
    "filter": _podman(lambda words, _: [re.sub("^seccomp=.*", "seccomp=unconfined", word) for word in words]),
    "not root": _podman(lambda words, _: [*_PODMAN_ROOT, *_without(_without_pair(words, "--user"), "--cap-drop=all")]),
    "no new privileges": _podman(lambda words, _: _without(words, "--security-opt=no-new-privileges")),
    "no device rule": _podman(lambda words, _: ["--device-cgroup-rule", "c 1:11 rwm", *words]),
    "read-only data": _podman(
        lambda words, _: [
            word.replace("dst=/job/inputs/data,ro=true", "dst=/job/inputs/data,ro=false") for word in words
        ]
    ),
    "memory limit": _podman(lambda words, _: _without_pair(_without_pair(words, "--memory"), "--memory-swap")),
    "process limit": _podman(lambda words, _: ["--pids-limit", "-1", *_without_pair(words, "--pids-limit")]),
    "limits of a process": _replace(plan, "_rlimits", lambda *_: []),
    "environment of its own": _agents_environment(engines),
    "no proxies of the engine's": _podman(
        lambda words, _: ["--http-proxy=true", *_without(words, "--http-proxy=false")]
    ),
    "no door left": _replace(engines.Room, "close", lambda room: room._listener.close()),
}


def _docker(**fields: Any) -> Change:
    """Other fields of the request, in the container's part or the host's."""

    def apply(monkeypatch: pytest.MonkeyPatch, rig: Rig) -> None:
        honest = docker._request

        def altered(*given: Any) -> dict[str, Any]:
            body = honest(*given)
            for name, value in fields.items():
                part = body if name in body else body["HostConfig"]
                part[name] = value(part.get(name), rig) if callable(value) else value
            return body

        monkeypatch.setattr(docker, "_request", altered)

    return apply


def _with_folder(mounts: list[dict[str, Any]], rig: Rig) -> list[dict[str, Any]]:
    return [*mounts, {"Type": "bind", "Source": str(rig.folder), "Target": str(rig.folder), "ReadOnly": True}]


def _data_writable(mounts: list[dict[str, Any]], _rig: Rig) -> list[dict[str, Any]]:
    return [{**mount, "ReadOnly": mount["ReadOnly"] and mount["Target"] != "/job/inputs/data"} for mount in mounts]


DOCKER: dict[str, Change] = {
    "own network": _docker(NetworkMode="host", NetworkDisabled=False, Hostname=""),
    "own processes": _docker(PidMode="host"),
    "own shared memory": _docker(IpcMode="host"),
    "own host name": _docker(UTSMode="host", Hostname=""),
    "only declared mounts": _docker(Mounts=_with_folder),
    "few devices": _docker(
        Devices=[{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/kmsg", "CgroupPermissions": "r"}]
    ),
    "hidden tables": _docker(MaskedPaths=[], ReadonlyPaths=[]),
    "filter": _docker(SecurityOpt=["no-new-privileges", "seccomp=unconfined"]),
    "not root": _docker(User="0:0", CapDrop=[], CapAdd=list(_CAPABILITIES)),
    "no new privileges": _docker(SecurityOpt=lambda options, _: [one for one in options if one != "no-new-privileges"]),
    "no device rule": _docker(DeviceCgroupRules=["c 1:11 rwm"]),
    "read-only data": _docker(Mounts=_data_writable),
    "memory limit": _docker(Memory=0, MemorySwap=0),
    "process limit": _docker(PidsLimit=-1),
    "limits of a process": _replace(plan, "_rlimits", lambda *_: []),
    "environment of its own": _agents_environment(engines),
    "no door left": _replace(engines.Room, "close", lambda room: room._listener.close()),
}
DEFENCES = {"bubblewrap": BUBBLEWRAP, "podman": PODMAN, "docker": DOCKER}
