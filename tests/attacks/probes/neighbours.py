"""How two jobs of one site try to meet."""

import os

# Where a defence is missing this meets on the machine itself, so not where other tests do that run at the same time.
MARK = f"meet-{os.getpid()}"
KEY = 0x1000000 + os.getpid()
_PORT = 10_000 + os.getpid() % 20_000

WAITS = f"""
import ctypes, os, socket, time
listener = socket.socket(socket.AF_UNIX); listener.bind('\\0{MARK}'); listener.listen()
server = socket.create_server(('127.0.0.1', {_PORT}))
open('/tmp/{MARK}', 'w').write('row'); open('/dev/shm/{MARK}', 'w').write('row')
assert ctypes.CDLL(None).shmget({KEY}, 100, 0o1666) >= 0
print('up', os.getpid(), flush=True)
time.sleep(600)
"""

SEEKS = f"""
import ctypes, os, socket
for name, act in {{
    'abstract': lambda: socket.socket(socket.AF_UNIX).connect('\\0{MARK}'),
    'loopback': lambda: socket.create_connection(('127.0.0.1', {_PORT}), 5),
    'tmp': lambda: open('/tmp/{MARK}'),
    'shm': lambda: open('/dev/shm/{MARK}'),
}}.items():
    try: act(); print(name, 'WORKED')
    except OSError as exc: print(name, exc.strerror)
print('sysv', 'WORKED' if ctypes.CDLL(None).shmget({KEY}, 100, 0) >= 0 else 'not found')
print('processes', len([pid for pid in os.listdir('/proc') if pid.isdigit()]) < 6)
"""

LEAVES_SOMETHING = """
for path in ('/tmp/left', '/dev/shm/left', '/usr/left', '/job/left', '/run/left', '/var/tmp/left', '/opt/env/left'):
    try: open(path, 'w').write('row')
    except OSError: pass
"""

SEEKS_WHAT_WAS_LEFT = """
import os
print([os.path.join(at, name) for at, _, names in os.walk('/') for name in names if name == 'left' and '/proc' not in at])
"""


def looks_for_others(paths: list[str]) -> str:
    return f"""
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
