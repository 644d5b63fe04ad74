"""What a job tries on the network. Each line of the answer is `name WORKED`, or the name of the error."""

TRY = """
import errno, socket
def attempt(name, act):
    try: act()
    except OSError as exc: print(name, errno.errorcode.get(exc.errno, type(exc).__name__))
    else: print(name, 'WORKED')
"""

CONNECTS_ANYWHERE = (
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

ASKS_FOR_METADATA = TRY + "attempt('metadata', lambda: socket.create_connection(('169.254.169.254', 80), 5))"

RESOLVES_A_NAME = """
import socket
try: print(socket.getaddrinfo('exfiltrate.example.com', 53, socket.AF_INET)[0][4][0])
except socket.gaierror: print('no')
"""

OPENS_OTHER_FAMILIES = (
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

GIVES_ITSELF_AN_INTERFACE = """
import fcntl, socket, struct
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
request = struct.pack('16s16s', b'lo', struct.pack('HH4s', socket.AF_INET, 0, bytes([10, 0, 0, 5])))
for name, call in (('address', 0x8916), ('bridge', 0x89A0)):
    try: fcntl.ioctl(link, call, request); print(name, 'WORKED')
    except OSError as exc: print(name, exc.strerror)
"""


def connects_to_loopback(port: int) -> str:
    return TRY + f"attempt('loopback', lambda: socket.create_connection(('127.0.0.1', {port}), 5))"


def connects_to_abstract(name: str) -> str:
    return TRY + f"attempt('abstract', lambda: socket.socket(socket.AF_UNIX).connect({name!r}))"
