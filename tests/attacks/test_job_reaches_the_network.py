"""A job tries to send what it read: by every address family, to every address that might answer."""

import os
import socket

from tests.attacks.probes import network
from tests.sandbox_rig import Rig, docker_socket, rig

FIXTURES = (docker_socket, rig)


def test_job_cannot_connect_anywhere(rig: Rig):
    lines = dict(line.split() for line in rig.says(network.CONNECTS_ANYWHERE).splitlines())
    assert len(lines) == 12
    # fe80::1 on lo is "address not available"; a broadcast without permission is EACCES: nothing leaves either way.
    assert set(lines.values()) <= {"ENETUNREACH", "EHOSTUNREACH", "EACCES", "EADDRNOTAVAIL"}, lines


def test_job_cannot_reach_the_metadata_address(rig: Rig):
    assert rig.says(network.ASKS_FOR_METADATA) == "metadata ENETUNREACH"


def test_job_cannot_resolve_names(rig: Rig):
    assert rig.says(network.RESOLVES_A_NAME) == "no"


def test_job_cannot_open_other_families(rig: Rig):
    lines = dict(line.split() for line in rig.says(network.OPENS_OTHER_FAMILIES).splitlines())
    assert set(lines.values()) == {"EPERM"}, lines


def test_job_cannot_give_itself_an_interface(rig: Rig):
    said = rig.says(network.GIVES_ITSELF_AN_INTERFACE).splitlines()
    assert said == ["address Operation not permitted", "bridge Operation not permitted"]


def test_job_cannot_reach_a_service_on_this_machine(rig: Rig):
    with socket.create_server(("127.0.0.1", 0)) as service:
        probe = network.connects_to_loopback(service.getsockname()[1])
        assert rig.says(probe) == "loopback ECONNREFUSED"


def test_job_cannot_reach_an_abstract_socket_of_this_machine(rig: Rig):
    name = f"\0insitu-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(name)  # such a name is in the network namespace, not in a folder: no mount hides it
        service.listen()
        assert rig.says(network.connects_to_abstract(name)) == "abstract ECONNREFUSED"
