"""Two jobs at one site try to meet, where neither has been given anything in common."""

import socket

import pytest

from tests.attacks.probes import neighbours
from tests.sandbox_rig import Rig, docker_socket, rig

FIXTURES = (docker_socket, rig)


def test_jobs_have_nothing_in_common(rig: Rig):
    first = rig.start(neighbours.WAITS)
    first.until_it_says("up")
    second = rig.says(neighbours.SEEKS).splitlines()
    first.handle.stop()
    first.result()
    assert second == [
        "abstract Connection refused",
        "loopback Connection refused",
        "tmp No such file or directory",
        "shm No such file or directory",
        "sysv not found",
        "processes True",
    ]


def test_job_finds_neither_the_gate_nor_the_folders_of_another(rig: Rig):
    with socket.socket(socket.AF_UNIX) as own, socket.socket(socket.AF_UNIX) as other:
        paths = [rig.folder / f"{name}-{rig.kind}.sock" for name in ("own", "other")]
        for listener, path in zip((own, other), paths, strict=True):
            listener.bind(str(path))
            path.chmod(0o666)  # as an agent has them: what keeps others out is that they are nowhere to be seen
            listener.listen()
        neighbour = rig.start("import time; print('up', flush=True); time.sleep(600)")
        neighbour.until_it_says("up")
        wanted = [str(paths[1]), str(neighbour.outputs), str(neighbour.outputs.parent / "data"), str(rig.folder)]
        said = rig.says(neighbours.looks_for_others(wanted)).splitlines()
        neighbour.handle.stop()
        neighbour.result()
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.accept()
    own = "['init.py']" if rig.kind in ("podman", "docker") else "[]"  # the gate itself has no name inside
    assert said[0] == f"{own} ['inputs', 'outputs'] ['data']"
    assert set(said[1:]) <= {"No such file or directory", "Permission denied", "Not a directory"}, said


def test_what_one_job_leaves_in_the_base_or_in_scratch_the_next_does_not_find(rig: Rig):
    rig.says(neighbours.LEAVES_SOMETHING)
    assert rig.says(neighbours.SEEKS_WHAT_WAS_LEFT) == "[]"
