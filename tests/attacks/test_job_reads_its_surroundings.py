"""A job looks for what its surroundings give away: the agent's variables and proxies, the machine's names, its clock."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from insitu.sandbox.keeper_pool import KeeperPool
from tests.attacks.probes import privileges, surroundings
from tests.sandbox_rig import Rig, docker_socket, rig

FIXTURES = (docker_socket, rig)


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
    for name, value in surroundings.VARIABLES.items():
        if value:
            monkeypatch.setenv(name, value)
    if rig.kind == "bubblewrap-as-user":
        monkeypatch.delenv("PYTHONPATH")  # its keepers are started by a script of the test's own, which imports
    with own_keepers(rig):
        yield rig


def test_what_looks_for_it_does_find_it_where_nothing_is_sealed_off(watched: Rig):
    """Else the next test would pass for any reason."""
    command = [sys.executable, "-c", surroundings.LOOKS_AT_PROCESSES]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "environ" in done.stdout


def test_nothing_of_the_agents_environment_is_inside(watched: Rig):
    assert watched.says(surroundings.LOOKS_EVERYWHERE) == "[]"


def test_the_machine_has_no_name_inside(rig: Rig):
    here = {socket.gethostname()}
    for path in ("/etc/machine-id", "/sys/class/dmi/id/product_uuid", "/sys/class/dmi/id/board_serial"):
        if Path(path).exists() and (text := Path(path).read_text().strip()):
            here.add(text)
    assert not here & set(rig.says(surroundings.ASKS_FOR_THE_MACHINES_NAME).splitlines())


def test_the_account_is_not_told(rig: Rig):
    code = """
import os, pwd
try: print(pwd.getpwuid(os.getuid()).pw_name)
except KeyError: print('nobody knows')
print(os.environ.get('SUDO_USER', '-'), os.environ.get('LOGNAME', '-'))
"""
    assert rig.says(code).splitlines() == ["nobody knows", "- -"]


def test_job_cannot_set_the_clock(rig: Rig):
    assert rig.says(privileges.SETS_THE_CLOCK) == "Operation not permitted"
    adjusts = (
        "import ctypes; print(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(b'\\x01' + bytes(207), 208)))"
    )
    assert rig.says(adjusts) == "-1"


def test_job_inherits_no_descriptor_and_no_terminal(rig: Rig):
    secret = os.open(Path(__file__), os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        with own_keepers(rig):
            said = rig.says(surroundings.LISTS_ITS_DESCRIPTORS).splitlines()
    finally:
        os.close(secret)
    # Without an intake the streams are files of the keeper's: they have no name inside, or one that leads nowhere.
    assert said[-1] == "no terminal"
    assert not [line for line in said if Path(__file__).name in line]
