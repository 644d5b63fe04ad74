"""Our own connections to a store give what was asked for, or leave it to the library; no error comes from them."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from insitu.agent.stores.contract import Reuse
from insitu.agent.stores.own_connections import OwnConnections
from insitu.agent.stores.signed_requests import SignedRequest

DATA = bytes(range(256)) * 40
TAG = "0x8D1"
Answer = Callable[[socket.socket, str], None]


@contextmanager
def a_store(answer: Answer, *, certificate: Path | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server that answers each request as it is told; its address, and the heads of the requests so far.

    Args:
        certificate: a file with it and its key; with one, TLS is spoken.
    """
    heads: list[str] = []
    listening = socket.create_server(("127.0.0.1", 0))
    ends: list[socket.socket] = [listening]

    def talk(connection: socket.socket) -> None:
        with suppress(OSError):
            while head := _head(connection):
                heads.append(head)
                answer(connection, head)

    def greet(connection: socket.socket) -> None:
        if certificate is None:
            talk(connection)
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as wrapped:
            talk(wrapped)

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                ends.append(connection)
                threading.Thread(target=greet, args=[connection], daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http{'s' if certificate else ''}://127.0.0.1:{listening.getsockname()[1]}", heads
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
    thread.join(10)


def _head(connection: socket.socket) -> str:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        more = connection.recv(4096)
        if not more:
            return ""
        data += more
    return data.decode()


def says(status: str, body: bytes, *headers: str, length: int | None = None, hang_up: bool = False) -> Answer:
    def answer(connection: socket.socket, _: str) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        if hang_up:
            connection.shutdown(socket.SHUT_RDWR)

    return answer


def gives(start: int, end: int, tag: str = TAG, **more) -> Answer:
    """A range, as a store gives it."""
    return says(
        "206 OK", DATA[start:end], f'ETag: "{tag}"', f"Content-Range: bytes {start}-{end - 1}/{len(DATA)}", **more
    )


class Library:
    """What is asked of it, and the right bytes."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int | None, str]] = []

    def __call__(self, name: str, start: int, length: int | None, etag: str) -> Iterator[bytes]:
        self.asked.append((start, length, etag))
        yield DATA[start:] if length is None else DATA[start : start + length]


@pytest.fixture
def connections_to() -> Iterator[Callable[[str], OwnConnections]]:
    made: list[OwnConnections] = []

    def connect(url: str) -> OwnConnections:
        made.append(OwnConnections(lambda name, headers: SignedRequest(f"{url}/c/{name}?sig=secret", headers)))
        return made[-1]

    yield connect
    for own in made:
        own.close()


def read(own: OwnConnections, start: int, length: int | None, *, etag: str = TAG) -> tuple[bytes, Library]:
    library = Library()
    reuse = Reuse(memoryview(bytearray(1000)))
    return b"".join(bytes(piece) for piece in own.stream("x", start, length, etag, reuse, library)), library


def test_a_range_is_asked_for_under_its_tag_and_nothing_of_the_library(connections_to):
    with a_store(gives(100, 5100)) as (url, heads):
        data, library = read(connections_to(url), 100, 5000)
    assert (data, library.asked) == (DATA[100:5100], [])
    assert "Range: bytes=100-5099\r\n" in heads[0]
    assert f'If-Match: "{TAG}"\r\n' in heads[0]


def test_a_connection_is_used_again(connections_to):
    with a_store(gives(0, 500)) as (url, _):
        own = connections_to(url)
        made: list[object] = []
        connect = own._connect
        own._connect = lambda address: made.append(address) or connect(address)
        assert [read(own, 0, 500)[0] for _ in range(3)] == [DATA[:500]] * 3
    assert len(made) == 1


@pytest.mark.parametrize(
    "answer",
    [
        says("403 Forbidden", b"<Code>AuthenticationFailed</Code>"),
        says("412 Precondition Failed", b""),
        says("503 Busy", b""),
        says("307 Elsewhere", b"", "Location: http://127.0.0.1:1/c/x"),
        says("200 OK", DATA, f'ETag: "{TAG}"'),
        gives(100, 5100, tag="0x8D2"),
        gives(101, 5101),
        gives(100, 5101),
        says("206 OK", DATA[100:5100], f'ETag: "{TAG}"'),
        says("206 OK", b"5\r\nabcde\r\n0\r\n\r\n", f'ETag: "{TAG}"', "Transfer-Encoding: chunked"),
        lambda connection, _: connection.sendall(b"SSH-2.0-OpenSSH\r\n"),
        lambda connection, _: connection.shutdown(socket.SHUT_RDWR),
    ],
    ids=[
        "403",
        "412",
        "503",
        "redirect",
        "all-for-a-part",
        "tag",
        "start",
        "more",
        "nameless",
        "chunked",
        "ssh",
        "hangs-up",
    ],
)
def test_an_answer_that_is_not_the_one_that_was_asked_for_is_not_used(answer, connections_to):
    with a_store(answer) as (url, heads):
        data, library = read(connections_to(url), 100, 5000)
    assert (data, library.asked) == (DATA[100:5100], [(100, 5000, TAG)])
    assert len(heads) == 1, "nobody was followed elsewhere"


def test_what_a_cut_connection_did_not_bring_is_asked_of_the_library(connections_to):
    def cut(connection: socket.socket, head: str) -> None:
        says(
            "206 OK",
            DATA[100:2222],
            f'ETag: "{TAG}"',
            f"Content-Range: bytes 100-5099/{len(DATA)}",
            length=5000,
            hang_up=True,
        )(connection, head)

    with a_store(cut) as (url, _):
        data, library = read(connections_to(url), 100, 5000)
    assert data == DATA[100:5100]
    assert library.asked == [(2222, 2878, TAG)]


def test_the_rest_of_an_object_is_that_of_the_same_object_though_nobody_named_its_tag(connections_to):
    with a_store(says("200 OK", DATA[:700], f'ETag: "{TAG}"', length=len(DATA), hang_up=True)) as (url, _):
        data, library = read(connections_to(url), 0, None, etag="")
    assert data == DATA
    assert library.asked == [(700, len(DATA) - 700, TAG)]


def test_an_object_without_a_tag_is_left_to_the_library(connections_to):
    with a_store(says("200 OK", DATA)) as (url, _):
        assert read(connections_to(url), 0, None, etag="")[1].asked == [(0, None, "")]


def test_an_object_that_ends_earlier_gives_fewer_bytes(connections_to):
    with a_store(gives(10_000, len(DATA))) as (url, _):
        data, library = read(connections_to(url), 10_000, 5000)
    assert (data, library.asked) == (DATA[10_000:], [])


def test_a_store_that_refuses_is_left_to_the_library_for_a_while(connections_to):
    with a_store(says("403 Forbidden", b"")) as (url, heads):
        own = connections_to(url)
        assert [read(own, 0, 10)[0] for _ in range(3)] == [DATA[:10]] * 3
        assert len(heads) == 1
        own._rests_until = 0.0
        read(own, 0, 10)
        assert len(heads) == 2


def test_an_object_that_changed_says_nothing_of_the_others(connections_to):
    with a_store(says("412 Precondition Failed", b"")) as (url, heads):
        own = connections_to(url)
        read(own, 0, 10)
        read(own, 0, 10)
        assert len(heads) == 2


def test_a_store_that_hung_up_meanwhile_is_asked_again_the_next_time(connections_to):
    with a_store(gives(0, 500, hang_up=True)) as (url, _):
        own = connections_to(url)
        assert [read(own, 0, 500)[1].asked for _ in range(3)] == [[], [(0, 500, TAG)], []]


def test_nobody_answers_and_nobody_can_sign(free_port, connections_to):
    def fail(_name, _headers):
        raise ValueError("sig=secret")

    for own in (connections_to(f"http://127.0.0.1:{free_port()}"), OwnConnections(fail)):
        assert read(own, 0, 10)[0] == DATA[:10]


def test_a_proxy_is_left_to_the_library(monkeypatch, free_port, connections_to):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    with a_store(gives(0, 10)) as (url, heads):
        assert read(connections_to(url), 0, 10)[1].asked == [(0, 10, TAG)]
        assert heads == []
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert read(connections_to(url), 0, 10)[1].asked == []


def self_signed(path: Path) -> Path:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "store")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*form))
    return path


def test_a_certificate_that_is_not_trusted_is_left_to_the_library(connections_to, tmp_path, monkeypatch):
    certificate = self_signed(tmp_path / "store.pem")
    with a_store(gives(0, 5000), certificate=certificate) as (url, heads):
        assert read(connections_to(url), 0, 5000)[1].asked == [(0, 5000, TAG)]
        assert heads == [], "nothing was asked of a stranger"
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        data, library = read(connections_to(url), 0, 5000)
    assert (data, library.asked) == (DATA[:5000], [])


def test_who_takes_no_more_leaves_no_connection_behind(connections_to):
    with a_store(gives(0, 5000)) as (url, _):
        own = connections_to(url)
        pieces = own.stream("x", 0, 5000, TAG, Reuse(memoryview(bytearray(100))), Library())
        assert bytes(next(pieces)) == DATA[:100]
        pieces.close()
        assert own._idle == []
        read(own, 0, 5000)
        own.close()
        assert own._idle == []


def test_what_a_request_was_signed_with_is_not_shown():
    request = SignedRequest("http://store/c/x?sig=secret", {"Authorization": "secret"})
    assert "secret" not in repr(request)
    assert "secret" not in repr(OwnConnections(lambda _name, _headers: request))
