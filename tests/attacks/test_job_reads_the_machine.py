"""A job looks for what is not its own: the site's files, other processes, devices, the kernel's tables."""

import os
import signal
from pathlib import Path

from tests.sandbox_rig import Rig, docker_socket, rig

FIXTURES = (docker_socket, rig)


def test_job_sees_only_its_own_processes(rig: Rig):
    code = """
import os
own = {}
for pid in filter(str.isdigit, os.listdir('/proc')):
    own[int(pid)] = open(f'/proc/{pid}/cmdline').read().replace(chr(0), ' ')[:60]
print(len(own) < 5, max(own) < 20, not any('pytest' in line for line in own.values()))
"""
    assert rig.says(code) == "True True True"


def test_job_cannot_look_into_what_started_it(rig: Rig):
    code = """
import os
for name in ('mem', 'environ', 'fd', 'root', 'cwd', 'exe'):
    path = f'/proc/1/{name}'
    try: os.listdir(path) if name in ('fd', 'root', 'cwd') else open(path, 'rb').read(1)
    except OSError as exc: print(name, exc.strerror)
    else: print(name, 'WORKED')
"""
    lines = dict(line.split(" ", 1) for line in rig.says(code).splitlines())
    if rig.kind == "bubblewrap":
        assert set(lines.values()) == {"Permission denied"}
    else:
        # Pid 1 is the container's init or, for a user, bubblewrap: same uid, same sandbox. What it shows is the sandbox.
        assert lines["mem"] in ("Permission denied", "WORKED", "Input/output error")
        said = rig.says("import os; print(sorted(os.listdir('/proc/1/root')) == sorted(os.listdir('/')))", env={})
        assert said == "True"


def test_job_cannot_signal_a_process_of_this_machine(rig: Rig):
    code = f"""
import os
try: os.kill({os.getpid()}, {int(signal.SIGUSR1)})
except OSError as exc: print(exc.strerror)
"""
    assert rig.says(code) == "No such process"


def test_job_cannot_read_the_sites_files(rig: Rig):
    secret = rig.folder / f"policy-{rig.kind}.yaml"
    secret.write_text("known only to the site")
    code = f"""
import os
for path in ({str(secret)!r}, '/proc/1/root{secret}', '/etc/../..{secret}', '/job/inputs/data/../../../..{secret}'):
    try: print(open(path).read())
    except OSError as exc: print(exc.strerror)
print([name for name in os.listdir('/') if name in ('work', 'host', 'sysroot', 'oldroot', 'newroot')])
"""
    lines = rig.says(code).splitlines()
    assert set(lines[:-1]) <= {"No such file or directory", "Permission denied"}
    assert lines[-1] == "[]"


def test_a_link_in_the_data_leads_to_the_base_and_not_to_the_site(rig: Rig):
    secret = rig.folder / f"secret-{rig.kind}"
    secret.write_text("known only to the site")
    spec = rig.spec("print(1)")
    data = Path(spec.mounts[0].source)
    (data / "link").symlink_to(secret)
    (data / "shadow").symlink_to("/etc/hostname")
    code = "try: print(open('/job/inputs/data/link').read())\nexcept OSError as exc: print(exc.strerror)"
    assert rig.says(code, mounts=spec.mounts) == "No such file or directory"


def test_job_finds_no_devices(rig: Rig):
    code = """
import os, stat
found = []
for folder, _, names in os.walk('/dev'):
    for name in names:
        mode = os.stat(os.path.join(folder, name), follow_symlinks=False).st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode): found.append(name)
print(sorted(set(found) - {'null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx', 'console'}))
"""
    assert rig.says(code) == "[]"


def test_job_cannot_read_the_kernels_tables(rig: Rig):
    code = """
import os
for path in ('/proc/kcore', '/proc/keys', '/proc/timer_list', '/proc/sched_debug', '/proc/scsi/scsi', '/dev/mem',
             '/dev/kmsg', '/sys/kernel/notes', '/sys/class/net/lo/address', '/sys/fs/cgroup/memory/tasks'):
    try: print(path, len(open(path, 'rb').read(64)))
    except OSError: pass
for path in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/proc/self/loginuid'):
    try: os.write(os.open(path, os.O_WRONLY), b'|/tmp/x')
    except OSError: pass
    else: print(path, 'written')
"""
    assert {line.split()[-1] for line in rig.says(code).splitlines()} <= {"0"}
