"""The hub as a process: it says when it answers, and ends as it is told."""

import json
import os
import signal
import socket
import subprocess
import sys

import httpx
import pytest

LIMIT_S = 60


@pytest.fixture
def start(tmp_path):
    """Start a hub and read its ready line; what still runs at the end is killed."""
    running = []

    def run(*arguments):
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "insitu.hub.main", "--data", str(tmp_path / "hub"), *arguments]
        process = subprocess.Popen(
            [*command, "--ready-fd", str(writing)], pass_fds=[writing], stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        os.close(writing)
        with os.fdopen(reading) as stream:
            line = stream.readline()
        return process, json.loads(line) if line else {}

    yield run
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_a_hub_says_where_it_answers_and_ends_in_order(start, by):
    process, ready = start("--port", "0")
    assert (ready["ready"], ready["pid"]) == (True, process.pid)
    assert httpx.get(f"{ready['url']}/healthz", timeout=LIMIT_S).json() == {"status": "ok"}
    with open(ready["admin_token_file"]) as file:  # noqa: PTH123
        token = file.read().strip()
    who = httpx.get(f"{ready['url']}/api/v1/whoami", headers={"Authorization": f"Bearer {token}"}, timeout=LIMIT_S)
    assert who.json()["role"] == "admin"
    process.send_signal(by)
    _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said
    assert token not in said


def test_a_port_in_use_is_said_before_anything_is_opened(start, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process, ready = start("--port", str(taken.getsockname()[1]))
        _, said = process.communicate(timeout=LIMIT_S)
    assert (process.returncode, ready) == (1, {})
    assert "error[port-in-use]" in said
    assert "--port" in said
    assert not (tmp_path / "hub").exists()


def test_a_hub_that_was_killed_starts_again_with_all_that_it_acknowledged(start):
    process, ready = start("--port", "0")
    with open(ready["admin_token_file"]) as file:  # noqa: PTH123
        headers = {"Authorization": f"Bearer {file.read().strip()}"}
    for number in range(5):
        reply = httpx.post(
            f"{ready['url']}/api/v1/sites", json={"name": f"s{number}"}, headers=headers, timeout=LIMIT_S
        )
        assert reply.status_code == 201
    process.kill()
    process.wait(LIMIT_S)
    _, ready = start("--port", "0")
    sites = httpx.get(f"{ready['url']}/api/v1/sites", headers=headers, timeout=LIMIT_S).json()["items"]
    assert [site["name"] for site in sites] == [f"s{number}" for number in range(5)]
