"""A job tries to speak for what guards it: to claim another end, to free itself of its limits, to stop being watched."""

import time

from insitu.sandbox.spec import Reason
from tests.attacks.probes import surroundings
from tests.sandbox_rig import Rig, docker_socket, rig

FIXTURES = (docker_socket, rig)


def test_job_finds_no_door_to_the_keeper(rig: Rig):
    lines = rig.says(surroundings.LOOKS_FOR_THE_KEEPER).splitlines()
    assert lines[0] == "False"
    if rig.kind in ("bubblewrap", "bubblewrap-as-user"):
        assert lines[1] == "[]"


def test_ending_all_that_can_be_ended_ends_only_the_job(rig: Rig):
    run = rig.run("import os\ntry: os.kill(1, 9)\nexcept OSError: pass\nos.kill(-1, 9)")
    assert run.result().reason in (Reason.EXITED, Reason.LOST)
    assert rig.what_is_left(run) == []


def test_job_cannot_raise_its_limits(rig: Rig):
    said = rig.says(surroundings.RAISES_ITS_LIMITS, limits={"file_bytes": 1 << 20}).splitlines()
    assert dict(line.split() for line in said) == {
        "RLIMIT_NOFILE": "4096",
        "RLIMIT_FSIZE": str(1 << 20),
        "RLIMIT_CORE": "0",
    }


def test_stopping_the_clock_of_the_job_does_not_stop_ours(rig: Rig):
    code = "import os, signal\nif os.fork() == 0: os.kill(os.getppid(), signal.SIGSTOP)\nelse: signal.pause()\nsignal.pause()"
    began = time.monotonic()
    result = rig.run(code, limits={"wall_s": 1}, grace_s=0.2).result()
    assert result.reason is Reason.TIMEOUT
    assert time.monotonic() - began < 60
