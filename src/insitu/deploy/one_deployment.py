"""One deployment of a site: looks at what is, takes steps, says what is.

What can't be found out by looking is in its record, which is written before each step
that depends on it; the rest (results of probes, fetches under way) is only known here
and is found out again after a restart.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from insitu.deploy import plan as steps
from insitu.deploy.drivers.contract import SOCKET, Driver, Ended, Places, Running, Service, ServiceNames
from insitu.deploy.endpoint import EndpointState
from insitu.deploy.endpoint_process import EndpointProcess, find_endpoint, start_endpoint, take_address
from insitu.deploy.health import Health, HealthRules, Verdict, probe
from insitu.deploy.plan import Facts, Instance
from insitu.deploy.records import InstanceRecord, read_record, write_record, write_whole
from insitu.domain.deployments import DeploymentState, Desired, Observed, Problem
from insitu.domain.errors import InsituError, UnavailableError

_ROUNDS = 8  # more than any deployment needs at once; a fault in the plan must not spin
_KEPT_FAILURES = 20
_ADDRESS_AGAIN_S = 5.0  # between two starts of an endpoint


@dataclass(frozen=True)
class AddressSettings:
    """How deployments are reached at this site."""

    host: str = "127.0.0.1"
    ports: Sequence[int] = range(8000, 8011)
    """Chosen from when a deployment names no port."""
    certificate: Path | None = None
    key: Path | None = None
    tokens: Path | None = None
    """A file with the SHA-256, in hex, of each bearer token that may ask; None: everybody may."""

    def url(self, port: int) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{port}"


@dataclass(frozen=True)
class Surroundings:
    """What all deployments of a site share."""

    driver: Driver
    prepare: Callable[[Desired], Places]
    names: ServiceNames
    addresses: AddressSettings
    rules: HealthRules
    clock: Callable[[], float]
    threads: ThreadPoolExecutor


class OneDeployment:
    """A deployment by its folder: a fresh one, or one that an earlier process left."""

    def __init__(self, folder: Path, around: Surroundings) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder = folder
        self._around = around
        self._record = read_record(folder / "record.json", folder.name)
        self._endpoint = EndpointProcess(self._record.endpoint) if self._record.endpoint else None
        self._fetches: dict[int, Future[Places]] = {}
        self._health: dict[int, Health] = {}
        self._probed_at_s: dict[int, float] = {}
        self._address_tried_at_s = float("-inf")
        self._trouble: Problem | None = None  # what hinders it now and may pass by itself
        self.removed = False
        self._take_up()

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def services(self) -> frozenset[str]:
        return frozenset(one.service for one in self._record.instances.values())

    def advance(self, desired: Desired | None) -> Observed:
        """Take the steps that can be taken now, and say what is."""
        self._trouble = None
        if desired is not None:
            self._record.wanted = desired.revision
            self._record.asked[desired.revision] = desired
        for _ in range(_ROUNDS):
            todo = steps.plan(desired, self._look(), self._around.rules)
            if not todo or not all(self._take(step) for step in todo):
                break
        return self._observed(desired)

    # -- what is

    def _take_up(self) -> None:
        record, now = self._record, self._around.clock()
        # After a reboot the clock has begun anew; then nothing of it runs either.
        record.switched_at_s = min(record.switched_at_s, now)
        for revision, one in record.instances.items():
            started = min(one.started_at_s, now)
            self._health[revision] = Health(started, good_since_s=now if one.was_good else None)

    def _look(self) -> Facts:
        record = self._record
        if self._endpoint is not None and not self._endpoint.alive():
            self._endpoint.stop()
            self._endpoint = None
        instances = [self._fetching(revision) for revision in sorted(self._fetches)]
        instances += [self._instance(revision) for revision in sorted(record.instances)]
        return Facts(
            instances=tuple(instances),
            endpoint=self._endpoint is not None,
            port=record.port,
            serving=record.serving,
            switched_s_ago=self._around.clock() - record.switched_at_s,
            failed=frozenset(record.failed),
        )

    def _fetching(self, revision: int) -> Instance:
        future, restarts = self._fetches[revision], self._record.restarts.get(revision, 0)
        if not future.done():
            return Instance(revision, "fetching", restarts=restarts, was_good=restarts > 0)
        error = future.exception()
        if error is None:
            return Instance(revision, "fetched", restarts=restarts, was_good=restarts > 0)
        return Instance(revision, "ended", restarts=restarts, was_good=restarts > 0, problem=_problem(error))

    def _instance(self, revision: int) -> Instance:
        one = self._record.instances[revision]
        status, restarts = self._around.driver.status(one.service), self._restarts(one)
        if isinstance(status, Running):
            phase = "stopping" if one.stopping else "running"
            return Instance(revision, phase, self._verdict(revision), was_good=one.was_good, restarts=restarts)
        if one.stopping:
            return Instance(revision, "stopped", was_good=one.was_good, restarts=restarts)
        lost = Problem("lost", "the serving process is gone and nobody saw it end")
        problem = status.problem if isinstance(status, Ended) else lost
        return Instance(revision, "ended", was_good=one.was_good, restarts=restarts, problem=problem)

    def _restarts(self, one: InstanceRecord) -> int:
        ran_s = self._around.clock() - one.started_at_s
        return one.restarts if ran_s < self._around.rules.restart_window_s else 0

    def _verdict(self, revision: int) -> Verdict:
        rules, now, health = self._around.rules, self._around.clock(), self._health[revision]
        # A good one is asked now and then, one that isn't at every look: the first wants to be found good soon.
        pause_s = rules.probe_s if health.in_a_row > 0 and health.verdict(now, rules) is Verdict.GOOD else 0.0
        last = self._probed_at_s.get(revision)
        if last is None or now - last >= pause_s:
            self._probed_at_s[revision] = now
            ready = probe(self._socket(revision), rules.probe_s)
            health = self._health[revision] = health.after(ready=ready, now_s=now, rules=rules)
        return health.verdict(now, rules)

    def _observed(self, desired: Desired | None) -> Observed:
        record = self._record
        revision = desired.revision if desired is not None else record.wanted
        record.state = self._state(desired, revision)
        running = self._endpoint is not None and record.port is not None
        return Observed(
            name=record.name,
            revision=revision,
            state=record.state,
            url=self._around.addresses.url(record.port) if running and record.port else "",
            serving=record.serving,
            problem=record.failed.get(revision) or self._trouble,
        )

    def _state(self, desired: Desired | None, revision: int) -> DeploymentState:
        record = self._record
        if desired is None:
            return DeploymentState.GONE if self.removed else DeploymentState.STOPPING
        if revision in record.failed:
            return DeploymentState.FAILED
        if revision in self._fetches:
            return DeploymentState.FETCHING
        one = record.instances.get(revision)
        if one is None:
            return DeploymentState.PENDING
        verdict = self._health[revision].verdict(self._around.clock(), self._around.rules)
        if verdict is Verdict.GOOD and record.serving == revision and self._endpoint is not None:
            return DeploymentState.HEALTHY
        return DeploymentState.UNHEALTHY if one.was_good else DeploymentState.STARTING

    # -- steps

    def _take(self, step: steps.Step) -> bool:
        """Take one step; False when the others must wait for another call."""
        record = self._record
        match step:
            case steps.TakeAddress(port):
                if not self._take_address(port):
                    return False
            case steps.LeaveAddress():
                self._leave_address()
            case steps.Fetch(revision):
                asked = record.asked[revision]
                self._fetches[revision] = self._around.threads.submit(self._around.prepare, asked)
            case steps.Start(revision):
                self._start(revision)
            case steps.Switch(revision):
                self._switch(revision)
            case steps.Stop(revision):
                record.instances[revision].stopping = True
                self._around.driver.stop(record.instances[revision].service)
            case steps.Forget(revision):
                self._forget(revision)
            case steps.GiveUp(revision, problem):
                record.failed = dict([*record.failed.items(), (revision, problem)][-_KEPT_FAILURES:])
            case steps.Remove():
                shutil.rmtree(self._folder)
                self.removed = True
                return False
        self._note()
        return True

    def _take_address(self, port: int | None) -> bool:
        """Own the address before anything is started for it; a port that can't be had ends it here."""
        around, record = self._around, self._record
        state = self._folder / "endpoint.json"
        if self._endpoint is None:
            self._endpoint = find_endpoint(state)
        if self._endpoint is not None and port in (None, record.port):
            record.endpoint = self._endpoint.record
            return True
        now = around.clock()
        if self._endpoint is None and now - self._address_tried_at_s < _ADDRESS_AGAIN_S:
            self._trouble = Problem("endpoint-ended", "the endpoint ended soon after its start", "see endpoint.log")
            return False
        self._address_tried_at_s = now
        try:
            listener = take_address(around.addresses.host, port, around.addresses.ports)
        except UnavailableError as error:
            self._no_address(_problem(error))
            return False
        if self._endpoint is not None:
            self._endpoint.stop()
        record.port = listener.getsockname()[1]
        self._note()
        self._write_endpoint_state()
        self._endpoint = start_endpoint(state, listener, self._folder / "endpoint.log")
        record.endpoint = self._endpoint.record
        return True

    def _no_address(self, problem: Problem) -> None:
        self._trouble = problem
        # Where something has been served before, the port may come back: it is tried again and again.
        if self._record.serving is None:
            self._record.failed[self._record.wanted] = problem
            self._note()

    def _leave_address(self) -> None:
        if self._endpoint is not None:
            self._endpoint.stop()
        self._endpoint = None
        self._address_tried_at_s = float("-inf")  # it was ended on purpose
        self._record.endpoint = None

    def _start(self, revision: int) -> None:
        record, around = self._record, self._around
        places = self._fetches[revision].result()
        socket_folder = self._socket(revision).parent
        shutil.rmtree(socket_folder, ignore_errors=True)
        socket_folder.mkdir(mode=0o700)
        service = Service(around.names.of(record.name, revision), record.asked[revision], places, socket_folder)
        if around.driver.status(service.name) is not None:
            around.driver.destroy(service.name)  # what is left of an earlier start of this revision
        now, restarts = around.clock(), record.restarts.get(revision, 0)
        record.instances[revision] = InstanceRecord(service.name, now, was_good=restarts > 0, restarts=restarts)
        self._health[revision] = Health(now)
        self._note()  # before the start: one that nobody remembers could never be stopped
        del self._fetches[revision]
        try:
            around.driver.start(service)
        except InsituError as error:
            around.driver.destroy(service.name)
            record.failed[revision] = _problem(error)

    def _switch(self, revision: int | None) -> None:
        record = self._record
        record.serving, record.switched_at_s = revision, self._around.clock()
        if revision is not None:
            record.instances[revision].was_good = True
        # The record first: an endpoint that leads elsewhere than it says would outlive what it leads to.
        self._note()
        self._write_endpoint_state()

    def _forget(self, revision: int) -> None:
        record = self._record
        future = self._fetches.pop(revision, None)
        if future is not None:
            future.cancel()
        one = record.instances.pop(revision, None)
        record.restarts.pop(revision, None)
        if one is not None:
            self._around.driver.destroy(one.service)
            shutil.rmtree(self._socket(revision).parent, ignore_errors=True)
            if one.was_good:
                record.restarts[revision] = self._restarts(one) + 1
        if revision not in (record.wanted, record.serving):
            record.asked.pop(revision, None)
            record.restarts.pop(revision, None)
        self._health.pop(revision, None)
        self._probed_at_s.pop(revision, None)

    def _socket(self, revision: int) -> Path:
        return self._folder / f"r{revision}" / SOCKET

    def _write_endpoint_state(self) -> None:
        serving, addresses = self._record.serving, self._around.addresses
        state = EndpointState(
            name=self._record.name,
            upstream=self._socket(serving) if serving is not None else None,
            revision=serving,
            certificate=addresses.certificate,
            key=addresses.key,
            tokens=addresses.tokens,
        )
        write_whole(self._folder / "endpoint.json", state.to_json().encode())

    def _note(self) -> None:
        write_record(self._folder / "record.json", self._record)


def _problem(error: BaseException) -> Problem:
    """An error as it may be reported to the hub: of ours its code and words, of others the type alone."""
    if isinstance(error, InsituError):
        return Problem(error.code, error.what[:500], error.hint[:500])
    return Problem("failed-to-fetch", f"fetching failed: {type(error).__name__}", "see the agent's log")
