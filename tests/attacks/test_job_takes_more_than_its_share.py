"""A job tries to bring the machine down: with processes, memory, files, and time that never ends."""

import pytest

from insitu.sandbox.spec import Reason
from tests.attacks.probes import resources
from tests.sandbox_rig import Rig, docker_socket, rig

FIXTURES = (docker_socket, rig)
SMALL = {"memory_bytes": 64 << 20, "scratch_bytes": 16 << 20}


@pytest.mark.parametrize("bomb", [resources.FORK_BOMB, resources.THREAD_BOMB], ids=["processes", "threads"])
def test_a_bomb_of_processes_is_bounded(rig: Rig, bomb: str):
    run = rig.run(bomb, limits={"processes": 20})
    assert run.result().reason is Reason.EXITED
    assert "UNBOUNDED" not in run.stdout()
    assert 3 < int(run.stdout().split()[-1]) <= 20, run.stderr()
    assert rig.what_is_left(run) == []


@pytest.mark.parametrize(
    "bomb",
    [resources.MEMORY_BOMB, resources.MEMORY_BOMB_IN_CHILDREN, resources.MEMORY_BOMB_IN_A_MEMFD],
    ids=["its own", "its children's", "a file without a name"],
)
def test_a_memory_bomb_ends_the_job_and_nothing_else(rig: Rig, bomb: str):
    if rig.kind == "bubblewrap-as-user" and bomb != resources.MEMORY_BOMB:
        # Nobody grants an ordinary user a control group here: each process is bounded, not their sum. The contract says
        # so (`enforced`), and so does `agent doctor`.
        assert (rig.sandbox.probe().enforced or {})["memory"] == "rlimit"
        return
    run = rig.run(bomb, limits=SMALL)
    assert "UNBOUNDED" not in run.stdout()
    ended = run.result()
    assert ended.reason is Reason.MEMORY or (rig.kind == "bubblewrap-as-user" and "MemoryError" in run.stderr()), ended
    assert rig.what_is_left(run) == []


def test_scratch_is_filled_to_its_bound_and_no_further(rig: Rig):
    said = rig.says(resources.FILLS_SCRATCH, limits={"scratch_bytes": 16 << 20})
    assert said.splitlines() == ["No space left on device"] * 2


def test_no_file_grows_beyond_its_bound_with_or_without_holes(rig: Rig):
    said = rig.says(resources.WRITES_A_LARGE_FILE, limits={"file_bytes": 1 << 20})
    assert said.splitlines() == ["written File too large", "sparse File too large"]


def test_descriptors_run_out(rig: Rig):
    assert rig.says(resources.OPENS_MANY_FILES, limits={"open_files": 100}) == "Too many open files"


def test_what_never_ends_is_ended(rig: Rig):
    run = rig.run(resources.RUNS_ON, limits={"wall_s": 0.5}, grace_s=0.2)
    assert run.result().reason is Reason.TIMEOUT
    assert rig.what_is_left(run) == []
