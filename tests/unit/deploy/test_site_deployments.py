"""A site's deployments with real endpoint processes, and small real processes that stand for the model's.

The stand-in serves `/` with its revision and is ready as a file next to its model says,
so a test decides when it is. The real serving process in a real sandbox is in
test_in_a_sandbox.py.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest

from insitu.deploy.drivers.contract import Ended, Places, Running, Service, Status
from insitu.deploy.health import HealthRules
from insitu.deploy.one_deployment import AddressSettings
from insitu.deploy.site_deployments import SiteDeployments
from insitu.domain.deployments import DeploymentState, Desired, Observed, Problem, can_follow
from insitu.domain.digests import digest_of
from insitu.domain.errors import NotFoundError, UnavailableError

RULES = HealthRules(successes=2, failures=2, start_s=60, unhealthy_s=20, settle_s=30, restarts=2, probe_s=2)
HEALTHY, FAILED = DeploymentState.HEALTHY, DeploymentState.FAILED

STAND_IN = """
import http.server, os, socketserver, sys
folder, revision, ready = sys.argv[1:]
os.chdir(folder)  # the 108 bytes of a socket's address
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        is_ready = self.path != "/v2/health/ready" or os.path.exists(ready)
        self.send_response(200 if is_ready else 503)
        self.send_header("Content-Length", str(len(revision)))
        self.end_headers()
        self.wfile.write(revision.encode())
    def log_message(self, *_): pass
    def address_string(self): return ""
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    def get_request(self): return super().get_request()[0], ("", 0)
    def handle_error(self, *_): pass
Server("serve.sock", Handler).serve_forever()
"""


class ProcessDriver:
    """Runs stand-ins as children of the test, which so outlive a `SiteDeployments`."""

    def __init__(self) -> None:
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.started: list[str] = []
        self.refuses: UnavailableError | None = None

    def start(self, service: Service) -> None:
        if self.refuses is not None:
            raise self.refuses
        if isinstance(self.status(service.name), Running):
            return
        ready = service.places.model / f"ready-{service.desired.revision}"
        words = [str(service.folder), f"r{service.desired.revision}", str(ready)]
        self.processes[service.name] = subprocess.Popen([sys.executable, "-c", STAND_IN, *words])
        self.started.append(service.name)

    def status(self, name: str) -> Status:
        process = self.processes.get(name)
        if process is None:
            return None
        return Running() if process.poll() is None else Ended(Problem("serving-ended", f"code {process.returncode}"))

    def stop(self, name: str) -> None:
        if name in self.processes:
            self.processes[name].terminate()

    def destroy(self, name: str) -> None:
        process = self.processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()

    def names(self) -> frozenset[str]:
        return frozenset(self.processes)


@dataclass
class Clock:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Site:
    """A site whose agent may be restarted."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        self.folder, self.ports = folder, ports
        self.driver, self.clock = ProcessDriver(), Clock()
        self.models = folder / "models"
        self.models.mkdir()
        self.fetched: list[int] = []
        self.seen: list[Observed] = []
        self.start_agent()

    def start_agent(self) -> None:
        addresses = AddressSettings(ports=self.ports)
        self.parts = SiteDeployments(
            self.folder / "state",
            self.driver,
            self.prepare,
            prefix="insitu-leeds-",
            addresses=addresses,
            rules=RULES,
            clock=self.clock,
        )

    def prepare(self, desired: Desired) -> Places:
        if desired.model_name == "missing":
            raise NotFoundError("model missing is not at this site", code="model-not-here", hint="release it")
        self.fetched.append(desired.revision)
        return Places(self.folder, self.folder, self.folder, self.models)

    def make_ready(self, revision: int) -> None:
        (self.models / f"ready-{revision}").touch()

    def make_unready(self, revision: int) -> None:
        (self.models / f"ready-{revision}").unlink()

    def look(self, *desired: Desired) -> Observed:
        seen = self.parts.reconcile(desired)
        self.seen += seen
        return seen[0]

    def until(self, *desired: Desired, is_true: Callable[[Observed], object]) -> Observed:
        deadline = time.monotonic() + 30
        while not is_true(observed := self.look(*desired)):
            assert time.monotonic() < deadline, f"it never came true: {observed}"
            time.sleep(0.01)
        return observed

    def deploy(self, revision: int) -> Observed:
        self.make_ready(revision)
        return self.until(wanted(revision), is_true=lambda one: one.state is HEALTHY and one.serving == revision)

    def process_of(self, revision: int) -> subprocess.Popen[bytes]:
        (name,) = [name for name in self.driver.processes if name.endswith(f"-r{revision}")]
        return self.driver.processes[name]

    def revisions(self) -> list[int]:
        return sorted(int(name.rpartition("-r")[2]) for name in self.driver.processes)

    def answer(self, observed: Observed) -> tuple[int, str]:
        connection = http.client.HTTPConnection(observed.url.removeprefix("http://"), timeout=30)
        try:
            connection.request("GET", "/")
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def endpoint_pid(self) -> int:
        return json.loads((self.folder / "state/wards/record.json").read_text())["endpoint"]["pid"]


def wanted(revision: int, **more) -> Desired:
    digest = digest_of(b"")
    return replace(Desired("wards", revision, "screening", "3", digest, digest, digest, digest), **more)


@pytest.fixture
def site(tmp_path: Path, free_port) -> Iterator[Site]:
    made = Site(tmp_path, [free_port(), free_port()])
    yield made
    made.driver.refuses = None
    assert made.parts.stop_all(30)
    made.parts.close()
    assert not made.driver.processes
    assert not list((tmp_path / "state").iterdir())
    check_walk(made.seen)


def check_walk(seen: list[Observed]) -> None:
    """Every state that was reported can be reached from the one before it by the transitions."""
    for before, after in pairwise(seen):
        if before.revision == after.revision and before.state is not after.state:
            reached = pending = {before.state}
            while pending:
                pending = {s for p in pending for s in DeploymentState if can_follow(p, s)} - reached
                reached |= pending
            assert after.state in reached


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class TestRollout:
    def test_it_becomes_healthy_only_when_it_is_ready_and_then_answers(self, site):
        observed = site.until(wanted(1), is_true=lambda one: one.state is DeploymentState.STARTING)
        assert site.answer(observed)[0] == 503
        for _ in range(5):
            assert site.look(wanted(1)).state is DeploymentState.STARTING
        observed = site.deploy(1)
        assert site.answer(observed) == (200, "r1")
        assert observed.problem is None

    def test_asking_again_changes_nothing(self, site):
        site.deploy(1)
        pid, started = site.endpoint_pid(), list(site.driver.started)
        for _ in range(20):
            site.clock.now_s += 5
            assert site.look(wanted(1)).state is HEALTHY
        assert (site.endpoint_pid(), site.driver.started, site.fetched) == (pid, started, [1])

    def test_no_request_is_lost_while_one_revision_takes_over_from_another(self, site):
        first = site.deploy(1)
        answers = []

        def watch(one: Observed) -> bool:
            answers.append(site.answer(first))
            return one.state is HEALTHY and one.serving == 2 and site.revisions() == [2]

        site.make_ready(2)
        site.until(wanted(2), is_true=lambda one: watch(one) or self.later(site))
        assert {status for status, _ in answers} == {200}
        assert [text for text, _ in zip(["r1", "r2"], [0, 0], strict=True)] == list(
            dict.fromkeys(t for _, t in answers)
        )

    @staticmethod
    def later(site: Site) -> None:
        site.clock.now_s += 1

    def test_the_former_is_kept_until_the_new_one_has_settled(self, site):
        site.deploy(1)
        site.deploy(2)
        assert site.revisions() == [1, 2]
        site.clock.now_s += RULES.settle_s
        site.until(wanted(2), is_true=lambda _: site.revisions() == [2])

    def test_a_revision_that_never_gets_ready_fails_and_the_former_serves_on(self, site):
        former = site.deploy(1)
        site.until(wanted(2), is_true=lambda _: site.revisions() == [1, 2])
        site.clock.now_s += RULES.start_s
        observed = site.until(wanted(2), is_true=lambda one: one.state is FAILED and site.revisions() == [1])
        assert (observed.serving, observed.url, observed.problem and observed.problem.code) == (
            1,
            former.url,
            "not-ready",
        )
        assert site.answer(former) == (200, "r1")
        site.make_ready(2)
        assert site.look(wanted(2)).state is FAILED, "what was given up is not tried again"

    def test_a_revision_that_turns_bad_soon_after_the_switch_gives_the_address_back(self, site):
        site.deploy(1)
        site.deploy(2)
        site.make_unready(2)

        def later(one: Observed) -> bool:
            site.clock.now_s += 1
            return one.state is FAILED

        observed = site.until(wanted(2), is_true=later)
        assert observed.serving == 1
        assert site.answer(observed) == (200, "r1")

    def test_what_cannot_be_fetched_fails_with_its_reason_and_holds_no_port(self, site):
        observed = site.until(wanted(1, model_name="missing"), is_true=lambda one: one.state is FAILED)
        assert observed.problem == Problem("model-not-here", "model missing is not at this site", "release it")
        assert observed.url == ""
        assert site.driver.started == []

    def test_what_cannot_be_started_fails_with_its_reason(self, site):
        site.driver.refuses = UnavailableError("the sandbox could not be made", code="sandbox-not-made")
        observed = site.until(wanted(1), is_true=lambda one: one.state is FAILED)
        assert observed.problem
        assert observed.problem.code == "sandbox-not-made"


class TestAddress:
    def test_a_port_in_use_fails_before_anything_is_fetched_or_started(self, site):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            observed = site.until(wanted(1, port=port), is_true=lambda one: one.state is FAILED)
        assert observed.problem
        assert (observed.problem.code, bool(observed.problem.hint)) == ("port-in-use", True)
        assert (site.fetched, site.driver.started) == ([], [])

    def test_each_deployment_has_its_own_port_and_keeps_it(self, site):
        site.make_ready(1)
        both = [wanted(1), wanted(1, name="beds")]
        site.until(*both, is_true=lambda one: one.state is HEALTHY)
        urls = [one.url for one in site.parts.reconcile(both)]
        assert sorted(urls) == sorted(f"http://127.0.0.1:{port}" for port in site.ports)
        site.make_ready(2)
        site.until(wanted(2), both[1], is_true=lambda one: one.state is HEALTHY)
        assert [one.url for one in site.parts.reconcile([wanted(2), both[1]])] == urls

    def test_an_endpoint_that_was_killed_is_started_again_at_its_address(self, site):
        before = site.deploy(1)
        killed = site.endpoint_pid()
        os.kill(killed, signal.SIGKILL)

        def later(one: Observed) -> bool:
            site.clock.now_s += 5
            return one.state is HEALTHY and site.endpoint_pid() != killed

        after = site.until(wanted(1), is_true=later)
        assert after.url == before.url
        assert site.answer(after) == (200, "r1")


class TestService:
    def test_a_process_that_dies_is_started_anew_and_a_few_times_only(self, site):
        observed = site.deploy(1)
        site.clock.now_s += RULES.settle_s
        for _ in range(RULES.restarts):
            died = site.process_of(1)
            died.kill()
            died.wait()
            site.until(
                wanted(1), is_true=lambda one, died=died: one.state is HEALTHY and site.process_of(1) is not died
            )
            assert site.answer(observed) == (200, "r1")
        site.process_of(1).kill()
        observed = site.until(wanted(1), is_true=lambda one: one.state is FAILED)
        assert observed.serving is None
        assert observed.problem
        assert observed.problem.code == "serving-ended"

    def test_deaths_that_are_far_apart_are_not_added_up(self, site):
        observed = site.deploy(1)
        for _ in range(RULES.restarts + 2):
            site.clock.now_s += RULES.restart_window_s
            died = site.process_of(1)
            died.kill()
            died.wait()
            site.until(
                wanted(1), is_true=lambda one, died=died: one.state is HEALTHY and site.process_of(1) is not died
            )
        assert site.answer(observed) == (200, "r1")

    def test_one_that_no_longer_answers_is_unhealthy_then_healthy_again(self, site):
        site.deploy(1)
        site.clock.now_s += RULES.settle_s
        site.make_unready(1)

        def later(one: Observed) -> bool:
            site.clock.now_s += RULES.probe_s
            return one.state is DeploymentState.UNHEALTHY

        site.until(wanted(1), is_true=later)
        site.make_ready(1)
        site.until(wanted(1), is_true=lambda one: one.state is HEALTHY)
        assert len(site.driver.started) == 1


class TestRestartOfTheAgent:
    def test_what_runs_is_taken_up_and_nobody_notices(self, site):
        before = site.deploy(1)
        pid, process = site.endpoint_pid(), site.process_of(1)
        site.parts.close()
        assert site.answer(before) == (200, "r1"), "it serves while no agent runs"
        site.start_agent()
        after = site.until(wanted(1), is_true=lambda one: one.state is HEALTHY)
        assert (after.url, site.endpoint_pid(), site.process_of(1)) == (before.url, pid, process)
        assert site.fetched == [1]

    def test_a_rollout_that_was_under_way_is_finished(self, site):
        site.deploy(1)
        site.until(wanted(2), is_true=lambda _: site.revisions() == [1, 2])
        site.parts.close()
        site.start_agent()
        site.make_ready(2)
        observed = site.until(wanted(2), is_true=lambda one: one.state is HEALTHY)
        assert site.answer(observed) == (200, "r2")
        assert len(site.driver.started) == 2

    def test_what_failed_stays_failed(self, site):
        site.until(wanted(1, model_name="missing"), is_true=lambda one: one.state is FAILED)
        site.parts.close()
        site.start_agent()
        observed = site.look(wanted(1))
        assert observed.state is FAILED
        assert observed.problem
        assert observed.problem.code == "model-not-here"

    def test_what_was_deleted_meanwhile_is_ended(self, site):
        site.deploy(1)
        pid = site.endpoint_pid()
        site.parts.close()
        site.start_agent()
        assert site.parts.stop_all(30)
        assert (site.revisions(), is_gone(pid)) == ([], True)

    def test_a_service_that_nobody_noted_is_ended_and_a_strangers_is_not(self, site):
        site.deploy(1)
        (mine,) = site.driver.processes
        orphan = mine.rpartition("-r")[0] + "-r9"
        strangers = ["insitu-leeds-j-0123456789ab-1", "insitu-leeds-0123456789-0123456789-r1"]
        sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
        for name in [orphan, *strangers]:
            site.driver.processes[name] = subprocess.Popen(sleeper)
        site.parts.close()
        site.start_agent()
        assert set(site.driver.processes) == {mine, *strangers}
        for name in strangers:
            site.driver.destroy(name)

    def test_an_endpoint_that_nobody_noted_is_found(self, site):
        before = site.deploy(1)
        pid = site.endpoint_pid()
        site.parts.close()
        record = site.folder / "state/wards/record.json"
        fields = json.loads(record.read_text())
        record.write_text(json.dumps(fields | {"endpoint": None}))
        site.start_agent()
        after = site.until(wanted(1), is_true=lambda one: one.state is HEALTHY)
        assert (after.url, site.endpoint_pid()) == (before.url, pid)


class TestRemoval:
    def test_nothing_is_left(self, site):
        observed = site.deploy(1)
        pid = site.endpoint_pid()
        site.until(is_true=lambda one: one.state is DeploymentState.GONE)
        assert (site.revisions(), is_gone(pid), site.parts.reconcile([])) == ([], True, [])
        assert not (site.folder / "state/wards").exists()
        with pytest.raises(ConnectionRefusedError):
            site.answer(observed)

    def test_one_that_is_wanted_again_while_it_ends_comes_back(self, site):
        site.deploy(1)
        site.look()
        observed = site.deploy(1)
        assert site.answer(observed) == (200, "r1")

    def test_a_name_that_would_be_a_path_is_refused(self, site, tmp_path):
        observed = site.look(wanted(1, name="../out"))
        assert observed.problem
        assert observed.problem.code == "bad-name"
        assert not (tmp_path / "out").exists()
