"""A real hub, a real site and the people around them, for tests that play a job's journey.

    with running_world(tmp_path, base_layout) as world:
        job = world.alice.submit(world.job_folder(SCRIPT) / "job.yaml")

Hub and agent are processes on loopback, ended by their process ids. Packages and
locks are cached across runs, since fetching them is not what these tests are about.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sklearn.datasets import load_breast_cancer

from insitu.agent.catalogue import add_dataset
from insitu.agent.console import call_console
from insitu.agent.datastores import add_datastore
from insitu.agent.folder import SiteFolder
from insitu.agent.init import init_site
from insitu.agent.settings import AgentSettings
from insitu.domain.jobs import is_final
from insitu.sdk.client import Client
from insitu.sdk.config import Login
from insitu.testing.builders import a_policy_text
from insitu.wire.keys import SigningKey
from insitu.wire.ledger import verify
from insitu.wire.people import JobView, Role
from tests.services import cache_folder

_READY_S = 60.0
_STOP_S = 15.0

JOB = """
type: command
display_name: test
experiment_name: tests
compute: leeds
code: .
command: {command}
environment: {{requirements: requirements.txt}}
inputs:
  patients: {{type: dataset, dataset: wdbc@1}}
outputs: {outputs}
metrics: [auc, training_*]
resources: {{cpus: 1, memory: 1GiB}}
limits: {{timeout: {timeout}}}
retries: {retries}
tags: {{purpose: screening}}
"""


class Process:
    """One of ours, started so that it says when it is ready, and ended by its process id."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        log: Path,
        environment: dict[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        reading, writing = os.pipe()
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [*within, sys.executable, "-m", module, *arguments, "--ready-fd", str(writing)],
                pass_fds=[writing],
                stdout=out,
                stderr=out,
                env={**os.environ, **(environment or {})},
            )
        os.close(writing)
        with os.fdopen(reading) as stream:
            line = stream.readline()
        if not line:
            self.kill()
            raise AssertionError(f"{module} did not start:\n{log.read_text()[-4000:]}")
        self.ready: dict[str, Any] = json.loads(line)

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(_STOP_S)

    def kill(self) -> None:
        """SIGKILL: nothing of it gets to say a last word."""
        self._process.kill()
        self._process.wait(_STOP_S)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None


@dataclass
class World:
    """A hub with one site, `leeds`, that has the dataset `wdbc`."""

    folder: Path
    hub: Process
    keys: dict[str, SigningKey]
    clients: dict[str, Client]
    site: SiteFolder
    base: str
    sandbox: str
    within: Sequence[str] = ()
    """What the agent is started by, e.g. nsenter; it must become the agent."""
    agent: Process | None = None
    _jobs: int = field(default=0)

    @property
    def url(self) -> str:
        return str(self.hub.ready["url"])

    @property
    def alice(self) -> Client:
        """The data scientist."""
        return self.clients["alice"]

    @property
    def eng(self) -> Client:
        """The ML engineer."""
        return self.clients["eng"]

    # -- site ----------------------------------------------------------------------------------------------------------

    def start_agent(self) -> Process:
        self.agent = Process(
            "insitu.agent.main", "--dir", str(self.site.root), log=self.folder / "agent.log", within=self.within
        )
        return self.agent

    def stop_agent(self) -> None:
        if self.agent is not None and self.agent.alive:
            assert self.agent.stop() == 0, self.agent.log.read_text()[-2000:]

    def console(self, call: str, **arguments: Any) -> Any:
        return call_console(self.site.console, call, **arguments)

    def write_policy(self, **changes: str) -> None:
        """The site's policy: alice trains on wdbc, eng deploys, jo reviews. `changes` replace sections."""
        people = {name: self.keys[name].fingerprint for name in ("alice", "eng")}
        sections = {
            "signers": json.dumps(people),
            "bases": json.dumps([self.base]),
            "deployments": "{signers: [eng], max: 3, ports: 18000-18010, memory: 2GiB}",
        }
        self.site.policy.write_text(a_policy_text(self.keys["alice"], reviewer=self.keys["jo"], **(sections | changes)))

    def ledger_entries(self) -> list[dict[str, Any]]:
        with self.site.ledger.open("rb") as stream:
            verify(stream)
        return [json.loads(line) for line in self.site.ledger.read_bytes().splitlines()]

    # -- jobs ----------------------------------------------------------------------------------------------------------

    def job_folder(
        self,
        script: str,
        *,
        requirements: str = "six==1.17.0\n",
        command: str = "python train.py",
        outputs: str = "{}",
        timeout: str = "2m",
        retries: int = 0,
    ) -> Path:
        self._jobs += 1
        folder = self.folder / f"job-{self._jobs}"
        folder.mkdir()
        (folder / "train.py").write_text(script)
        (folder / "requirements.txt").write_text(requirements)
        text = JOB.format(command=command, outputs=outputs, timeout=timeout, retries=retries)
        (folder / "job.yaml").write_text(text)
        return folder

    def run(self, script: str, *, timeout_s: float = 90, **fields: Any) -> JobView:
        """Submit a script and wait until it is final or held."""
        job = self.alice.submit(self.job_folder(script, **fields) / "job.yaml")
        return self.alice.wait(job.id, timeout_s=timeout_s)

    def wait_for_state(self, job_id: str, *states: str, timeout_s: float = 60) -> JobView:
        return self.wait_until(
            lambda: job if (job := self.alice.job(job_id)).state in states else None,
            timeout_s=timeout_s,
            what=lambda: f"{job_id} is {self.alice.job(job_id).state}, not {states}",
        )

    def wait_until(
        self, question: Callable[[], Any], *, timeout_s: float = 60, what: Callable[[], str] = lambda: "in vain"
    ) -> Any:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if answer := question():
                return answer
            time.sleep(0.02)
        raise AssertionError(what() + "\n" + self.logs())

    def log_text(self, job_id: str) -> str:
        return "\n".join(line.text for line in self.alice.logs(job_id))

    def logs(self) -> str:
        tails = [
            path.read_text()[-3000:] for path in (self.folder / "hub.log", self.folder / "agent.log") if path.exists()
        ]
        return "\n".join(tails)


@contextlib.contextmanager
def running_world(
    folder: Path,
    base_layout: Path,
    *,
    sandbox: str = "bubblewrap",
    docker_socket: Path = Path("/var/run/docker.sock"),
    database_url: str = "",
    hub: tuple[str, ...] = (),
    within: Sequence[str] = (),
    site_cache: Path | None = None,
    between: Callable[[str], str] = lambda url: url,
) -> Iterator[World]:
    """A hub, a site that has joined, its agent started; all ended afterwards.

    `between` gives the address at which the site finds the hub, for what stands between them.
    """
    hub_process = Process(
        "insitu.hub.main",
        *("--data", str(folder / "hub"), "--port", "0", "--base-layout", str(base_layout)),
        # Kept across runs as the site's cache is, unless a test is about packages on their way.
        *(() if site_cache else ("--wheel-store", str(hub_wheels()))),
        *hub,
        log=folder / "hub.log",
        environment={"INSITU_HUB_DATABASE_URL": database_url},
    )
    world: World | None = None
    try:
        world = _world(folder, hub_process, base_layout, sandbox, docker_socket, site_cache, between)
        world.within = within
        world.start_agent()
        world.wait_until(lambda: world.alice.site("leeds").link == "online" and world.alice.datasets())
        yield world
    finally:
        if world is not None:
            _end(world)
            hub_process = world.hub  # a test may have started another one
        if hub_process.alive:
            hub_process.stop()


def hub_wheels() -> Path:
    """Where the hubs of tests and benches keep their wheels."""
    return cache_folder() / "hub-wheels"


def _world(
    folder: Path,
    hub: Process,
    base_layout: Path,
    sandbox: str,
    docker_socket: Path,
    site_cache: Path | None,
    between: Callable[[str], str],
) -> World:
    url = str(hub.ready["url"])
    keys = {name: SigningKey.generate() for name in ("admin", "alice", "eng", "jo")}
    cache = cache_folder()

    def client(name: str, token: str) -> Client:
        return Client(Login(url, token), keys[name], cache=cache)

    admin = client("admin", Path(hub.ready["admin_token_file"]).read_text().strip())
    clients = {"admin": admin}
    for name, role in (("alice", Role.DATA_SCIENTIST), ("eng", Role.ML_ENGINEER), ("jo", Role.STEWARD)):
        clients[name] = client(name, admin.create_token(name, role).token)
        clients[name].register_key()
    settings = AgentSettings(
        hub=between(url),
        base_layout=str(base_layout),
        sandbox=sandbox,  # type: ignore[arg-type]
        docker_socket=str(docker_socket),
        cache=str(site_cache or cache / "site-cache"),
    )
    joined = init_site(folder / "site", settings, clients["jo"].create_site("leeds").join_token)
    site = SiteFolder(folder / "site")
    world = World(folder, hub, keys, clients, site, joined.base, sandbox)
    world.write_policy()
    _add_data(folder, site)
    return world


def wdbc_table() -> Any:
    """The Breast Cancer Wisconsin (diagnostic) table, with the column `malignant` that the example trains on."""
    bunch: Any = load_breast_cancer(as_frame=True)
    table = bunch.frame
    table["malignant"] = 1 - table.pop("target")
    return table


def _add_data(folder: Path, site: SiteFolder) -> None:
    (folder / "data").mkdir()
    wdbc_table().to_csv(folder / "data" / "wdbc.csv", index=False)
    add_datastore(site, "private", str(folder / "data"))
    gid = AgentSettings(hub="http://127.0.0.1").gate_gid if os.geteuid() == 0 else None
    add_dataset(site, "wdbc", datastore="private", pattern="*.csv", gate_gid=gid)


def _end(world: World) -> None:
    """Cancel what still runs, so that no sandbox outlives the test; then the agent."""
    with contextlib.suppress(Exception):
        for deployment in world.eng.deployments():
            world.eng.delete_deployment(deployment.name)
        for job in world.alice.jobs():
            if not is_final(job.state):
                world.alice.cancel(job.id)
        if world.agent is not None and world.agent.alive:
            world.wait_until(lambda: all(is_final(job.state) for job in world.alice.jobs()), timeout_s=20)
            world.wait_until(lambda: all(one.state == "gone" for one in world.eng.deployments()), timeout_s=20)
    for client in world.clients.values():
        client.close()
    world.stop_agent()
