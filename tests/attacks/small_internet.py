"""A network of our own with a server at every address that attacks try, so that they could succeed on any machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from insitu.sandbox import kernel

_SIOCSIFADDR, _SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8916, 0x8913, 0x8914, 1
_ADDRESSES = ("1.1.1.1", "10.0.0.1", "172.17.0.1", "169.254.169.254")
_ADDRESS6 = "2606:4700:4700::1111"
HAS_IPV6 = Path("/proc/net/if_inet6").exists()
RESOLVED = "192.0.2.7"
"""What its resolver says to any name."""


@contextlib.contextmanager
def small_internet() -> Iterator[None]:
    """This thread, and what it starts, in a network where servers answer at the addresses that attacks try."""
    with contextlib.ExitStack() as stack:
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, before)
        kernel.unshare(kernel.CLONE_NEWNET)
        stack.callback(kernel.setns, before, kernel.CLONE_NEWNET)
        _give_addresses()
        for port in (22, 80, 443):
            for family, everywhere in ((socket.AF_INET, ""), (socket.AF_INET6, "::"))[: 1 + HAS_IPV6]:
                server = stack.enter_context(socket.socket(family))
                server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                server.bind((everywhere, port))
                server.listen()
        resolver = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        resolver.bind(("", 53))
        answering = threading.Thread(target=_answer, args=(resolver,), daemon=True)
        answering.start()
        stack.callback(answering.join)
        stack.callback(_end_resolver)
        yield


def _give_addresses() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for number, address in enumerate(("127.0.0.1", *_ADDRESSES)):
            name = b"lo" if number == 0 else b"lo:%d" % number
            wanted = struct.pack("16sHH4s8x", name, socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(link, _SIOCSIFADDR, wanted)
        flags = struct.unpack("16sH", fcntl.ioctl(link, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))[:18])[1]
        fcntl.ioctl(link, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
    if not HAS_IPV6:
        return
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as link:
        index = socket.if_nametoindex("lo")
        wanted = socket.inet_pton(socket.AF_INET6, _ADDRESS6) + struct.pack("Ii", 128, index)
        fcntl.ioctl(link, _SIOCSIFADDR, wanted)


def _answer(resolver: socket.socket) -> None:
    """RFC 1035: to any question the one address, until a datagram is empty."""
    while True:
        asked, whom = resolver.recvfrom(512)
        if not asked:
            return
        header = asked[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0)
        question = asked[12 : asked.index(b"\0", 12) + 5]
        found = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(RESOLVED)
        resolver.sendto(header + question + found, whom)


def _end_resolver() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ends:
        ends.sendto(b"", ("127.0.0.1", 53))
