"""A job tries to become more than it is: by set-uid programs, namespaces, other processes, or the kernel's rarer calls."""

import os
import shutil
from pathlib import Path

from tests.attacks.probes import privileges
from tests.sandbox_rig import Rig, docker_socket, rig

FIXTURES = (docker_socket, rig)


def test_job_has_no_capability_and_is_not_root(rig: Rig):
    lines = rig.says(privileges.SHOWS_ITS_RIGHTS).splitlines()
    assert lines[0] == "[0, 0, 0, 0, 0] 1 2 True False"
    assert all(line.split(" ", 1)[1] in ("Operation not permitted", "Invalid argument") for line in lines[1:]), lines


def test_a_set_uid_program_gains_nothing(rig: Rig):
    """One that root left in the data, for any user of this machine."""
    spec = rig.spec("")
    program = Path(spec.mounts[0].source, "id")
    shutil.copy(rig.rootfs / "usr/bin/id", program)
    program.chmod(0o4755)
    said = rig.says(privileges.RUNS_A_SET_UID_PROGRAM, mounts=spec.mounts)
    assert said.isdigit()
    assert said != "0"
    assert program.stat().st_uid == os.getuid()


def test_job_cannot_make_namespaces_or_mounts(rig: Rig):
    said = rig.says(privileges.MAKES_NAMESPACES_AND_MOUNTS).splitlines()
    assert {word for line in said for word in line.split()[1:]} == {"EPERM"}


def test_clone3_looks_absent_so_that_libraries_fall_back(rig: Rig):
    assert rig.says(privileges.CALLS_WHAT_SHOULD_LOOK_ABSENT) == "ENOSYS ENOSYS ENOSYS"


def test_job_cannot_trace_or_read_another_process(rig: Rig):
    said = rig.says(privileges.TRACES_ANOTHER).splitlines()
    assert {line.split()[1] for line in said} == {"EPERM"}


def test_job_cannot_use_the_kernels_rarer_doors(rig: Rig):
    lines = dict(line.split() for line in rig.says(privileges.TRIES_RARER_DOORS).splitlines())
    assert set(lines.values()) == {"EPERM"}, lines


def test_job_cannot_make_a_device(rig: Rig):
    assert rig.says(privileges.MAKES_A_DEVICE) == "Operation not permitted"


def test_job_cannot_type_into_a_terminal(rig: Rig):
    assert rig.says(privileges.TYPES_INTO_A_TERMINAL) == "Operation not permitted"


def test_a_32_bit_call_ends_the_program(rig: Rig):
    result = rig.run(privileges.MAKES_A_32_BIT_CALL).result()
    assert result.signal == 31 or result.exit_code is None, result
