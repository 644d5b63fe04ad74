"""A job tries to send what it read: by every address family, to every address that might answer."""

import os
import socket

from tests.sandbox_rig import Rig, docker_socket, rig

FIXTURES = (docker_socket, rig)

TRY = """
import errno, socket
def attempt(name, act):
    try: act()
    except OSError as exc: print(name, errno.errorcode.get(exc.errno, type(exc).__name__))
    else: print(name, 'WORKED')
"""


def test_job_cannot_connect_anywhere(rig: Rig):
    code = (
        TRY
        + """
for name, family, address in [
    ('public', socket.AF_INET, ('1.1.1.1', 443)), ('private', socket.AF_INET, ('10.0.0.1', 22)),
    ('docker-bridge', socket.AF_INET, ('172.17.0.1', 22)), ('broadcast', socket.AF_INET, ('255.255.255.255', 9)),
    ('public6', socket.AF_INET6, ('2606:4700:4700::1111', 443)), ('link-local6', socket.AF_INET6, ('fe80::1', 443, 0, 1)),
]:
    attempt(name, lambda: socket.socket(family, socket.SOCK_STREAM).connect(address))
    attempt(name + '-udp', lambda: socket.socket(family, socket.SOCK_DGRAM).sendto(b'rows', address))
"""
    )
    lines = dict(line.split() for line in rig.says(code).splitlines())
    assert len(lines) == 12
    # fe80::1 on lo is "address not available"; a broadcast without permission is EACCES: nothing leaves either way.
    assert set(lines.values()) <= {"ENETUNREACH", "EHOSTUNREACH", "EACCES", "EADDRNOTAVAIL"}, lines


def test_job_cannot_reach_the_metadata_address(rig: Rig):
    code = TRY + "attempt('metadata', lambda: socket.create_connection(('169.254.169.254', 80), 5))"
    assert rig.says(code) == "metadata ENETUNREACH"


def test_job_cannot_resolve_names(rig: Rig):
    code = "import socket\ntry: print(socket.getaddrinfo('exfiltrate.example.com', 53))\nexcept socket.gaierror: print('no')"
    assert rig.says(code) == "no"


def test_job_cannot_open_other_families(rig: Rig):
    code = (
        TRY
        + """
for name, family, kind, protocol in [
    ('packet', socket.AF_PACKET, socket.SOCK_DGRAM, 0), ('raw', socket.AF_INET, socket.SOCK_RAW, 1),
    ('vsock', socket.AF_VSOCK, socket.SOCK_STREAM, 0), ('audit', socket.AF_NETLINK, socket.SOCK_RAW, 9),
    ('netfilter', socket.AF_NETLINK, socket.SOCK_RAW, 12), ('crypto', socket.AF_ALG, socket.SOCK_SEQPACKET, 0),
    ('bluetooth', socket.AF_BLUETOOTH, socket.SOCK_RAW, 1), ('can', socket.AF_CAN, socket.SOCK_RAW, 1),
    ('tipc', socket.AF_TIPC, socket.SOCK_RDM, 0), ('xdp', 44, socket.SOCK_RAW, 0),
]:
    attempt(name, lambda: socket.socket(family, kind, protocol))
"""
    )
    lines = dict(line.split() for line in rig.says(code).splitlines())
    assert set(lines.values()) == {"EPERM"}, lines


def test_job_cannot_give_itself_an_interface(rig: Rig):
    code = """
import fcntl, socket, struct
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
request = struct.pack('16s16s', b'lo', struct.pack('HH4s', socket.AF_INET, 0, bytes([10, 0, 0, 5])))
for name, call in (('address', 0x8916), ('bridge', 0x89A0)):
    try: fcntl.ioctl(link, call, request); print(name, 'WORKED')
    except OSError as exc: print(name, exc.strerror)
"""
    assert rig.says(code).splitlines() == ["address Operation not permitted", "bridge Operation not permitted"]


def test_job_cannot_reach_a_service_on_this_machine(rig: Rig):
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
        code = TRY + f"attempt('loopback', lambda: socket.create_connection(('127.0.0.1', {port}), 5))"
        assert rig.says(code) == "loopback ECONNREFUSED"


def test_job_cannot_reach_an_abstract_socket_of_this_machine(rig: Rig):
    name = f"\0insitu-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(name)  # such a name is in the network namespace, not in a folder: no mount hides it
        service.listen()
        code = TRY + f"attempt('abstract', lambda: socket.socket(socket.AF_UNIX).connect({name!r}))"
        assert rig.says(code) == "abstract ECONNREFUSED"
