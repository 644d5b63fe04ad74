"""The way to the hub: connections stay open, are replaced when the hub hung up, and go through a proxy where one is."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import urlsplit

import pytest

from insitu.agent.hub_link import HubLink
from insitu.domain.errors import AuthenticationError, UnreachableError


class Hub(ThreadingHTTPServer):
    """Answers every batch with 7, or as it is told; remembers who connected and what for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.connections: list[socket.socket] = []
        self.targets: list[str] = []
        self.status, self.answer = 200, b'{"acknowledged": 7}'

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def hang_up(self) -> None:
        for connection in self.connections:
            connection.shutdown(socket.SHUT_RDWR)


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self._hub = cast("Hub", self.server)
        self._hub.connections.append(self.connection)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self._hub.targets.append(self.path)
        self.send_response(self._hub.status)
        self.send_header("content-length", str(len(self._hub.answer)))
        self.end_headers()
        self.wfile.write(self._hub.answer)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def link(hub: Hub) -> Iterator[HubLink]:
    made = HubLink(hub.url + "/insitu/")
    yield made
    made.close()


def test_one_connection_serves_many_calls(hub, link):
    assert [link.send_events(b"{}") for _ in range(3)] == [7, 7, 7]
    assert len(hub.connections) == 1
    assert hub.targets == ["/insitu/agent/v1/events"] * 3


def test_a_connection_that_the_hub_closed_while_it_was_idle_is_replaced(hub, link):
    link.send_events(b"{}")
    hub.hang_up()
    assert link.send_events(b"{}") == 7
    assert len(hub.connections) == 2


def test_what_the_hub_refuses_is_said_as_it_says_it(hub, link):
    hub.status, hub.answer = 401, json.dumps({"what": "no such site", "code": "agent-unknown"}).encode()
    with pytest.raises(AuthenticationError) as refused:
        link.send_events(b"{}")
    assert (refused.value.what, refused.value.code) == ("no such site", "agent-unknown")


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_hub_that_fails_is_asked_again(hub, link, status):
    hub.status, hub.answer = status, b"<html>nothing that we said</html>"
    with pytest.raises(UnreachableError):
        link.send_events(b"{}")


def test_a_hub_that_is_away_did_not_answer():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with closing(HubLink(f"http://127.0.0.1:{port}")) as link, pytest.raises(UnreachableError) as away:
        link.send_events(b"{}")
    assert away.value.code == "hub-unreachable"


def test_a_proxy_of_the_environment_is_honoured(hub, monkeypatch):
    monkeypatch.setenv("http_proxy", hub.url)
    monkeypatch.setenv("no_proxy", "")
    with closing(HubLink("http://hub.example:7400")) as link:
        assert link.send_events(b"{}") == 7
    assert [urlsplit(target).hostname for target in hub.targets] == ["hub.example"]


def test_a_hub_that_the_environment_excepts_is_reached_without_the_proxy(hub, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with closing(HubLink(hub.url)) as link:
        assert link.send_events(b"{}") == 7
