"""Each attack succeeds where its defence alone is missing: so the tests that it fails are about that defence.

The probes are those of the other files here, the sandboxes the product's own with one defence taken away (see
`defences.py`). Where two defences stop an attack, each by itself, both are named, and both are missing here.

What this table can not show, and why:

- `kill(-1)` without a process namespace would end every other job's processes on the machine that runs the tests; that
  signals do arrive there is shown with a process of the test's own.
- Writing to the base where it is not read-only would change what all tests share; it is mounted as the data is, and the
  data is written to.
- That nothing raises its own limits rests on CAP_SYS_RESOURCE, which root in many test machines has not; without the
  limits themselves, the same probe tells that there are none.
- An engine's pid 1 is our own first program, of the job's uid, in the same sandbox: it may be looked into, and shows nothing
  else; so that row is bubblewrap's alone.
- Docker's daemon adds no proxies, its client does, which is not used; so there is no such row for it.
- Docker's containers start from the daemon's network, not from ours: there the network of the machine itself is reached.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.defences import DEFENCES, shared_scratch
from tests.attacks.probes import machine, neighbours, network, privileges, resources, surroundings
from tests.attacks.small_internet import HAS_IPV6, RESOLVED, small_internet
from tests.attacks.weakened import in_turn, says, started, take_away
from tests.sandbox_rig import JOB_UID, Rig, docker_socket, open_rig

FIXTURES = (docker_socket,)
# A keeper ends soon after it has started `podman run --detach`; this process outlives many of them.
pytestmark = pytest.mark.filterwarnings("ignore:subprocess [0-9]+ is still running:ResourceWarning")
ENGINES = ("podman", "docker")
ALL = ("bubblewrap", *ENGINES)


@pytest.fixture(scope="module")
def rigs(request: pytest.FixtureRequest, base_rootfs: Path) -> Iterator[Callable[[str], Rig]]:
    """One of each kind, made when it is asked for; without keepers that wait."""
    with contextlib.ExitStack() as stack:

        @cache
        def rig_of(kind: str) -> Rig:
            docker = request.getfixturevalue("docker_socket") if kind == "docker" else None
            return stack.enter_context(open_rig(kind, base_rootfs, docker, ahead=False))

        yield rig_of


@pytest.fixture(params=ALL)
def rig(request: pytest.FixtureRequest, rigs: Callable[[str], Rig]) -> Rig:
    """Without bubblewrap as a user, whose defences are the same arguments."""
    return rigs(request.param)


@dataclass(frozen=True)
class Attack:
    """One row: the probe, what is missing, and what it then says."""

    probe: str
    without: tuple[str, ...]
    says: str  # a regular expression
    on: tuple[str, ...] = ALL


ATTACKS = {
    "other families": Attack(network.OPENS_OTHER_FAMILIES, ("filter",), r"(netfilter|audit|vsock|crypto) WORKED"),
    "raw packets": Attack(network.OPENS_OTHER_FAMILIES, ("filter", "not root"), r"packet WORKED\nraw WORKED"),
    "an interface": Attack(network.GIVES_ITSELF_AN_INTERFACE, ("not root",), "address WORKED"),
    "capabilities": Attack(privileges.SHOWS_ITS_RIGHTS, ("not root",), r"(?s)\[0, [1-9].* False .*setuid WORKED"),
    "no filter": Attack(privileges.SHOWS_ITS_RIGHTS, ("filter",), r"\[0, 0, 0, 0, 0\] 1 0 True"),
    "a user namespace": Attack(privileges.MAKES_A_USER_NAMESPACE, ("filter",), "WORKED"),
    "a mount": Attack(privileges.MOUNTS, ("filter", "not root"), "WORKED WORKED"),
    "clone3 and io_uring": Attack(
        privileges.CALLS_WHAT_SHOULD_LOOK_ABSENT, ("filter",), r"^(?!ENOSYS ENOSYS ENOSYS)\w+ \w+ \w+$"
    ),
    "tracing": Attack(privileges.TRACES_ANOTHER, ("filter",), "ptrace WORKED"),
    "rarer doors": Attack(privileges.TRIES_RARER_DOORS, ("filter",), r"(add_key|keyctl|bpf|userfaultfd) (?!EPERM)"),
    "a device made": Attack(privileges.MAKES_A_DEVICE, ("filter", "not root"), "MADE"),
    # Past the filter it is asked whether this is a terminal at all.
    "typing": Attack(privileges.TYPES_INTO_A_TERMINAL, ("filter",), "Inappropriate ioctl"),
    "the clock": Attack(privileges.SETS_THE_CLOCK, ("filter", "not root"), "SET"),
    "processes": Attack(machine.COUNTS_PROCESSES, ("own processes",), "False False"),
    "into pid 1": Attack(machine.LOOKS_INTO_PID_1, ("not root",), "environ WORKED", on=("bubblewrap",)),
    "devices": Attack(machine.FINDS_DEVICES, ("few devices",), "kmsg|mem|disk|vda|loop"),
    "kernel tables": Attack(
        machine.READS_KERNEL_TABLES, ("hidden tables", "not root"), r"/proc/(kcore|keys|timer_list) 64"
    ),
    "kernel settings": Attack(
        machine.WRITES_KERNEL_SETTINGS, ("hidden tables", "not root"), "core_pattern written", on=ENGINES
    ),
    "the data": Attack(machine.WRITES_TO_THE_DATA, ("read-only data", "not root"), "WRITTEN\nWRITTEN"),
    "host name": Attack(
        surroundings.ASKS_FOR_THE_MACHINES_NAME, ("own host name",), f"^{re.escape(socket.gethostname())}$"
    ),
    "limits": Attack(surroundings.RAISES_ITS_LIMITS, ("limits of a process",), "RLIMIT_FSIZE WORKED"),
    "the keeper's door": Attack(surroundings.LOOKS_FOR_THE_KEEPER, ("no door left",), "True", on=ENGINES),
    "fork bomb": Attack(resources.FORK_BOMB, ("process limit",), "UNBOUNDED 60"),
    "thread bomb": Attack(resources.THREAD_BOMB, ("process limit",), "UNBOUNDED 60"),
    "memory bomb": Attack(resources.MEMORY_BOMB, ("memory limit",), "UNBOUNDED"),
    "memory bomb in children": Attack(resources.MEMORY_BOMB_IN_CHILDREN, ("memory limit",), "UNBOUNDED"),
    "memory bomb in a memfd": Attack(resources.MEMORY_BOMB_IN_A_MEMFD, ("memory limit",), "UNBOUNDED"),
    "scratch": Attack(resources.FILLS_SCRATCH, ("bounded scratch",), "UNBOUNDED\nUNBOUNDED", on=("bubblewrap",)),
    "large and sparse files": Attack(
        resources.WRITES_A_LARGE_FILE, ("limits of a process",), "written UNBOUNDED\nsparse UNBOUNDED"
    ),
    "descriptors": Attack(resources.OPENS_MANY_FILES, ("limits of a process",), "UNBOUNDED"),
}
LIMITS = {
    "process limit": {"processes": 20},
    "memory limit": {"memory_bytes": 64 << 20},
    "limits of a process": {"file_bytes": 1 << 20, "open_files": 100},
}
ROWS = [(name, kind) for kind in ALL for name, attack in ATTACKS.items() if kind in attack.on]


@pytest.fixture(scope="module")
def all_of(rigs: Callable[[str], Rig]) -> Callable[[str, tuple[str, ...], bool], dict[str, str]]:
    """What the probes of all rows with the same missing defences say, in one sandbox."""

    @cache
    def ask(kind: str, without: tuple[str, ...], missing: bool) -> dict[str, str]:
        rig = rigs(kind)
        probes = {name: one.probe for name, one in ATTACKS.items() if one.without == without and kind in one.on}
        with pytest.MonkeyPatch.context() as monkeypatch:
            take_away(rig, monkeypatch, without if missing else ())
            ahead = kind == "bubblewrap" and "read-only data" in without
            lines = says(rig, in_turn(probes), ahead=ahead, limits=LIMITS.get(without[0], {})).splitlines()
        return dict(json.loads(line) for line in lines if line.startswith('["'))

    return ask


@pytest.mark.parametrize(("name", "kind"), ROWS)
def test_an_attack_succeeds_where_its_defence_is_missing_and_only_there(all_of, name: str, kind: str):
    attack = ATTACKS[name]
    without, within = (all_of(kind, attack.without, missing).get(name, "") for missing in (True, False))
    succeeds = re.compile(attack.says, re.MULTILINE)
    assert succeeds.search(without), without
    assert not succeeds.search(within), within


def test_a_32_bit_call_goes_on_without_the_filter(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    take_away(rig, monkeypatch, ["filter"])
    assert says(rig, privileges.MAKES_A_32_BIT_CALL) == ""


# -- the network -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rig", ["bubblewrap", "podman"], indirect=True)
def test_a_job_in_the_machines_network_reaches_every_address(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    take_away(rig, monkeypatch, ["own network"])
    with small_internet():
        said = says(rig, network.CONNECTS_ANYWHERE)
        places = ["public", "private", "docker-bridge", *(["public6"] if HAS_IPV6 else [])]
        reached = {name for name, word in (line.split() for line in said.splitlines()) if word == "WORKED"}
        assert reached >= {*places, *(f"{place}-udp" for place in places)}, said
        assert says(rig, network.ASKS_FOR_METADATA) == "metadata WORKED\n"
        if rig.kind == "bubblewrap":  # Podman hands on where this machine asks for names, and that is elsewhere
            assert says(rig, network.RESOLVES_A_NAME) == f"{RESOLVED}\n"


def test_a_job_in_the_machines_network_reaches_its_services(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    take_away(rig, monkeypatch, ["own network"])
    name = f"\0insitu-test-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as service, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(name)
        abstract.listen()
        assert says(rig, network.connects_to_loopback(service.getsockname()[1])) == "loopback WORKED\n"
        assert says(rig, network.connects_to_abstract(name)) == "abstract WORKED\n"


# -- programs and devices that lie in the data ---------------------------------------------------------------------------


def data_with(rig: Rig) -> tuple[Any, Path]:
    spec = rig.spec("")
    return spec.mounts, Path(spec.mounts[0].source)


def test_a_set_uid_program_makes_root_where_new_privileges_are_allowed(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    bubblewrap = rig.kind == "bubblewrap"
    take_away(rig, monkeypatch, ["no new privileges", *(["mounts without set-uid"] if bubblewrap else [])])
    mounts, data = data_with(rig)
    shutil.copy(rig.rootfs / "usr/bin/id", data / "id")
    (data / "id").chmod(0o4755)
    assert says(rig, privileges.RUNS_A_SET_UID_PROGRAM, mounts=mounts, ahead=bubblewrap) == "0\n"


def test_a_device_in_the_data_is_opened_where_mounts_may_have_devices(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    bubblewrap = rig.kind == "bubblewrap"
    take_away(rig, monkeypatch, ["mounts without devices" if bubblewrap else "no device rule"])
    mounts, data = data_with(rig)
    os.mknod(data / "device", 0o20666, os.makedev(1, 11))
    (data / "device").chmod(0o666)
    assert says(rig, machine.OPENS_A_DEVICE_IN_THE_DATA, mounts=mounts, ahead=bubblewrap) == "OPENED\n"


# -- the site and its other jobs -----------------------------------------------------------------------------------------


def test_a_process_of_this_machine_is_signalled_without_a_process_namespace(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    take_away(rig, monkeypatch, ["own processes"])
    with subprocess.Popen(["/bin/sleep", "600"], user=JOB_UID, group=JOB_UID, extra_groups=[]) as other:
        try:
            assert says(rig, machine.signals(other.pid, signal.SIGTERM)) == "SENT\n"
            assert other.wait(10) == -signal.SIGTERM
        finally:
            other.kill()


def test_the_sites_files_are_read_where_they_are_mounted(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    take_away(rig, monkeypatch, ["only declared mounts"])
    secret = rig.folder / "policy.yaml"
    secret.write_text("known only to the site")
    mounts, data = data_with(rig)
    (data / "link").symlink_to(secret)
    assert "known only to the site" in says(rig, machine.reads_the_sites(str(secret)))
    assert "known only to the site" in says(rig, machine.FOLLOWS_A_LINK_IN_THE_DATA, mounts=mounts)


def test_another_jobs_gate_and_folders_are_found_where_they_are_mounted(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    take_away(rig, monkeypatch, ["only declared mounts"])
    other = rig.folder / "other.sock"
    other.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as gate:
        gate.bind(str(other))
        other.chmod(0o666)
        gate.listen()
        neighbour = rig.spec("")
        said = says(rig, neighbours.looks_for_others([str(other), str(neighbour.mounts[0].source)]))
    assert f"WORKED {other}" in said
    assert f"WORKED {neighbour.mounts[0].source}" in said


def forget_the_meeting(rig: Rig) -> None:
    """Where nothing is a job's own, this machine keeps what it left."""
    for folder in (shared_scratch(rig), Path("/dev/shm")):
        (folder / neighbours.MARK).unlink(missing_ok=True)
    libc = ctypes.CDLL(None)
    segment = libc.shmget(neighbours.KEY, 0, 0)
    if segment >= 0:
        libc.shmctl(segment, 0, None)  # IPC_RMID


MEETINGS = {
    "own network": r"abstract WORKED\nloopback WORKED",
    "own shared memory": "sysv WORKED",
    "own processes": "processes False",
    "own scratch": r"tmp WORKED\nshm WORKED",  # bubblewrap's alone: an engine's is the same tmpfs
}


@pytest.mark.parametrize(
    ("kind", "without"), [(kind, without) for kind in ALL for without in MEETINGS if without in DEFENCES[kind]]
)
def test_two_jobs_meet_in_what_is_not_each_ones_own(rigs, monkeypatch: pytest.MonkeyPatch, kind: str, without: str):
    rig = rigs(kind)
    take_away(rig, monkeypatch, [without])
    with contextlib.ExitStack() as stack:
        stack.callback(forget_the_meeting, rig)
        stack.enter_context(small_internet() if rig.kind != "docker" else contextlib.nullcontext())
        first = stack.enter_context(started(rig, neighbours.WAITS))
        first.until_it_says("up")
        said = says(rig, neighbours.SEEKS)
    assert re.search(MEETINGS[without], said), said


@pytest.mark.parametrize("rig", ["bubblewrap"], indirect=True)
def test_what_one_job_left_is_found_where_scratch_is_shared(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    take_away(rig, monkeypatch, ["own scratch"])
    says(rig, neighbours.LEAVES_SOMETHING)
    assert "/tmp/left" in says(rig, neighbours.SEEKS_WHAT_WAS_LEFT)


# -- the agent's own -------------------------------------------------------------------------------------------------------


def test_the_agents_variables_are_found_where_they_are_handed_on(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    for name in ("INSITU_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, surroundings.VARIABLES[name])
    take_away(rig, monkeypatch, ["environment of its own"])
    assert "environ" in says(rig, surroundings.LOOKS_AT_PROCESSES)


@pytest.mark.parametrize("rig", ["podman"], indirect=True)
def test_an_engines_proxies_are_found_where_it_is_not_told_otherwise(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, surroundings.VARIABLES[name])
    take_away(rig, monkeypatch, ["no proxies of the engine's"])
    assert "environ" in says(rig, surroundings.LOOKS_AT_PROCESSES)


@pytest.mark.parametrize("rig", ["bubblewrap"], indirect=True)
def test_a_descriptor_of_the_agents_is_inherited_where_none_is_closed(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    secret = os.open(Path(__file__), os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        take_away(rig, monkeypatch, ["no descriptors"])
        assert Path(__file__).name in says(rig, surroundings.LISTS_ITS_DESCRIPTORS)
    finally:
        os.close(secret)


def test_what_never_ends_goes_on_where_no_keeper_watches(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    take_away(rig, monkeypatch, [])
    began = time.monotonic()
    with started(rig, resources.RUNS_ON, limits={"wall_s": 0.2}, grace_s=0.1) as running:
        running.until_it_says("up")
        assert running.ends(within_s=1) == ""
    assert time.monotonic() - began >= 1
