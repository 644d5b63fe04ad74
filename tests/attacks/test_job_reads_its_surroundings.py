"""A job looks for what its surroundings give away: the agent's variables and proxies, the machine's names, its clock."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from insitu.sandbox.keeper_pool import KeeperPool
from tests.sandbox_rig import Rig, docker_socket, rig

FIXTURES = (docker_socket, rig)

VARIABLES = {
    "HTTPS_PROXY": "http://user:canary-proxy@proxy.site.example:3128",
    "https_proxy": "http://user:canary-proxy@proxy.site.example:3128",
    "NO_PROXY": "canary-no-proxy.site.example",
    "AWS_SECRET_ACCESS_KEY": "canary-aws",
    "INSITU_TOKEN": "canary-token",
    "SSL_CERT_FILE": "/canary-certificates",
    "PYTHONPATH": "/canary-python",
    "LD_PRELOAD": "",
    "SSH_AUTH_SOCK": "/canary-agent",
}

LOOKS_AT_PROCESSES = """
import os
found = set()
word = b'can' + b'ary'  # not found in this very command line
def look(where, data):
    if word in data: found.add(where)
look('environ', repr(dict(os.environ)).encode())
for pid in filter(str.isdigit, os.listdir('/proc')):
    for name in ('environ', 'cmdline', 'mountinfo', 'maps'):
        try: look(name, open(f'/proc/{pid}/{name}', 'rb').read())
        except OSError: pass
"""
LOOKS_AT_FILES = """
for folder in ('/etc', '/run', '/tmp', '/var', '/job', '/root', '/home'):
    for parent, _, names in os.walk(folder):
        for name in names:
            try: look(os.path.join(parent, name), open(os.path.join(parent, name), 'rb').read(1 << 20))
            except OSError: pass
"""
TELLS = "print(sorted(found))"


@contextmanager
def own_keepers(rig: Rig) -> Iterator[None]:
    """Keepers that are started now, and so from the environment of now."""
    before, rig.pool = rig.pool, KeeperPool(1, rig.python, rig.settings)
    try:
        yield
    finally:
        rig.pool.close()
        rig.pool = before


@pytest.fixture
def watched(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """The rig with keepers that were started by an agent whose own environment holds secrets."""
    for name, value in VARIABLES.items():
        if value:
            monkeypatch.setenv(name, value)
    if rig.kind == "bubblewrap-as-user":
        monkeypatch.delenv("PYTHONPATH")  # its keepers are started by a script of the test's own, which imports
    with own_keepers(rig):
        yield rig


def test_what_looks_for_it_does_find_it_where_nothing_is_sealed_off(watched: Rig):
    """Else the next test would pass for any reason."""
    command = [sys.executable, "-c", LOOKS_AT_PROCESSES + TELLS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "environ" in done.stdout


def test_nothing_of_the_agents_environment_is_inside(watched: Rig):
    assert watched.says(LOOKS_AT_PROCESSES + LOOKS_AT_FILES + TELLS) == "[]"


def test_the_machine_has_no_name_inside(rig: Rig):
    code = """
import os, socket
print(socket.gethostname()); print(os.uname().nodename)
for path in ('/etc/machine-id', '/etc/hostname', '/var/lib/dbus/machine-id', '/sys/class/dmi/id/product_uuid',
             '/sys/class/dmi/id/board_serial', '/proc/sys/kernel/hostname', '/sys/class/net/eth0/address'):
    try: print(open(path).read().strip())
    except OSError: print()
"""
    here = {socket.gethostname()}
    for path in ("/etc/machine-id", "/sys/class/dmi/id/product_uuid", "/sys/class/dmi/id/board_serial"):
        if Path(path).exists() and (text := Path(path).read_text().strip()):
            here.add(text)
    assert not here & set(rig.says(code).splitlines())


def test_the_account_is_not_told(rig: Rig):
    code = """
import os, pwd
try: print(pwd.getpwuid(os.getuid()).pw_name)
except KeyError: print('nobody knows')
print(os.environ.get('SUDO_USER', '-'), os.environ.get('LOGNAME', '-'))
"""
    assert rig.says(code).splitlines() == ["nobody knows", "- -"]


def test_job_cannot_set_the_clock(rig: Rig):
    code = """
import time, ctypes
before = time.time()
libc = ctypes.CDLL(None, use_errno=True)
try: time.clock_settime(time.CLOCK_REALTIME, 0); print('SET')
except OSError as exc: print(exc.strerror)
print(libc.adjtimex(ctypes.create_string_buffer(b'\\x01' + bytes(207), 208)) < 0)
print(time.time() >= before)
"""
    began = time.time()
    assert rig.says(code).splitlines() == ["Operation not permitted", "True", "True"]
    assert time.time() >= began


def test_job_inherits_no_descriptor_and_no_terminal(rig: Rig):
    secret = os.open(Path(__file__), os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        code = """
import os
for number in os.listdir('/proc/self/fd'):
    try: target = os.readlink(f'/proc/self/fd/{number}')
    except OSError: continue
    if not target.startswith(('pipe:', '/dev/null', '/proc/', 'socket:')): print(number, target)
try: print(os.ctermid(), open('/dev/tty'))
except OSError: print('no terminal')
"""
        with own_keepers(rig):
            said = rig.says(code).splitlines()
    finally:
        os.close(secret)
    # Without an intake the streams are files of the keeper's: they have no name inside, or one that leads nowhere.
    assert said[-1] == "no terminal"
    assert not [line for line in said if Path(__file__).name in line]
