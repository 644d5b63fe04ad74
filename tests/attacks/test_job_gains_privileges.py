"""A job tries to become more than it is: by set-uid programs, namespaces, other processes, or the kernel's rarer calls."""

from tests.sandbox_rig import Rig, docker_socket, rig

FIXTURES = (docker_socket, rig)

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


def test_job_has_no_capability_and_is_not_root(rig: Rig):
    code = """
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
    lines = rig.says(code).splitlines()
    assert lines[0] == "[0, 0, 0, 0, 0] 1 2 True False"
    assert all(line.split(" ", 1)[1] in ("Operation not permitted", "Invalid argument") for line in lines[1:]), lines


def test_a_set_uid_program_gains_nothing(rig: Rig):
    code = """
import os, shutil, subprocess
print(subprocess.run(['/usr/bin/su', '-c', 'id'], capture_output=True, stdin=subprocess.DEVNULL).returncode != 0)
shutil.copy('/usr/bin/id', '/job/outputs/id'); os.chmod('/job/outputs/id', 0o6755)
print(subprocess.run(['/job/outputs/id', '-u'], capture_output=True, text=True).stdout.strip() == str(os.getuid()))
"""
    assert rig.says(code).split() == ["True", "True"]


def test_job_cannot_make_namespaces_or_mounts(rig: Rig):
    code = (
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
    words = {word for line in rig.says(code).splitlines() for word in line.split()[1:]}
    assert words == {"EPERM"}


def test_clone3_looks_absent_so_that_libraries_fall_back(rig: Rig):
    assert (
        rig.says(CALL + "print(call(435, 0, 0), call(425, 8, 0), call(426, 0, 0, 0, 0, 0, 0))")
        == "ENOSYS ENOSYS ENOSYS"
    )


def test_job_cannot_trace_or_read_another_process(rig: Rig):
    code = (
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
    assert {line.split()[1] for line in rig.says(code).splitlines()} == {"EPERM"}


def test_job_cannot_use_the_kernels_rarer_doors(rig: Rig):
    code = (
        CALL
        + """
for name, number in [('keyctl', (250, 219)), ('add_key', (248, 217)), ('bpf', (321, 280)), ('perf', (298, 241)),
                     ('userfaultfd', (323, 282)), ('init_module', (175, 105)), ('kexec', (246, 104)), ('reboot', (169, 142)),
                     ('swapon', (167, 224)), ('acct', (163, 89)), ('syslog', (103, 116)), ('mknodat', (259, 33)),
                     ('by_handle', (304, 265)), ('settime', (227, 112)), ('quotactl', (179, 60)), ('fanotify', (300, 262))]:
    print(name, call(number, 0, 0, 0, 0, 0))
"""
    )
    lines = dict(line.split() for line in rig.says(code).splitlines())
    assert set(lines.values()) == {"EPERM"}, lines


def test_job_cannot_type_into_a_terminal(rig: Rig):
    code = (
        "import fcntl\ntry: fcntl.ioctl(0, 0x5412, b'x'); print('WORKED')\nexcept OSError as exc: print(exc.strerror)"
    )
    assert rig.says(code) == "Operation not permitted"


def test_a_32_bit_call_ends_the_program(rig: Rig):
    # int 0x80 has its own numbers, which no filter for the 64-bit ones would see.
    code = """
import ctypes, mmap, platform
if platform.machine() == 'x86_64':
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(bytes.fromhex('b814000000cd80c3'))  # mov eax, 20 (getpid); int 0x80; ret
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
else:
    import os; os.kill(os.getpid(), 31)
"""
    result = rig.run(code).result()
    assert result.signal == 31 or result.exit_code is None, result
