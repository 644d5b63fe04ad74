"""Two jobs at one site try to meet, where neither has been given anything in common."""

import socket

import pytest

from tests.sandbox_rig import Rig, docker_socket, rig

FIXTURES = (docker_socket, rig)

WAITS = """
import multiprocessing.shared_memory, os, socket, time
listener = socket.socket(socket.AF_UNIX); listener.bind('\\0meet'); listener.listen()
server = socket.create_server(('127.0.0.1', 7777))
open('/tmp/meet', 'w').write('row'); open('/dev/shm/meet', 'w').write('row')
print('up', os.getpid(), flush=True)
time.sleep(600)
"""
SEEKS = """
import ctypes, os, socket
for name, act in {
    'abstract': lambda: socket.socket(socket.AF_UNIX).connect('\\0meet'),
    'loopback': lambda: socket.create_connection(('127.0.0.1', 7777), 5),
    'tmp': lambda: open('/tmp/meet'),
    'shm': lambda: open('/dev/shm/meet'),
}.items():
    try: act(); print(name, 'WORKED')
    except OSError as exc: print(name, exc.strerror)
print('sysv', ctypes.CDLL(None).shmget(4711, 100, 0))
print('processes', len([pid for pid in os.listdir('/proc') if pid.isdigit()]) < 6)
"""


def test_jobs_have_nothing_in_common(rig: Rig):
    first = rig.start(WAITS)
    first.until_it_says("up")
    second = rig.says(SEEKS).splitlines()
    first.handle.stop()
    first.result()
    assert second == [
        "abstract Connection refused",
        "loopback Connection refused",
        "tmp No such file or directory",
        "shm No such file or directory",
        "sysv -1",
        "processes True",
    ]


LOOKS_FOR_OTHERS = """
import os, socket
print(sorted(os.listdir('/run/insitu')), sorted(os.listdir('/job')), sorted(os.listdir('/job/inputs')))
for path in {paths!r}:
    for way in (path, '/proc/1/root' + path, '/proc/self/root/..' + path):
        try:
            if path.endswith('.sock'): socket.socket(socket.AF_UNIX).connect(way)
            else: os.listdir(way)
        except OSError as exc: print(exc.strerror)
        else: print('WORKED', way)
"""


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
        said = rig.says(LOOKS_FOR_OTHERS.replace("{paths!r}", repr(wanted))).splitlines()
        neighbour.handle.stop()
        neighbour.result()
        other.settimeout(0)
        with pytest.raises(BlockingIOError):
            other.accept()
    own = "['init.py']" if rig.kind in ("podman", "docker") else "[]"  # the gate itself has no name inside
    assert said[0] == f"{own} ['inputs', 'outputs'] ['data']"
    assert set(said[1:]) <= {"No such file or directory", "Permission denied", "Not a directory"}, said


def test_what_one_job_leaves_in_the_base_or_in_scratch_the_next_does_not_find(rig: Rig):
    leaves = """
for path in ('/tmp/left', '/dev/shm/left', '/usr/left', '/job/left', '/run/left', '/var/tmp/left', '/opt/env/left'):
    try: open(path, 'w').write('row')
    except OSError: pass
"""
    seeks = """
import os
print([os.path.join(at, name) for at, _, names in os.walk('/') for name in names if name == 'left' and '/proc' not in at])
"""
    rig.says(leaves)
    assert rig.says(seeks) == "[]"
