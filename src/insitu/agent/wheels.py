"""Gets from the hub the wheels that a lock names and this site lacks, by hash: the hub is the only address there is.

The hub is asked which it has; what it lacks itself it fetches meanwhile. A transfer
that breaks goes on where it stopped, for as long as something still arrives now and then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from insitu.agent.hub_link import HubLink
from insitu.domain.digests import Digest
from insitu.domain.errors import InsituError, NotFoundError, UnavailableError, UnreachableError
from insitu.domain.images import LockedWheel
from insitu.images.wheel_store import WheelStore
from insitu.wire.wheels import WheelProblem, WheelsRequest

_AT_ONCE = 4
_WAIT_S = 10.0  # of one question, while the hub fetches
_PATIENCE_S = 300.0  # without a single wheel
_LONGEST_PAUSE_S = 15.0

Progress = Callable[[str], object]


@dataclass(frozen=True)
class WheelsOfHub:
    """Where a site's wheels come from, unless its settings name an index."""

    link: HubLink
    store: WheelStore
    pause: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic

    def have(self, lock: Digest, wheels: Sequence[LockedWheel], progress: Progress = lambda _: None) -> None:
        """Fetch those that are not in the store.

        Raises:
            NotFoundError: the hub can't have one of them; it says why.
            UnreachableError: the hub was away for too long. What had arrived stays.
            IntegrityError: what the hub sent is not what was signed.
            UnavailableError: the site's disk is full, say.
        """
        wanted = {wheel.sha256: wheel for wheel in self.store.lacking(wheels)}
        heard, tries, wait_s = self.monotonic(), 0, 0.0
        while wanted:
            before = len(wanted)
            try:
                self._fetch_some(lock, wanted, wait_s, progress)
            except UnreachableError:
                tries = 0 if len(wanted) < before else tries + 1
                heard = self.monotonic() if len(wanted) < before else heard
                if self.monotonic() - heard > _PATIENCE_S:
                    raise
                self.pause(min(0.2 * 2**tries, _LONGEST_PAUSE_S))
            else:
                heard, tries, wait_s = self.monotonic(), 0, _WAIT_S

    def _fetch_some(self, lock: Digest, wanted: dict[str, LockedWheel], wait_s: float, progress: Progress) -> None:
        """Fetch what the hub has now; what arrived is taken out of `wanted`."""
        reply = self.link.ask_for_wheels(WheelsRequest(lock=lock, wanted=list(wanted), wait_s=wait_s))
        if reply.failed:
            raise _not_at_hub(reply.failed)
        ready = [wanted[sha256] for sha256 in reply.here if sha256 in wanted]
        progress(f"{len(ready)} of {len(wanted)} packages are at the hub")
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="wheels") as pool:
            broken: list[InsituError] = []
            for wheel, error in zip(ready, pool.map(self._fetch, ready), strict=True):
                if error is None:
                    del wanted[wheel.sha256]
                else:
                    broken.append(error)
        if broken:
            raise broken[0]

    def _fetch(self, wheel: LockedWheel) -> InsituError | None:
        try:
            self.link.fetch_blob(Digest(f"sha256:{wheel.sha256}"), self.store.place(wheel))
        except InsituError as exc:
            return exc
        except OSError as exc:
            return UnavailableError(
                f"{wheel.filename} could not be stored at the site",
                code="disk",
                why=exc.strerror or "",
                hint="free some disk: what is below the cache may be removed while no job runs",
            )
        return None


def _not_at_hub(failed: Sequence[WheelProblem]) -> NotFoundError:
    first = failed[0]
    more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
    return NotFoundError(
        f"the hub can't get {first.filename}{more}",
        code="wheel-not-at-hub",
        measure=f"{first.code}: {first.what}",
        hint=first.hint or "an admin brings it to the hub with `insitu env import`",
    )
