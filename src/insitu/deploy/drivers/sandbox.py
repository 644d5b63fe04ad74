"""Runs a revision in a sandbox, as jobs run: for Podman, Docker and bubblewrap alike.

The process has no network and a root that it can't write to. What it sees is the base,
the environment that the model was trained in, the serving code, the model, and one
writable folder for its socket. Nothing else is passed: no secrets, no gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from insitu.deploy.drivers.contract import SOCKET, Ended, Running, Service, Status
from insitu.domain.deployments import Problem
from insitu.sandbox.spec import Limits, Mount, Reason, SandboxResult, SandboxSpec

ENVIRONMENT = "/opt/env"
SERVING = "/opt/insitu"
MODEL = "/opt/model"
SOCKET_FOLDER = "/run/serve"

_YEARS_S = 10 * 365 * 86400.0  # a service has no wall time; the sandbox wants one, and overflows no timer with this
_SCRATCH_BYTES = 64 << 20
_GRACE_S = 12.0  # the serving process gives open requests 10 s


class SandboxRunner(Protocol):
    """What starts sandboxes that outlive the one who asked, and knows them by name afterwards."""

    def start(self, spec: SandboxSpec) -> None:
        """Raises InsituError: it could not be started; nothing is left. One that runs already is left alone."""
        ...

    def is_running(self, name: str) -> bool: ...

    def result(self, name: str) -> SandboxResult | None:
        """How it ended; None when it runs, or nothing is known of it."""
        ...

    def stop(self, name: str) -> None:
        """Ask it to end, kill it after its grace. Returns at once; repeating it is harmless."""
        ...

    def destroy(self, name: str) -> None:
        """Nothing of it is left afterwards, neither process nor record. Idempotent."""
        ...

    def names(self) -> frozenset[str]: ...


@dataclass(frozen=True)
class SandboxDriver:
    """See `contract.Driver`.

    Args:
        prefix: names of services begin with it; other sandboxes of the runner are not ours.
        uid: this machine's user and group of the served process; never 0.
    """

    runner: SandboxRunner
    prefix: str
    uid: int
    gid: int

    def start(self, service: Service) -> None:
        if not self.runner.is_running(service.name):
            self.runner.start(spec_for(service, uid=self.uid, gid=self.gid))

    def status(self, name: str) -> Status:
        if self.runner.is_running(name):
            return Running()
        result = self.runner.result(name)
        return Ended(problem_of(result)) if result is not None else None

    def stop(self, name: str) -> None:
        self.runner.stop(name)

    def destroy(self, name: str) -> None:
        self.runner.destroy(name)

    def names(self) -> frozenset[str]:
        return frozenset(name for name in self.runner.names() if name.startswith(self.prefix))


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
        gate_socket=None,
        limits=Limits(
            memory_bytes=desired.resources.memory_bytes,
            cpus=desired.resources.cpus,
            processes=64,
            wall_s=_YEARS_S,
            scratch_bytes=_SCRATCH_BYTES,
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


def problem_of(result: SandboxResult) -> Problem:
    """What an end means for a process that was meant to go on."""
    match result.reason:
        case Reason.EXITED:
            how = f"signal {result.signal}" if result.signal else f"exit code {result.exit_code}"
            return Problem("serving-ended", f"the serving process ended with {how}", "see the log of the deployment")
        case Reason.MEMORY:
            return Problem("out-of-memory", "the serving process needed more memory than it may have", "give it more")
        case Reason.SELFTEST:
            return Problem("selftest", "a guard of the sandbox was not in place, so nothing was started")
        case Reason.FAILED_TO_START:
            return Problem("not-started", "the sandbox could not be set up", "run `insitu agent doctor` at the site")
        case Reason.STOPPED:
            return Problem("stopped", "it was stopped")
        case Reason.TIMEOUT | Reason.LOST:
            return Problem("lost", "the serving process is gone and nobody saw it end")
