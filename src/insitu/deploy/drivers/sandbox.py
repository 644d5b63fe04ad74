"""Runs a revision in a sandbox, as jobs run: for Podman, Docker and bubblewrap alike.

The process has no network and a root that it can't write to. What it sees is the base,
the environment that the model was trained in, the serving code, the model, and one
writable folder for its socket. Nothing else is passed: no secrets, no gate.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from insitu.deploy.drivers.contract import PREFIX_LENGTH, SOCKET, Ended, Running, Service, Status
from insitu.domain.deployments import Problem
from insitu.sandbox.contract import Sandbox, SandboxSettings
from insitu.sandbox.keeper import KeeperRequest
from insitu.sandbox.keeper_pool import KeeperHandle
from insitu.sandbox.spec import Limits, Mount, Reason, SandboxResult, SandboxSpec

ENVIRONMENT = "/opt/env"
SERVING = "/opt/insitu"
MODEL = "/opt/model"
SOCKET_FOLDER = "/run/serve"

# A sandbox has a wall time, and a service wants none. poll(2) counts milliseconds in 31 bits, so the
# longest that a keeper can wait is 24 days; then the service is started anew, as after any other end.
_WALL_S = 20 * 86400.0
_SCRATCH_BYTES = 64 << 20
_FILE_BYTES = 16 << 20  # also bounds the log that the process can write
_GRACE_S = 12.0  # the serving process gives open requests 10 s
_LOG_READ_BYTES = 16 << 10
_LOGS = ".logs"
_LOGS_KEPT = 20

_REFUSALS: Mapping[str, str] = {
    "pickle-refused": "the model is a pickle, and a pickle is never loaded",
    "untrusted-types": "the model needs types that the site's policy does not trust",
    "unsupported-flavour": "the model has neither a scikit-learn nor an ONNX flavour",
    "unsupported-signature": "the model's signature can't be served",
    "unsupported-method": "the model asks for a method that is not served",
    "environment-differs": "the environment is not the one that the model was saved in",
    "bad-mlmodel": "the MLmodel file can't be understood",
    "bad-model": "the model's file can't be loaded",
    "no-model": "there is no MLmodel file",
    "no-yaml": "the environment can't read the MLmodel file",
    "address-in-use": "the service's socket can't be made",
}
"""Codes that a serving process may end with, in our words: what it prints itself goes nowhere."""


class Keepers(Protocol):
    """The part of `insitu.sandbox.keeper_pool.KeeperPool` that is used here."""

    def start(self, request: KeeperRequest) -> KeeperHandle: ...

    def adopt(self, state_dir: Path) -> KeeperHandle | SandboxResult | None: ...


class SandboxDriver:
    """See `contract.Driver`.

    Args:
        keepers: start sandboxes that outlive this process.
        sandbox: the implementation that they use.
        folder: ours alone; holds one folder for each service, with the keeper's files and the log.
        prefix: names of services begin with it; sandboxes of other names are not touched.
        uid, gid: this machine's ids of the served process; never 0.
    """

    def __init__(
        self,
        keepers: Keepers,
        sandbox: Sandbox,
        settings: SandboxSettings,
        folder: Path,
        *,
        prefix: str,
        uid: int,
        gid: int,
    ) -> None:
        self._keepers = keepers
        self._sandbox = sandbox
        self._settings = settings
        self._folder = folder
        self._prefix = prefix[:PREFIX_LENGTH]
        self._ids = (uid, gid)
        self._known: dict[str, KeeperHandle | SandboxResult] = {}

    def start(self, service: Service) -> None:
        if self._find(service.name) is not None:
            return
        uid, gid = self._ids
        spec = spec_for(service, uid=uid, gid=gid)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        request = KeeperRequest(spec, self._sandbox.name, self._folder / service.name, self._settings)
        self._known[service.name] = self._keepers.start(request)

    def status(self, name: str) -> Status:
        known = self._find(name)
        if isinstance(known, KeeperHandle):
            result = known.wait(0)
            if result is None:
                return Running()
            self._known[name] = known = result
        return Ended(problem_of(known, self._log_of(name))) if known is not None else None

    def stop(self, name: str) -> None:
        known = self._find(name)
        if isinstance(known, KeeperHandle):
            known.stop()

    def destroy(self, name: str) -> None:
        known = self._find(name)
        if isinstance(known, KeeperHandle):
            known.stop()
            known.wait(_GRACE_S + 10)
        self._sandbox.destroy(name)
        self._known.pop(name, None)
        self._keep_log(name)
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def names(self) -> frozenset[str]:
        with contextlib.suppress(FileNotFoundError):
            folders = {path.name for path in self._folder.iterdir() if path.name != _LOGS}
            return frozenset(folders | {name for name in self._sandbox.running() if name.startswith(self._prefix)})
        return frozenset(name for name in self._sandbox.running() if name.startswith(self._prefix))

    def _find(self, name: str) -> KeeperHandle | SandboxResult | None:
        known = self._known.get(name) or self._keepers.adopt(self._folder / name)
        if known is not None:
            self._known[name] = known
        return known

    def _log_of(self, name: str) -> bytes:
        try:
            with (self._folder / name / "stderr").open("rb") as stream:
                return stream.read(_LOG_READ_BYTES)
        except OSError:
            return b""

    def _keep_log(self, name: str) -> None:
        """What a service said first, kept for a person at the site when the service itself is gone."""
        if log := self._log_of(name):
            logs = self._folder / _LOGS
            logs.mkdir(exist_ok=True, mode=0o700)
            (logs / f"{name}.log").write_bytes(log)
            for old in sorted(logs.iterdir(), key=lambda path: path.stat().st_mtime_ns)[:-_LOGS_KEPT]:
                old.unlink()


def spec_for(service: Service, *, uid: int, gid: int) -> SandboxSpec:
    desired, places = service.desired, service.places
    return SandboxSpec(
        name=service.name,
        rootfs=places.rootfs,
        argv=serving_command(service),
        env=serving_environment(cpus=desired.resources.cpus),
        workdir="/",
        mounts=(
            Mount(places.environment, ENVIRONMENT),
            Mount(places.serving, SERVING),
            Mount(places.model, MODEL),
            Mount(service.folder, SOCKET_FOLDER, writable=True),
        ),
        limits=Limits(
            memory_bytes=desired.resources.memory_bytes,
            cpus=desired.resources.cpus,
            processes=64,
            wall_s=_WALL_S,
            scratch_bytes=_SCRATCH_BYTES,
            file_bytes=_FILE_BYTES,
        ),
        uid=uid,
        gid=gid,
        selftest=(MODEL,),
        grace_s=_GRACE_S,
    )


def serving_command(service: Service) -> tuple[str, ...]:
    desired = service.desired
    trusted = [word for name in desired.trusted_types for word in ("--trusted-type", name)]
    return (
        f"{ENVIRONMENT}/bin/python",
        *("-m", "insitu.serving"),
        *("--model", MODEL),
        *("--name", desired.model_name),
        *("--version", desired.model_version),
        *("--uds", f"{SOCKET_FOLDER}/{SOCKET}"),
        *("--math-threads", str(max(1, int(desired.resources.cpus)))),
        *trusted,
    )


def serving_environment(*, cpus: float) -> Mapping[str, str]:
    """All that the process sees of an environment."""
    return {
        "PATH": f"{ENVIRONMENT}/bin:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": SERVING,
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp",  # noqa: S108 - the sandbox's own, fresh and bounded
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": str(max(1, int(cpus))),
    }


def problem_of(result: SandboxResult, log: bytes) -> Problem:
    """What an end means for a process that was meant to go on.

    Of the log only a code is taken, and only one that is known; the words are ours.
    """
    match result.reason:
        case Reason.EXITED:
            if (code := refusal_in(log)) is not None:
                return Problem(code, _REFUSALS[code], "train and release the model again, or change the site's policy")
            how = f"signal {result.signal}" if result.signal else f"exit code {result.exit_code}"
            return Problem(
                "serving-ended",
                f"the serving process ended with {how}",
                "see deployments/services/.logs in the agent's folder",
            )
        case Reason.MEMORY:
            return Problem("out-of-memory", "the serving process needed more memory than it may have", "give it more")
        case Reason.SELFTEST:
            return Problem("selftest", "a guard of the sandbox was not in place, so nothing was started")
        case Reason.FAILED_TO_START:
            return Problem("not-started", "the sandbox could not be set up", "run `insitu agent doctor` at the site")
        case Reason.STOPPED:
            return Problem("stopped", "the serving process was stopped")
        case Reason.TIMEOUT:
            return Problem("wall-time", "the serving process ran as long as a sandbox may, and is started anew")
        case Reason.LOST:
            return Problem("lost", "the serving process is gone and nobody saw it end")


def refusal_in(log: bytes) -> str | None:
    """The code of the serving process's own refusal, when its log has one that is known."""
    for line in log.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            code = json.loads(line)["error"]["code"]
            if code in _REFUSALS:
                return code
    return None
