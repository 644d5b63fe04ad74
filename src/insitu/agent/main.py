"""The agent process: builds a site's parts, keeps them together, and stops without breaking a job.

One agent per folder, by a file lock. Stopping (SIGTERM, or the process being
killed) leaves sandboxes running; the next start adopts them.
"""

from __future__ import annotations

import argparse
import fcntl
import gc
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO

from insitu.agent.assignments import Assignments
from insitu.agent.catalogue import data_cache, in_use
from insitu.agent.console import Console
from insitu.agent.deployments import Deployments
from insitu.agent.environments import Environments, wheels_in
from insitu.agent.folder import SiteFolder
from insitu.agent.folders_ahead import FoldersAhead
from insitu.agent.hub_link import HubLink
from insitu.agent.inside import SCRATCH_BYTES
from insitu.agent.job_images import JobImages
from insitu.agent.judge_pool import JudgePool
from insitu.agent.ledger import Ledger
from insitu.agent.leftovers import remove_given_up
from insitu.agent.policy_file import PolicyFile
from insitu.agent.settings import AgentSettings, load_settings
from insitu.agent.site import Site
from insitu.agent.spare_threads import SpareThreads
from insitu.agent.staging.data_cache import DataCache
from insitu.agent.steward import Steward
from insitu.agent.store import Store
from insitu.agent.stores.credentials import store_environment
from insitu.agent.sync import HubConversation
from insitu.agent.wheels import WheelsOfHub
from insitu.domain.digests import Digest, parse_digest
from insitu.domain.errors import ConflictError, InsituError
from insitu.images.base import UnpackedBase, unpack_base
from insitu.images.layout import OciLayout
from insitu.intake.client import IntakePool
from insitu.sandbox.confine import confined_argv
from insitu.sandbox.contract import Likely, SandboxSettings, choose
from insitu.sandbox.keeper_pool import KeeperPool
from insitu.wire.keys import SigningKey
from insitu.wire.ledger import GENESIS, LedgerEntry
from insitu.wire.sync import Capacity

_log = logging.getLogger("insitu.agent")

_LOCK_S = 5.0  # a steward's command that works on the folder by itself holds the lock for a moment
_THREADS_A_JOB = 5  # its walk, its stream, the looks at its sandbox and its disk, and the next one's folders
_INTAKE_MEMORY = 2 << 30  # of address space; an idle one holds about 40 MB

# All that a gate process sees of an environment.
GATE_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"}


def run_agent(
    root: Path,
    stop: threading.Event,
    *,
    ready: Callable[[Site], None] = lambda _: None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a site until `stop` is set.

    Args:
        root: the site's folder.
        stop: set it to end the agent; jobs go on.
        ready: called once, when the agent serves its console and talks to its hub.
        environment: where credentials of datastores may stand.

    Raises:
        NotFoundError: the folder is not a site's.
        ConflictError: another agent runs with it.
        UnavailableError: no sandbox works here, or the key can't be read.
    """
    folder = SiteFolder(root)
    settings = load_settings(folder)
    with only_one(folder), build_site(folder, settings, environment) as site:
        _serve(site, stop, ready)


def _serve(site: Site, stop: threading.Event, ready: Callable[[Site], None]) -> None:
    wishes: list[HubConversation] = []

    def changed() -> None:
        for conversation in wishes:
            conversation.changed()

    assignments = Assignments(site, changed=changed)
    deployments = Deployments(site, changed=changed)
    conversation = HubConversation(
        site,
        assignments,
        deployments,
        capacity=capacity(site.settings),
        version=version("insitu"),
        started_at=datetime.now(UTC),
    )
    wishes.append(conversation)
    steward = Steward(
        folder=site.folder,
        store=site.store,
        ledger=site.ledger,
        policy=site.policy,
        wake=assignments.wake,
        changed=changed,
        gate_gid=_gate_gid(site.settings),
        cache=site.cache,
        data=site.data,
        environment=site.environment,
        now=site.now,
    )
    console = Console(site.folder.console, steward)
    try:
        _end_orphans(site)
        remove_given_up(site.cache, now=datetime.now(UTC))
        assignments.resume()
        deployments.start()
        conversation.start()
        gc.collect()
        gc.freeze()  # what was imported is not looked through again while somebody waits for a job's first line
        ready(site)
        stop.wait()
    finally:
        conversation.stop()
        console.close()
        assignments.detach()
        deployments.close()


def _end_orphans(site: Site) -> None:
    """Sandboxes of this site's jobs that no open attempt knows: left by a folder that was restored, say."""
    known = {site.sandbox_name(row.job_id, row.attempt) for row in site.store.open_attempts()}
    for name in site.sandbox.running():
        if name.startswith(site.sandbox_prefix) and name not in known:
            _log.warning("ending sandbox %s, which no attempt here knows", name)
            site.sandbox.destroy(name)


@contextmanager
def build_site(
    folder: SiteFolder,
    settings: AgentSettings,
    environment: Mapping[str, str] | None = None,
    *,
    link: HubLink | None = None,
) -> Iterator[Site]:
    """A site's parts, made in the order in which they can fail cheaply, and let go in the end.

    Args:
        environment: where credentials of datastores may stand.
        link: another one than that to the hub of the settings.
    """
    folder.make(gate_gid=_gate_gid(settings))
    key = SigningKey.load(folder.key)
    sandbox_settings = SandboxSettings(state_dir=folder.run / "sandbox", docker_socket=Path(settings.docker_socket))
    sandbox = choose(settings.sandbox, sandbox_settings)
    base = _base(folder, settings)
    store = Store(folder.database)
    ledger = Ledger(folder.ledger)
    if ledger.head.entries == 0:
        ledger.append(_opened(settings))
    link = link or HubLink(settings.hub, site=settings.site, key=key, ca_file=settings.ca_file)
    policy = PolicyFile(folder.policy)
    cache = Path(settings.cache) if settings.cache else folder.cache
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    likely = Likely(base.rootfs, SCRATCH_BYTES)
    keepers = KeeperPool(settings.warm, [sys.executable], sandbox_settings, sandbox.name, likely)
    intakes = IntakePool(settings.warm, _intake_argv(folder, settings), env=GATE_ENVIRONMENT, policy=policy.text)
    intakes.fill()
    judges = JudgePool(folder.root, uid=settings.gate_gid, size=min(settings.warm, 1))
    judges.fill()
    threads = SpareThreads(_THREADS_A_JOB * (settings.warm + 1))
    folders = FoldersAhead(folder.run / "ahead", gate_uid=settings.gate_gid, threads=threads)
    folders.fill()
    try:
        yield Site(
            folder=folder,
            settings=settings,
            store=store,
            ledger=ledger,
            policy=policy,
            link=link,
            key=key,
            base=base,
            sandbox=sandbox,
            sandbox_settings=sandbox_settings,
            keepers=keepers,
            intakes=intakes,
            judges=judges,
            cache=cache,
            data=_data_cache(folder, store, policy),
            environment=environment or {},
            environments=Environments(
                cache,
                base,
                wheels=WheelsOfHub(link, wheels_in(cache)),
                index_url=settings.index_url,
                offline=settings.offline,
            ),
            images=JobImages(cache, base.platform),
            folders=folders,
            now=lambda: store.floor_clock(datetime.now(UTC)),
            threads=threads,
        )
    finally:
        folders.close()
        intakes.close()
        judges.close()
        keepers.close()
        link.close()
        ledger.close()
        store.close()


def _data_cache(folder: SiteFolder, store: Store, policy: PolicyFile) -> DataCache:
    found = policy.current()
    cache = data_cache(folder, in_use=in_use(folder, store), reserve_bytes=found.sandbox.free_bytes if found else 0)
    cache.forget_unfinished()
    return cache


def _base(folder: SiteFolder, settings: AgentSettings) -> UnpackedBase:
    digest: Digest = parse_digest(settings.base or "")
    return unpack_base(OciLayout(Path(settings.base_layout), create=False), digest, folder.bases)


def _opened(settings: AgentSettings) -> LedgerEntry:
    return LedgerEntry(seq=0, at=datetime.now(UTC), kind="opened", name=settings.site, prev=GENESIS)


def _gate_gid(settings: AgentSettings) -> int | None:
    return settings.gate_gid if os.geteuid() == 0 else None


def _intake_argv(folder: SiteFolder, settings: AgentSettings) -> Callable[[], list[str]]:
    """Starts a gate process with no network, no keys and its own uid."""

    def argv() -> list[str]:
        return confined_argv(
            [sys.executable, "-P", "-m", "insitu.intake"],
            uid=settings.gate_gid,
            gid=settings.gate_gid,
            memory_bytes=_INTAKE_MEMORY,
            folders=(folder.root,),
        )

    return argv


def _try_lock(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def only_one(folder: SiteFolder) -> Iterator[None]:
    """Hold the site's lock.

    Raises:
        ConflictError: another agent holds it.
    """
    with folder.lock.open("w") as stream:
        end = time.monotonic() + _LOCK_S
        while not _try_lock(stream):
            if time.monotonic() > end:
                raise ConflictError(
                    f"another agent runs with {folder.root}",
                    code="agent-running",
                    hint="one site has one agent; end the other one first",
                )
            time.sleep(0.1)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    """The agent from the command line, without the rest of the command line's weight."""
    parser = argparse.ArgumentParser(prog="insitu.agent.main", description="The Insitu agent.")
    parser.add_argument("--dir", type=Path, required=True, help="the site's folder, made by `insitu agent init`")
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--ready-fd", type=int, help="file descriptor that gets one JSON line when the agent serves")
    given = parser.parse_args(arguments)
    set_up_logging(given.log_level)
    sys.setswitchinterval(0.001)  # a thread that computes would hold up one that starts a job by 5 ms
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def say(site: Site) -> None:
        if given.ready_fd is not None:
            with os.fdopen(given.ready_fd, "w") as stream:
                line = {"ready": True, "site": site.settings.site, "sandbox": site.sandbox.name, "pid": os.getpid()}
                stream.write(json.dumps(line) + "\n")

    try:
        run_agent(given.dir, stop, ready=say, environment=take_store_environment())
    except InsituError as exc:
        sys.stderr.write(f"error[{exc.code}]: {exc}\n")
        return exc.exit_code
    return 0


def take_store_environment() -> dict[str, str]:
    """The credentials of datastores that this process was given; taken out, so that nothing it starts inherits them."""
    found = store_environment(os.environ)
    for name in found:
        del os.environ[name]
    return found


def set_up_logging(level: str) -> None:
    """To standard error, without each request of the agent's own."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # Azure's library logs addresses, and a token may stand in one.
    for noisy in ("httpx", "httpcore", "azure", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def capacity(settings: AgentSettings) -> Capacity:
    """What all jobs together may have here."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Capacity(
        cpus=settings.cpus or float(os.cpu_count() or 1),
        memory_bytes=settings.memory or memory * 3 // 4,
        slots=settings.slots,
    )


if __name__ == "__main__":
    raise SystemExit(main())
