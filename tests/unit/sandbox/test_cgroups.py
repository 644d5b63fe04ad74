"""Control groups of both versions, on folders that look like them; the real ones are in the contract suite."""

from pathlib import Path

import pytest

from insitu.sandbox.cgroups import find_groups, find_hierarchy, make_group
from insitu.sandbox.spec import Limits

LIMITS = Limits(memory_bytes=1 << 20, cpus=0.5, processes=9, wall_s=1, scratch_bytes=1)


def v1(mounts: Path) -> None:
    for controller in ("memory", "cpu", "pids"):
        (mounts / controller / "mine" / "insitu").mkdir(parents=True)


def v2(mounts: Path) -> None:
    (mounts / "insitu").mkdir(parents=True)
    for file in ("cgroup.controllers", "cgroup.subtree_control", "cgroup.procs", "insitu/cgroup.subtree_control"):
        # Room in front: the kernel reads "+memory" as a command, a file keeps it.
        (mounts / file).write_text("        cpu memory pids")


OWN_V1 = "4:memory:/mine\n3:cpu,cpuacct:/mine\n2:pids:/mine\n0::/"
OWN_V2 = "0::/user.slice/x"


def files_for(group_folders: set[Path], names: list[str]) -> None:
    for folder in group_folders:
        for name in names:
            (folder / name).touch()


def test_version_1_sets_each_limit_in_its_own_hierarchy(tmp_path: Path):
    v1(tmp_path)
    found = find_hierarchy(tmp_path, OWN_V1)
    assert found.version == 1
    assert {found.mechanism(c) for c in ("memory", "cpu", "pids")} == {"cgroup v1"}
    group = make_group(found, "k1-2")
    files_for(
        set(group.folders.values()), ["memory.limit_in_bytes", "cpu.cfs_period_us", "cpu.cfs_quota_us", "pids.max"]
    )
    group.assign("job", LIMITS)
    assert (tmp_path / "memory/mine/insitu/k1-2/memory.limit_in_bytes").read_text() == str(1 << 20)
    assert (tmp_path / "cpu/mine/insitu/k1-2/cpu.cfs_quota_us").read_text() == "50000"
    assert (tmp_path / "pids/mine/insitu/k1-2/pids.max").read_text() == "9"


def test_version_2_sets_all_limits_in_one_group(tmp_path: Path):
    v2(tmp_path)
    (tmp_path / "user.slice/x").mkdir(parents=True)
    found = find_hierarchy(tmp_path, OWN_V2)
    assert found.version == 2
    group = make_group(found, "k1-2")
    assert set(group.folders.values()) == {tmp_path / "insitu/k1-2"}
    files_for({tmp_path / "insitu/k1-2"}, ["memory.max", "cpu.max", "pids.max", "memory.swap.max", "memory.oom.group"])
    group.assign("job", LIMITS)
    folder = tmp_path / "insitu/k1-2"
    assert [(folder / name).read_text() for name in ("memory.max", "cpu.max", "pids.max", "memory.swap.max")] == [
        str(1 << 20),
        "50000 100000",
        "9",
        "0",
    ]


@pytest.mark.parametrize(("make", "own"), [(v1, OWN_V1), (v2, OWN_V2)])
def test_a_group_is_found_by_its_sandboxes_name(tmp_path: Path, make, own: str):
    make(tmp_path)
    found = find_hierarchy(tmp_path, own)
    waiting, group = make_group(found, "k1-1"), make_group(found, "k2-2")
    files = ["memory.limit_in_bytes", "memory.max", "cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.max", "pids.max"]
    files_for(set(group.folders.values()), files)
    group.assign("job", LIMITS)
    assert [(keeper, name) for keeper, name, _ in find_groups(found)] == [("k1-1", ""), ("k2-2", "job")]
    assert waiting.destroy()
    assert [name for _, name, _ in find_groups(found)] == ["job"]


@pytest.mark.parametrize(
    ("version", "file", "content", "kills"),
    [
        (1, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n", 2),
        (2, "memory.events", "low 0\nmax 9\noom 1\noom_kill 1\n", 1),
        (1, "memory.oom_control", "oom_kill_disable 0\n", 0),
        (2, "nothing", "", 0),
    ],
)
def test_memory_kills_are_read_where_the_version_keeps_them(
    tmp_path: Path, version: int, file: str, content: str, kills: int
):
    (v1 if version == 1 else v2)(tmp_path)
    group = make_group(find_hierarchy(tmp_path, OWN_V1 if version == 1 else OWN_V2), "k1-1")
    (group.folders["memory"] / file).write_text(content)
    assert group.memory_kills() == kills


def test_where_nothing_is_granted_nothing_is_claimed(tmp_path: Path):
    found = find_hierarchy(tmp_path, OWN_V1)
    assert (found.version, found.mechanism("memory")) == (0, None)
    group = make_group(found, "k1-1")
    group.assign("job", LIMITS)
    assert (group.memory_kills(), group.destroy(), list(find_groups(found))) == (0, True, [])
