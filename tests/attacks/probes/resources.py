"""How a job tries to take more than its share. Each ends by itself soon, also where nothing bounds it."""

FORK_BOMB = """
import os, time
children = 0
try:
    while children < 60:
        if os.fork() == 0: time.sleep(600)
        children += 1
except OSError as exc: print(exc.strerror, children)
else: print('UNBOUNDED', children)
"""

THREAD_BOMB = """
import os, threading, time
threads = 0
try:
    while threads < 60:
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
        threads += 1
except RuntimeError: print('bounded', threads, flush=True)
else: print('UNBOUNDED', threads, flush=True)
os._exit(0)
"""

# 160 MiB against a limit of 64.
MEMORY_BOMB = "held = [bytearray(b'1' * (8 << 20)) for _ in range(20)]; print('UNBOUNDED')"
MEMORY_BOMB_IN_CHILDREN = """
import os, signal
signal.signal(signal.SIGCHLD, lambda *_: os._exit(1))  # one of them was killed
reader, writer = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        held = bytearray(b'1' * (40 << 20)); os.write(writer, b'x'); signal.pause()
got = 0
while got < 4: got += len(os.read(reader, 4))
print('UNBOUNDED', flush=True)
os._exit(0)
"""
MEMORY_BOMB_IN_A_MEMFD = """
import os
held = os.memfd_create('x')
for _ in range(20): os.write(held, b'1' * (8 << 20))
print('UNBOUNDED')
"""

FILLS_SCRATCH = """
for folder in ('/tmp', '/dev/shm'):
    try:
        with open(folder + '/big', 'wb') as stream:
            for _ in range(24): stream.write(b'x' * (1 << 20))
        print('UNBOUNDED')
    except OSError as exc: print(exc.strerror)
"""

WRITES_A_LARGE_FILE = """
import os, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for name, act in (('written', lambda stream: stream.write(b'x' * (3 << 20))), ('sparse', lambda stream: stream.truncate(1 << 40))):
    try:
        with open('/job/outputs/' + name, 'wb') as stream: act(stream)
        print(name, 'UNBOUNDED')
    except OSError as exc: print(name, exc.strerror)
"""

OPENS_MANY_FILES = """
import os
held = []
try:
    while len(held) < 200: held.append(os.open('/dev/null', 0))
    print('UNBOUNDED')
except OSError as exc: print(exc.strerror)
"""

RUNS_ON = "import time; print('up', flush=True); time.sleep(600)"
