"""A real endpoint process before real unix sockets."""

from __future__ import annotations

import hashlib
import http.client
import http.server
import json
import os
import signal
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from insitu.deploy.endpoint import EndpointState
from insitu.deploy.endpoint_process import EndpointProcess, find_endpoint, start_endpoint, take_address
from insitu.deploy.records import write_whole
from insitu.domain.errors import UnavailableError


class Revision(http.server.BaseHTTPRequestHandler):
    """Stands for a serving process: answers with its name and what it was asked."""

    protocol_version = "HTTP/1.1"
    server: RevisionServer  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.heads.append(str(self.headers))
        if self.path == "/half":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"only this")
            self.close_connection = True
            return
        if self.path == "/wait":
            self.server.waiting.set()
            assert self.server.go_on.wait(30)
        if self.path == "/last":
            self.close_connection = True  # without saying so: the next request meets a closed connection
        self.reply(self.server.name.encode())

    def do_POST(self) -> None:
        self.server.heads.append(str(self.headers))
        if self.headers["Transfer-Encoding"]:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(body)

    def reply(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...

    def address_string(self) -> str:
        return "unix"


class RevisionServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self.heads: list[str] = []
        self.connections: list[socket.socket] = []
        self.waiting, self.go_on = threading.Event(), threading.Event()
        super().__init__(os.path.relpath(path), Revision)  # the 108 bytes of an address are few below pytest's folders
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def get_request(self):
        sock, _ = super().get_request()
        self.connections.append(sock)
        return sock, ("unix", 0)

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        for sock in self.connections:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


@dataclass
class Endpoint:
    folder: Path
    process: EndpointProcess
    port: int
    state: EndpointState
    servers: list[RevisionServer] = field(default_factory=list)

    def revision(self, name: str) -> RevisionServer:
        """Start a revision and lead the address to it."""
        path = self.folder / name
        server = RevisionServer(path, name)
        self.servers.append(server)
        self.lead_to(path)
        return server

    def lead_to(self, path: Path | None) -> None:
        self.state = replace(self.state, upstream=path)
        write_whole(self.folder / "endpoint.json", self.state.to_json().encode())

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, path: str = "/", **headers: str) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            connection.request("GET", path, headers=headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Endpoint]:
    state = EndpointState("wards", **settings)
    write_whole(folder / "endpoint.json", state.to_json().encode())
    listener = take_address("127.0.0.1", 0, ())
    port = listener.getsockname()[1]
    process = start_endpoint(folder / "endpoint.json", listener, folder / "endpoint.log")
    endpoint = Endpoint(folder, process, port, state)
    try:
        yield endpoint
    finally:
        for server in endpoint.servers:
            server.go_on.set()
            server.end()
        process.stop()
        assert not process.alive()


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    with running(tmp_path) as started:
        yield started


def eventually(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


class TestForwarding:
    def test_a_kept_connection_follows_the_address_from_revision_to_revision(self, endpoint):
        endpoint.revision("r1")
        connection = endpoint.connect()
        heard = []
        for name in ("r2", "r3", None):
            for _ in range(3):
                connection.request("GET", "/")
                heard.append(connection.getresponse().read().decode())
            if name:
                endpoint.revision(name)
        assert heard == ["r1"] * 3 + ["r2"] * 3 + ["r3"] * 3
        connection.close()

    def test_connections_to_a_revision_are_used_again(self, endpoint):
        server = endpoint.revision("r1")
        for _ in range(10):
            assert endpoint.ask() == (200, b"r1")
        assert len(server.connections) == 1

    def test_bodies_pass_unchanged_whatever_their_size(self, endpoint):
        endpoint.revision("r1")
        connection = endpoint.connect()
        for size in (0, 1, 65536, 1 << 20, 24 << 20):
            body = os.urandom(1024) * (size // 1024) + os.urandom(size % 1024)
            connection.request("POST", "/", body)
            assert connection.getresponse().read() == body
        connection.close()

    def test_chunked_bodies_pass_unchanged(self, endpoint):
        endpoint.revision("r1")
        connection = endpoint.connect()
        parts = [os.urandom(size) for size in (1, 70000, 3, 1 << 20)]
        for _ in range(2):
            connection.request("POST", "/", iter(parts), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
            assert connection.getresponse().read() == b"".join(parts)
        connection.close()

    def test_requests_that_are_sent_all_at_once_are_answered_in_order(self, endpoint):
        endpoint.revision("r1")
        bodies = [b"first", b"", b"x" * 5000, b"last"]
        with socket.create_connection(("127.0.0.1", endpoint.port)) as caller:
            request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
            caller.sendall(b"".join(request % (len(body), body) for body in bodies))
            stream = caller.makefile("rb")
            for body in bodies:
                assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
                while stream.readline() != b"\r\n":
                    pass
                assert stream.read(len(body)) == body

    def test_many_callers_at_once_each_get_their_own_answer(self, endpoint):
        endpoint.revision("r1")
        wrong = []

        def call(number: int) -> None:
            connection = endpoint.connect()
            for turn in range(20):
                body = b"%d/%d" % (number, turn)
                connection.request("POST", "/", body)
                if connection.getresponse().read() != body:
                    wrong.append(body)
            connection.close()

        callers = [threading.Thread(target=call, args=(number,)) for number in range(16)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(30)
        assert not wrong

    def test_a_caller_who_waits_for_leave_to_send_gets_it(self, endpoint):
        endpoint.revision("r1")
        with socket.create_connection(("127.0.0.1", endpoint.port)) as caller:
            caller.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
            stream = caller.makefile("rb")
            assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
            caller.sendall(b"body")
            assert stream.readline() == b"\r\n"
            assert stream.readline() == b"HTTP/1.1 200 OK\r\n"


class TestTrouble:
    def test_without_a_healthy_revision_it_says_so_and_recovers(self, endpoint):
        status, body = endpoint.ask()
        assert status == 503
        assert json.loads(body)["error_code"] == "no-healthy-revision"
        endpoint.lead_to(endpoint.folder / "nobody-listens")
        assert endpoint.ask()[0] == 503
        endpoint.revision("r1")
        assert endpoint.ask() == (200, b"r1")

    def test_a_state_file_that_cannot_be_read_forwards_nothing(self, endpoint):
        endpoint.revision("r1")
        assert endpoint.ask()[0] == 200
        (endpoint.folder / "endpoint.json").write_text("{")
        assert endpoint.ask()[0] == 503

    def test_half_an_answer_never_looks_like_a_whole_one(self, endpoint):
        endpoint.revision("r1")
        connection = endpoint.connect()
        connection.request("GET", "/half")
        reply = connection.getresponse()
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            reply.read()
        reply.close()
        connection.close()
        assert endpoint.ask() == (200, b"r1")

    def test_a_pooled_connection_that_was_closed_costs_no_request(self, endpoint):
        server = endpoint.revision("r1")
        for _ in range(20):
            assert endpoint.ask("/last") == (200, b"r1")
        assert len(server.connections) == 20

    def test_a_revision_that_ends_answers_what_it_has_and_then_is_not_asked(self, endpoint):
        server = endpoint.revision("r1")
        connection = endpoint.connect()
        connection.request("GET", "/wait")
        assert server.waiting.wait(30)
        endpoint.revision("r2")
        assert endpoint.ask() == (200, b"r2")
        server.go_on.set()
        assert connection.getresponse().read() == b"r1"
        connection.close()

    @pytest.mark.parametrize(
        ("raw", "status"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20000 + b"\r\n\r\n", 431),
            (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        ],
    )
    def test_what_is_no_proper_request_ends_the_connection(self, endpoint, raw, status):
        server = endpoint.revision("r1")
        with socket.create_connection(("127.0.0.1", endpoint.port)) as caller:
            caller.sendall(raw)
            reply = http.client.HTTPResponse(caller)
            reply.begin()
            assert reply.status == status
            assert json.loads(reply.read())["error_code"] == "bad-request"
            assert caller.recv(1) == b""
        assert endpoint.ask() == (200, b"r1")
        assert len(server.heads) <= 2


class TestAttacks:
    def test_a_link_in_the_sockets_place_leads_nowhere(self, endpoint):
        """The served process may write to the folder of its socket; the agent's own sockets are near."""
        inner = endpoint.revision("console")
        link = endpoint.folder / "r1"
        link.symlink_to(endpoint.folder / "console")
        endpoint.lead_to(link)
        assert endpoint.ask()[0] == 503
        assert not inner.heads

    def test_a_smuggled_request_reaches_nobody(self, endpoint):
        server = endpoint.revision("r1")
        with socket.create_connection(("127.0.0.1", endpoint.port)) as caller:
            caller.sendall(
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding : chunked\r\n\r\n"
                b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
            )
            while caller.recv(65536):
                pass
        assert not server.heads


class TestTokens:
    @pytest.fixture
    def guarded(self, tmp_path: Path) -> Iterator[Endpoint]:
        tokens = tmp_path / "tokens"
        tokens.write_text(hashlib.sha256(b"s3cret").hexdigest() + "\n")
        with running(tmp_path, tokens=tokens) as started:
            yield started

    @pytest.mark.parametrize("header", [None, "Bearer", "Bearer ", "Bearer s3cre", "Basic s3cret", "s3cret"])
    def test_who_shows_no_listed_token_gets_nothing(self, guarded, header):
        server = guarded.revision("r1")
        status, body = guarded.ask(**({"Authorization": header} if header is not None else {}))
        assert status == 401
        assert json.loads(body)["error_code"] == "not-authenticated"
        assert not server.heads

    def test_a_listed_token_opens_and_is_not_passed_on(self, guarded):
        server = guarded.revision("r1")
        assert guarded.ask(Authorization="Bearer s3cret") == (200, b"r1")
        assert "s3cret" not in server.heads[0]

    def test_a_token_that_is_taken_off_the_list_opens_no_more(self, guarded):
        guarded.revision("r1")
        write_whole(guarded.folder / "tokens", hashlib.sha256(b"another").hexdigest().encode())
        assert guarded.ask(Authorization="Bearer s3cret")[0] == 401
        assert guarded.ask(Authorization="Bearer another")[0] == 200

    def test_a_list_that_cannot_be_read_lets_nobody_in(self, guarded):
        guarded.revision("r1")
        (guarded.folder / "tokens").unlink()
        assert guarded.ask(Authorization="Bearer s3cret")[0] == 401


def test_with_a_certificate_it_speaks_tls_and_nothing_else(tmp_path):
    certificate, key = self_signed(tmp_path)
    with running(tmp_path, certificate=certificate, key=key) as endpoint:
        endpoint.revision("r1")
        context = ssl.create_default_context(cafile=str(certificate))
        connection = http.client.HTTPSConnection("localhost", endpoint.port, timeout=30, context=context)
        for _ in range(3):
            connection.request("POST", "/", b"x" * 300_000)
            assert connection.getresponse().read() == b"x" * 300_000
        connection.close()
        with pytest.raises((http.client.BadStatusLine, ConnectionResetError)):
            endpoint.ask()


def test_no_request_is_logged(endpoint):
    endpoint.revision("r1")
    connection = endpoint.connect()
    connection.request("POST", "/p-4711?q=4711", b"4711" * 1000)
    connection.getresponse().read()
    connection.close()
    endpoint.lead_to(None)
    endpoint.ask("/p-4711")
    assert (endpoint.folder / "endpoint.log").read_bytes() == b""


class TestProcess:
    def test_a_hang_up_does_not_end_it(self, endpoint):
        endpoint.revision("r1")
        assert endpoint.ask()[0] == 200  # so its handlers are in place
        os.kill(endpoint.process.record.pid, signal.SIGHUP)
        assert endpoint.ask() == (200, b"r1")

    def test_the_end_waits_for_open_answers(self, endpoint):
        server = endpoint.revision("r1")
        connection = endpoint.connect()
        connection.request("GET", "/wait")
        assert server.waiting.wait(30)
        ending = threading.Thread(target=endpoint.process.stop)
        ending.start()
        eventually(lambda: self.is_refused(endpoint))
        server.go_on.set()
        reply = connection.getresponse()
        assert (reply.read(), reply.headers["connection"]) == (b"r1", "close")
        connection.close()
        ending.join(30)
        assert not endpoint.process.alive()

    @staticmethod
    def is_refused(endpoint: Endpoint) -> bool:
        try:
            socket.create_connection(("127.0.0.1", endpoint.port)).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return True
        return False

    def test_it_is_known_again_by_number_and_start(self, endpoint):
        again = EndpointProcess(endpoint.process.record)
        assert again.alive()
        found = find_endpoint(endpoint.folder / "endpoint.json")
        assert found is not None
        assert found.record == endpoint.process.record
        assert find_endpoint(endpoint.folder / "another.json") is None

    def test_a_number_that_was_given_to_another_process_is_left_alone(self, endpoint):
        record = endpoint.process.record
        for other in (replace(record, ticks=record.ticks + 1), replace(record, boot="another")):
            stranger = EndpointProcess(other)
            assert not stranger.alive()
            stranger.stop()
        assert endpoint.process.alive()

    def test_a_port_in_use_is_said_before_anything_is_started(self, endpoint):
        with pytest.raises(UnavailableError) as caught:
            take_address("127.0.0.1", endpoint.port, ())
        assert caught.value.code == "port-in-use"
        assert str(endpoint.port) in caught.value.what
        assert caught.value.hint

    def test_the_first_free_port_of_the_range_is_chosen(self, endpoint, free_port):
        free = free_port()
        with take_address("127.0.0.1", None, [endpoint.port, free]) as listener:
            assert listener.getsockname()[1] == free
        with pytest.raises(UnavailableError):
            take_address("127.0.0.1", None, [endpoint.port])


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file
