"""A job looks for what is not its own: the site's files, other processes, devices, the kernel's tables."""

import os
import signal
import subprocess
from pathlib import Path

from tests.attacks.probes import machine
from tests.sandbox_rig import JOB_UID, Rig, docker_socket, rig

FIXTURES = (docker_socket, rig)


def test_job_sees_only_its_own_processes(rig: Rig):
    assert rig.says(machine.COUNTS_PROCESSES) == "True True True"


def test_job_cannot_look_into_what_started_it(rig: Rig):
    lines = dict(line.split(" ", 1) for line in rig.says(machine.LOOKS_INTO_PID_1).splitlines())
    if rig.kind == "bubblewrap":
        assert set(lines.values()) == {"Permission denied"}
    else:
        # Pid 1 is the container's init or, for a user, bubblewrap: same uid, same sandbox. What it shows is the sandbox.
        assert lines["mem"] in ("Permission denied", "WORKED", "Input/output error")
        said = rig.says("import os; print(sorted(os.listdir('/proc/1/root')) == sorted(os.listdir('/')))", env={})
        assert said == "True"


def test_job_cannot_signal_a_process_of_this_machine(rig: Rig):
    """Not even one of its own uid."""
    with subprocess.Popen(["/bin/sleep", "600"], user=JOB_UID, group=JOB_UID, extra_groups=[]) as other:
        try:
            assert rig.says(machine.signals(other.pid, signal.SIGTERM)) == "No such process"
            assert other.poll() is None
        finally:
            other.kill()


def test_job_cannot_read_the_sites_files(rig: Rig):
    secret = rig.folder / f"policy-{rig.kind}.yaml"
    secret.write_text("known only to the site")
    lines = rig.says(machine.reads_the_sites(str(secret))).splitlines()
    assert set(lines[:-1]) <= {"No such file or directory", "Permission denied"}
    assert lines[-1] == "[]"


def test_a_link_in_the_data_leads_to_the_base_and_not_to_the_site(rig: Rig):
    secret = rig.folder / f"secret-{rig.kind}"
    secret.write_text("known only to the site")
    spec = rig.spec("")
    data = Path(spec.mounts[0].source)
    (data / "link").symlink_to(secret)
    assert rig.says(machine.FOLLOWS_A_LINK_IN_THE_DATA, mounts=spec.mounts) == "No such file or directory"


def test_job_cannot_change_the_data(rig: Rig):
    said = rig.says(machine.WRITES_TO_THE_DATA).splitlines()
    assert set(said) <= {"Permission denied", "Read-only file system"}


def test_job_finds_no_devices(rig: Rig):
    assert rig.says(machine.FINDS_DEVICES) == "[]"


def test_a_device_that_lies_in_the_data_is_not_opened(rig: Rig):
    spec = rig.spec("")
    device = Path(spec.mounts[0].source, "device")
    os.mknod(device, 0o20666, os.makedev(1, 11))  # the kernel's log
    device.chmod(0o666)
    said = rig.says(machine.OPENS_A_DEVICE_IN_THE_DATA, mounts=spec.mounts)
    assert said in ("Permission denied", "Operation not permitted")


def test_job_cannot_read_the_kernels_tables(rig: Rig):
    assert {line.split()[-1] for line in rig.says(machine.READS_KERNEL_TABLES).splitlines()} <= {"0"}


def test_job_cannot_write_the_kernels_settings(rig: Rig):
    assert rig.says(machine.WRITES_KERNEL_SETTINGS) == ""
