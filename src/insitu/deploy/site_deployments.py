"""Makes what is served at a site what should be served. Level-triggered: call it often.

`reconcile` is given everything that should be, and nothing else counts: what isn't named
is stopped and removed. It looks, asks `plan` for steps, takes them, and says what is. It
never waits long: fetching runs in a thread, and an end is asked for and looked for in a
later call. Repeating it changes nothing. After a restart it finds endpoints and services
that still run, by what was written down, and takes them up again.

The state folder holds, for each deployment, a folder of its name:
    record.json     what is remembered (`records.py`)
    endpoint.json   what the endpoint reads; endpoint.log what it said
    r<revision>/    where a revision makes its socket
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from insitu.deploy.drivers.contract import Driver, Places, ServiceNames
from insitu.deploy.health import HealthRules
from insitu.deploy.one_deployment import AddressSettings, OneDeployment, Surroundings
from insitu.domain.deployments import DeploymentState, Desired, Observed, Problem
from insitu.domain.errors import InsituError
from insitu.domain.ids import check_name


def seconds_since_boot() -> float:
    """The default clock: goes on while the machine sleeps, never jumps, and means the same to a restarted agent."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SiteDeployments:
    """All deployments of a site. Not for several threads at once.

    Args:
        state: a folder that is ours alone.
        driver: starts and stops revisions.
        prepare: puts the parts of a revision in place and checks their digests; called in a
            thread, may take long, and may be called again for the same revision.
        prefix: of all services' names; the driver's own.
        clock: seconds; never goes back while the machine is up.
    """

    def __init__(
        self,
        state: Path,
        driver: Driver,
        prepare: Callable[[Desired], Places],
        *,
        prefix: str,
        addresses: AddressSettings | None = None,
        rules: HealthRules | None = None,
        clock: Callable[[], float] = seconds_since_boot,
    ) -> None:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._state = state
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="fetch-deployment")
        self._around = Surroundings(
            driver=driver,
            prepare=prepare,
            names=ServiceNames(prefix, state),
            addresses=addresses or AddressSettings(),
            rules=rules or HealthRules(),
            clock=clock,
            threads=self._threads,
        )
        self._known = {
            path.name: OneDeployment(path, self._around) for path in sorted(state.iterdir()) if path.is_dir()
        }
        self._end_orphans()

    def reconcile(self, desired: Iterable[Desired]) -> list[Observed]:
        """Bring what is a step nearer to what should be, and say what is, by name.

        One deployment's trouble is in its `Observed` and hinders no other.
        """
        wanted = {one.name: one for one in desired}
        return [self._advance(name, wanted.get(name)) for name in sorted(wanted.keys() | self._known.keys())]

    def stop_all(self, within_s: float) -> bool:
        """Remove every deployment; True when nothing is left. For the end of a demonstration, or of a site."""
        deadline = time.monotonic() + within_s
        while self._known and time.monotonic() < deadline:
            self.reconcile([])
            if self._known:
                time.sleep(0.05)
        return not self._known

    def close(self) -> None:
        """Let go. Endpoints and services go on, for the next process to find."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _advance(self, name: str, desired: Desired | None) -> Observed:
        try:
            if name not in self._known:
                check_name(name, what="deployment")  # it becomes a folder
                self._known[name] = OneDeployment(self._state / name, self._around)
            deployment = self._known[name]
            observed = deployment.advance(desired)
            if deployment.removed:
                del self._known[name]
            return observed
        except (InsituError, OSError) as error:
            code, what = (error.code, error.what) if isinstance(error, InsituError) else ("disk", type(error).__name__)
            revision = desired.revision if desired is not None else 0
            return Observed(name, revision, DeploymentState.PENDING, problem=Problem(code, what[:500]))

    def _end_orphans(self) -> None:
        """End services that nobody remembers."""
        noted = {service for known in self._known.values() for service in known.services}
        for name in self._around.driver.names():
            if self._around.names.owns(name) and name not in noted:
                self._around.driver.destroy(name)
