"""What a job looks for that is not its own: the site's files, other processes, devices, the kernel's tables."""

COUNTS_PROCESSES = """
import os
own = {}
for pid in filter(str.isdigit, os.listdir('/proc')):
    try: own[int(pid)] = open(f'/proc/{pid}/cmdline').read().replace(chr(0), ' ')[:60]
    except OSError: pass  # it has ended meanwhile
print(len(own) < 5, max(own) < 20, not any('pytest' in line for line in own.values()))
"""

LOOKS_INTO_PID_1 = """
import os
for name in ('mem', 'environ', 'fd', 'root', 'cwd', 'exe'):
    path = f'/proc/1/{name}'
    try: os.listdir(path) if name in ('fd', 'root', 'cwd') else open(path, 'rb').read(1)
    except OSError as exc: print(name, exc.strerror)
    else: print(name, 'WORKED')
"""

FINDS_DEVICES = """
import os, stat
found = []
for folder, _, names in os.walk('/dev'):
    for name in names:
        mode = os.stat(os.path.join(folder, name), follow_symlinks=False).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode): found.append(name)
print(sorted(set(found) - {'null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx', 'console'}))
"""

# The kernel's log: whoever may open the device at all may open it for writing.
OPENS_A_DEVICE_IN_THE_DATA = """
import os
try: os.close(os.open('/job/inputs/data/device', os.O_WRONLY)); print('OPENED')
except OSError as exc: print(exc.strerror)
"""

READS_KERNEL_TABLES = """
for path in ('/proc/kcore', '/proc/keys', '/proc/timer_list', '/proc/sched_debug', '/proc/scsi/scsi', '/dev/mem',
             '/dev/kmsg', '/sys/kernel/notes', '/sys/class/net/lo/address', '/sys/fs/cgroup/memory/tasks'):
    try: print(path, len(open(path, 'rb').read(64)))
    except OSError: pass
"""

# What it says already, so that nothing changes where nobody stops it.
WRITES_KERNEL_SETTINGS = """
import os
for path in ('/proc/sys/kernel/core_pattern', '/proc/sys/vm/overcommit_memory'):
    try:
        says = open(path, 'rb').read()
        os.write(os.open(path, os.O_WRONLY), says)
    except OSError: pass
    else: print(path, 'written')
for path in ('/proc/sysrq-trigger', '/proc/sys/vm/drop_caches'):
    try: os.close(os.open(path, os.O_WRONLY))
    except OSError: pass
    else: print(path, 'opened')
"""

WRITES_TO_THE_DATA = """
import os
for path in ('/job/inputs/data/table.csv', '/job/inputs/data/new'):
    try: open(path, 'a').close(); print('WRITTEN')
    except OSError as exc: print(exc.strerror)
"""


def signals(pid: int, number: int) -> str:
    return f"import os\ntry: os.kill({pid}, {number}); print('SENT')\nexcept OSError as exc: print(exc.strerror)"


def reads_the_sites(path: str) -> str:
    return f"""
import os
for path in ({path!r}, '/proc/1/root{path}', '/etc/../..{path}', '/job/inputs/data/../../../..{path}'):
    try: print(open(path).read())
    except OSError as exc: print(exc.strerror)
print([name for name in os.listdir('/') if name in ('work', 'host', 'sysroot', 'oldroot', 'newroot')])
"""


FOLLOWS_A_LINK_IN_THE_DATA = (
    "try: print(open('/job/inputs/data/link').read())\nexcept OSError as exc: print(exc.strerror)"
)
