"""How a job tries to become more than it is."""

# Numbers of x86_64 and aarch64; `call` answers with the error's name.
CALL = """
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    number = number[platform.machine() == 'aarch64'] if isinstance(number, tuple) else number
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    if libc.syscall(ctypes.c_long(number), *words) >= 0: return 'WORKED'
    return errno.errorcode[ctypes.get_errno()]
"""

SHOWS_ITS_RIGHTS = """
import os
status = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)
print([int(status[name], 16) for name in ('CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb')], status['NoNewPrivs'],
      status['Seccomp'], os.getuid() != 0, 0 in os.getgroups())
for name in ('setuid', 'setgid'):
    try: getattr(os, name)(0); print(name, 'WORKED')
    except OSError as exc: print(name, exc.strerror)
try: os.setgroups([0]); print('WORKED')
except OSError as exc: print('setgroups', exc.strerror)
"""

RUNS_A_SET_UID_PROGRAM = """
import subprocess
print(subprocess.run(['/job/inputs/data/id', '-u'], capture_output=True, text=True).stdout.strip())
"""

MAKES_A_USER_NAMESPACE = CALL + "print(call((272, 97), 0x10000000))"

MAKES_NAMESPACES_AND_MOUNTS = (
    CALL
    + """
for name, flag in (('user', 0x10000000), ('mnt', 0x20000), ('net', 0x40000000), ('pid', 0x20000000)):
    print(name, call((272, 97), flag), call((56, 220), flag | 17, 0, 0, 0, 0))
print('setns', call((308, 268), 3, 0))
print('mount', call((165, 40), b'none', b'/tmp', b'tmpfs', 0, 0))
print('umount', call((166, 39), b'/tmp', 2))
print('pivot_root', call((155, 41), b'/tmp', b'/tmp'))
print('chroot', call((161, 51), b'/tmp'))
print('open_tree', call(428, -100, b'/', 1))
print('fsopen', call(430, b'tmpfs', 0))
"""
)

MOUNTS = CALL + "print(call((165, 40), b'none', b'/tmp', b'tmpfs', 0, 0), call((161, 51), b'/tmp'))"

CALLS_WHAT_SHOULD_LOOK_ABSENT = CALL + "print(call(435, 0, 0), call(425, 8, 0), call(426, 0, 0, 0, 0, 0, 0))"

TRACES_ANOTHER = (
    CALL
    + """
child = os.fork()
if child == 0:
    import time; time.sleep(60)
print('ptrace', call((101, 117), 16, child, 0, 0))
print('vm_readv', call((310, 270), child, 0, 0, 0, 0, 0))
print('pidfd_getfd', call(438, 0, 0, 0))
print('kcmp', call((312, 272), child, os.getpid(), 0, 0, 0))
os.kill(child, 9)
"""
)

# With arguments of which none would do anything, were it let in: a bad pointer, no key, no command.
TRIES_RARER_DOORS = (
    CALL
    + """
for name, number in [('keyctl', (250, 219)), ('add_key', (248, 217)), ('bpf', (321, 280)), ('perf', (298, 241)),
                     ('userfaultfd', (323, 282)), ('init_module', (175, 105)), ('kexec', (246, 104)), ('reboot', (169, 142)),
                     ('swapon', (167, 224)), ('acct', (163, 89)), ('syslog', (103, 116)), ('mknodat', (259, 33)),
                     ('by_handle', (304, 265)), ('settime', (227, 112)), ('quotactl', (179, 60)), ('fanotify', (300, 262))]:
    print(name, call(number, 0, 0, 0, 0, 0))
"""
)

TYPES_INTO_A_TERMINAL = (
    "import fcntl\ntry: fcntl.ioctl(0, 0x5412, b'x'); print('WORKED')\nexcept OSError as exc: print(exc.strerror)"
)

# int 0x80 has its own numbers, which no filter for the 64-bit ones would see.
MAKES_A_32_BIT_CALL = """
import ctypes, mmap, platform
if platform.machine() == 'x86_64':
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(bytes.fromhex('b814000000cd80c3'))  # mov eax, 20 (getpid); int 0x80; ret
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
else:
    import os; os.kill(os.getpid(), 31)
"""

MAKES_A_DEVICE = """
import os
try: os.mknod('/job/outputs/null', 0o20666, os.makedev(1, 3)); print('MADE')
except OSError as exc: print(exc.strerror)
"""

# To where the clock is anyway.
SETS_THE_CLOCK = """
import time
try: time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_REALTIME)); print('SET')
except OSError as exc: print(exc.strerror)
"""
