"""The stage of the demo: a hub, a site whose agent has joined it, and three people."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import yaml

from insitu.agent.console import call_console
from insitu.agent.folder import SiteFolder
from insitu.cli.demo.blobs import CONTAINER, BlobStore, start_azurite
from insitu.cli.demo.people import People, log_everybody_in
from insitu.cli.demo.places import Places, ready_base, share_bases
from insitu.cli.demo.processes import Processes, error_in, insitu
from insitu.domain.errors import UnavailableError
from insitu.gate.policy.loading import DEFAULT_POLICY_TEXT
from insitu.wire.people import Role

PURPOSE = "screening"


@dataclass
class Stage:
    """Everything that is there before the story begins, and how it is cleared away."""

    places: Places
    processes: Processes
    sandbox: str | None  # None: the agent chooses
    datastore: Literal["folder", "azurite"] = "folder"  # where the private data lies
    blobs: BlobStore | None = None
    site: str = field(default_factory=lambda: f"clinic-{secrets.token_hex(2)}")  # no other agent here may have it
    hub_url: str = ""
    registry: str | None = None
    chosen_sandbox: str = ""
    jobs: list[str] = field(default_factory=list)
    _people: People | None = None

    @property
    def people(self) -> People:
        assert self._people is not None, "the hub was started first"
        return self._people

    @property
    def folder(self) -> SiteFolder:
        return SiteFolder(self.places.site)

    def start_hub(self, now: Callable[[str], None]) -> None:
        """The hub, a registry where one is installed, and everybody's login."""
        now("looking for the base that jobs run on")
        ready_base(self.places, now)
        now("starting the hub")
        share_bases(self.places)
        self.registry = self.processes.start_registry(self.places.root)
        argv = [*insitu(), "hub", "start", "--json", "--port", "0", "--data", str(self.places.hub)]
        argv += ["--base-layout", str(self.places.base_layout), "--cache", str(self.places.packages / "uv")]
        argv += ["--wheel-store", str(self.places.packages / "wheels")]
        argv += ["--registry", self.registry] if self.registry else []
        _, said = self.processes.start("hub", argv, _environment())
        self.hub_url = said["url"]
        self._people = log_everybody_in(
            self.hub_url, Path(said["admin_token_file"]), self.places.people, self.places.cache
        )

    def start_site(self, now: Callable[[str], None]) -> None:
        """A site joins by a one-time token, and its agent starts. Its policy lets nothing run yet."""
        self.start_store(now)
        now("joining the site")
        token = self.people.steward.create_site(self.site).join_token
        argv = [*insitu(), "agent", "init", "--json", "--dir", str(self.places.site), "--hub", self.hub_url]
        argv += ["--base-layout", str(self.places.base_layout), "--cache", str(self.places.packages)]
        argv += ["--token-file", "-"]  # by stdin: arguments can be read by everybody on this machine
        argv += ["--sandbox", self.sandbox] if self.sandbox else []
        _run(argv, token + "\n")
        now("starting the agent")
        argv = [*insitu(), "agent", "start", "--json", "--dir", str(self.places.site)]
        _, said = self.processes.start("agent", argv, _environment())
        self.chosen_sandbox = said["sandbox"]

    def start_store(self, now: Callable[[str], None]) -> None:
        """The site's private store, where it is more than a folder."""
        if self.datastore == "azurite":
            now("starting the site's blob store")
            self.blobs = start_azurite(self.processes, self.places.root / "azurite", self.places.cache)
            self.blobs.make_container()

    def add_datastore(self) -> str:
        """Name the private store at the site, with its key from a file; where it is, for people."""
        if self.blobs is None:
            return str(self.ask_site("datastore_add", name="private", url=str(self.places.private))["folder"])
        credentials = self.places.private / "credentials.yaml"
        credentials.touch(mode=0o600)
        credentials.write_text(f"account_key: {self.blobs.key}\n")
        argv = [*insitu(), "datastore", "add", "private", f"az://{CONTAINER}", "--endpoint", self.blobs.endpoint]
        _run([*argv, "--credentials-file", str(credentials), "--dir", str(self.places.site), "--json"], "")
        credentials.unlink()
        return f"az://{CONTAINER} at {self.blobs.endpoint}"

    def upload(self, folder: Path) -> None:
        """Move a folder of the private data into the store; nothing of it stays behind."""
        if self.blobs is not None:
            argv = [*insitu(), "data", "upload", str(folder), "--datastore", "private", "--dir", str(self.places.site)]
            _run([*argv, "--json"], "")
            shutil.rmtree(folder)

    def ask_site(self, call: str, **arguments: Any) -> Any:
        """One of the steward's calls, through the agent's socket."""
        return call_console(self.folder.console, call, **arguments)

    def write_policy(self, base: str) -> None:
        """What a steward writes by hand: who may run what on which data, who reviews, who deploys."""
        policy = yaml.safe_load(DEFAULT_POLICY_TEXT)
        scientist, engineer, steward = Role.DATA_SCIENTIST.value, Role.ML_ENGINEER.value, Role.STEWARD.value
        prints = {role.value: self.people.fingerprint(role) for role in Role if role is not Role.ADMIN}
        until = (datetime.now(UTC) + timedelta(days=1)).date()
        port = _free_port()
        policy |= {
            "version": 2,
            "signers": {scientist: prints[scientist], engineer: prints[engineer]},
            "bases": [base],
            "datasets": {"wdbc": {"who": [scientist], "purpose": PURPOSE, "until": until, "runs": 10}},
            "deployments": {"signers": [engineer], "max": 1, "ports": f"{port}-{port}", "memory": "2GiB"},
        }
        # Enough for the demo's linear model and its log lines, though nobody has approved the code in a run envelope.
        policy["release"]["models"] |= {"free_ceiling": "4kB"}
        policy["release"]["free"] |= {"logs": "scanned", "metric_digits": 4}
        policy["review"] |= {"reviewers": {steward: prints[steward]}}
        self.folder.policy.write_text(yaml.safe_dump(policy, sort_keys=False))

    def clear(self) -> None:
        """End everything that the demo started, whatever state it is in."""
        if self._people is not None:
            self._people.close()
        self.processes.end(self.folder, self._is_ours)

    def _is_ours(self, sandbox: str) -> bool:
        return sandbox.startswith((f"insitu-{self.site}-", *(f"insitu-{job}-" for job in self.jobs)))


def _environment() -> dict[str, str]:
    """The caller's, without what would make a child of ours another person or another site."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("INSITU_", "MLFLOW_"))}


def _run(argv: list[str], stdin: str) -> None:
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, env=_environment(), check=False)
    if done.returncode != 0:
        raise error_in(done.stdout) or UnavailableError(
            f"`insitu {' '.join(argv[3:5])}` ended with {done.returncode}", code="demo-process", why=done.stderr[-1500:]
        )


def _free_port() -> int:
    """A loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
