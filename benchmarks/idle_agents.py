"""A thousand agents that wait for work, on one hub process over SQLite.

Each is a long poll on a connection of its own (see `idle_crowd`). What the hub's
process uses is read from the kernel, before any agent connects and while all wait;
then jobs are submitted to some of them, and each notes when it heard. The
reference of that is the same with a single agent: what a crowd adds.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.figures import Row, percentile
from benchmarks.programs import Use, use_of, wait_until_quiet
from benchmarks.scene import Scene
from insitu.domain.digests import digest_of
from insitu.hub.access import Actor
from insitu.hub.actions.sites import create_site
from insitu.hub.bell import Bell
from insitu.hub.opening import open_folder
from insitu.hub.settings import HubSettings
from insitu.sdk.client import Client
from insitu.sdk.config import Login
from insitu.sdk.submit import PreparedJob
from insitu.wire.job_file import parse_job_document
from insitu.wire.jobs import Target
from insitu.wire.keys import SigningKey
from insitu.wire.people import Role, SiteRequest
from tests.rig import Process

_AGENTS = 1000
_WATCHED_S = 20.0
_WAKES = 100
_JOB: dict[str, Any] = {
    "type": "command",
    "display_name": "bench",
    "experiment_name": "bench",
    "command": "true",
    "environment": {"requirements": "requirements.txt"},
}


def measure(scene: Scene) -> Iterator[Row]:
    agents = 100 if scene.quick else _AGENTS
    with _Hub(scene.fresh_folder("idle"), agents + 1) as hub:
        wait_until_quiet(hub.pid)
        before, quiet_share = hub.watch(5)
        names = list(hub.join_tokens)
        with _Crowd(hub, names[:1]) as alone:
            alone_s = [alone.wake(names[0]) for _ in range(scene.rounds(_WAKES // 2))]
        with _Crowd(hub, names[1:]) as crowd:
            time.sleep(2)  # what joining left to do is not waiting
            idle, cpu_share = hub.watch(5 if scene.quick else _WATCHED_S)
            woken_s = [crowd.wake(random.choice(crowd.names)) for _ in range(scene.rounds(_WAKES))]
    figure = f"{agents:,} idle agents on one hub process"
    yield Row(f"{figure}: memory", "MB", (idle.memory_mb,), "the same hub without agents", (before.memory_mb,))
    yield Row(f"{figure}: of one core", "%", (100 * cpu_share,), "the same hub without agents", (100 * quiet_share,))
    for name, share in (("median", 0.5), ("p99", 0.99)):
        ours, theirs = (1000 * percentile(found, share) for found in (woken_s, alone_s))
        yield Row(f"… submit → heard by one of them, {name}", "ms", (ours,), f"one agent alone, {name}", (theirs,))


class _Hub:
    """A hub process with many sites that agents may join, and a data scientist."""

    def __init__(self, folder: Path, sites: int) -> None:
        # Made before the hub starts, in one transaction: how people create sites is not what is measured.
        settings, now = HubSettings(data=folder), datetime.now(UTC)
        opened = open_folder(settings, bell=Bell(), clock=lambda: now)
        keeper = Actor("bench", Role.ADMIN)
        with opened.store.write() as session:
            made = [
                create_site(keeper, session, SiteRequest(name=f"s-{at}"), now=now, valid_for=timedelta(hours=1))
                for at in range(sites)
            ]
        opened.close()
        self.join_tokens = {site.name: site.join_token for site in made}
        self._process = Process("insitu.hub.main", "--data", str(folder), "--port", "0", log=folder / "hub.log")
        self.url = str(self._process.ready["url"])
        admin = Client(
            Login(self.url, settings.admin_token_file.read_text().strip()), SigningKey.generate(), cache=folder
        )
        token = admin.create_token("alice", Role.DATA_SCIENTIST).token
        admin.close()
        self.alice = Client(Login(self.url, token), SigningKey.generate(), cache=folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.alice.close()
        self._process.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def watch(self, for_s: float) -> tuple[Use, float]:
        """What the hub holds after that time, and its share of a core meanwhile."""
        before, begun = use_of(self._process.pid), time.monotonic()
        time.sleep(for_s)
        after = use_of(self._process.pid)
        return after, (after.cpu_s - before.cpu_s) / (time.monotonic() - begun)


class _Crowd:
    """Agents in a process of their own, all waiting."""

    def __init__(self, hub: _Hub, names: list[str]) -> None:
        self._hub, self.names = hub, names
        command = [sys.executable, "-m", "benchmarks.idle_crowd"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        told = {"port": int(hub.url.rpartition(":")[2]), "sites": {name: hub.join_tokens[name] for name in names}}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told) + "\n")  # not as arguments: others could read the tokens there
        self._process.stdin.flush()
        self._hear("waiting")
        self._prepared = self._a_job()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    def wake(self, site: str) -> float:
        """Seconds from submitting a job for that site until its agent has heard of it."""
        begun = time.monotonic()
        self._hub.alice.submit(replace(self._prepared, job=parse_job_document(_JOB | {"compute": site})))
        return float(self._hear("heard_at")["heard_at"]) - begun

    def _hear(self, word: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the agents ended; what they said is on standard error")
        said: dict[str, Any] = json.loads(line)
        return said if word in said else self._hear(word)

    def _a_job(self) -> PreparedJob:
        code, lock = digest_of(b"code"), digest_of(b"lock")
        target = Target(base=digest_of(b"a base"), python="3.11", platform="x86_64-linux", lock=lock)
        return PreparedJob(parse_job_document(_JOB), code, (target,), (), {code: b"code", lock: b"lock"})
