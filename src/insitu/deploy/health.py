"""When a revision counts as good, when as bad, and when as lost. Pure but for `probe`.

Good: so many probes in a row said ready. Bad: it was good, and so many in a row failed.
Lost: it was never good within the time to start, or stayed bad for too long. One late
answer is no outage, and one lucky answer is no success.
"""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from insitu.deploy.unix_socket import connect


@dataclass(frozen=True)
class HealthRules:
    successes: int = 2
    """Ready answers in a row before a revision may take over."""
    failures: int = 3
    """Failed probes in a row before a healthy one counts as unhealthy."""
    start_s: float = 120.0
    """From its start to being good; loading scikit-learn takes some of it."""
    unhealthy_s: float = 60.0
    """How long a revision may stay unhealthy before it is started anew."""
    settle_s: float = 30.0
    """How long the former revision is kept running after a switch, to return to."""
    restarts: int = 3
    """How often a revision that was good is started anew before it is given up; see `restart_window_s`."""
    restart_window_s: float = 3600.0
    """One that ran for so long has shown that it can: the count begins again."""
    probe_s: float = 2.0
    """Between two probes of a revision that is good, and for one probe to answer."""


class Verdict(StrEnum):
    STARTING = "starting"
    GOOD = "good"
    BAD = "bad"
    LOST = "lost"


@dataclass(frozen=True)
class Health:
    """What probes have shown of one process."""

    started_at_s: float
    """On the caller's clock, as all times here."""
    in_a_row: int = 0
    """Successes when above 0, failures when below."""
    good_since_s: float | None = None
    bad_since_s: float | None = None

    def after(self, *, ready: bool, now_s: float, rules: HealthRules) -> Health:
        """What is known after one more probe."""
        if ready:
            in_a_row = max(self.in_a_row, 0) + 1
            if in_a_row < rules.successes:
                return replace(self, in_a_row=in_a_row)
            return replace(self, in_a_row=in_a_row, good_since_s=self.good_since_s or now_s, bad_since_s=None)
        in_a_row = min(self.in_a_row, 0) - 1
        if self.good_since_s is None or -in_a_row < rules.failures:
            return replace(self, in_a_row=in_a_row)
        return replace(self, in_a_row=in_a_row, bad_since_s=self.bad_since_s or now_s)

    def verdict(self, now_s: float, rules: HealthRules) -> Verdict:
        if self.bad_since_s is not None:
            return Verdict.LOST if now_s - self.bad_since_s >= rules.unhealthy_s else Verdict.BAD
        if self.good_since_s is not None:
            return Verdict.GOOD
        return Verdict.LOST if now_s - self.started_at_s >= rules.start_s else Verdict.STARTING


def probe(socket_path: Path, timeout_s: float) -> bool:
    """Whether the process behind the socket says that it is ready."""
    try:
        connection = _UnixConnection(socket_path, timeout_s)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        connect(self.sock, self._path)
