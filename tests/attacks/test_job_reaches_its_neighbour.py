"""Two jobs at one site try to meet, where neither has been given anything in common."""

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
