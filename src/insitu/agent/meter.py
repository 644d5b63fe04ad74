"""The steward's view of what leaves, while it leaves: job by job and channel by channel, and what is left of budgets.

Everything here is counted from the ledger, so it shows what was written down to
leave, also after a restart, and nothing that only might.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from insitu.agent.budget import spent_so_far
from insitu.agent.direct.feed_server import read_counts
from insitu.agent.ledger import Ledger
from insitu.agent.steward import Steward
from insitu.agent.store import AttemptRow
from insitu.agent.workspace import Workspace
from insitu.domain.errors import InsituError, NotFoundError
from insitu.gate.budget import budget_lines
from insitu.gate.channels.metrics import bits_of_a_value
from insitu.gate.policy.loading import Policy
from insitu.wire.envelopes import parse_envelope
from insitu.wire.jobs import VerifiedJob, open_job
from insitu.wire.ledger import LedgerEntry

_STEPS = (1, 2, 5)  # of a number that is told as its largest round one


def meter_show(steward: Steward, *, job: str = "") -> list[dict[str, Any]]:
    """The jobs that are not over yet, or one of them by its id, over or not.

    Raises:
        NotFoundError: no attempt of that job is known here.
    """
    rows = steward.store.open_attempts()
    if job:
        newest = steward.store.newest_attempt(job)
        if newest is None:
            raise NotFoundError(
                f"no job {job[:40]!r} is known here", code="no-such-job", hint="see `insitu ledger show`"
            )
        rows = [newest]
    policy = steward.policy.current()
    return [_of_attempt(steward, row, policy) for row in rows]


CALLS: Mapping[str, Callable[..., Any]] = {"meter_show": meter_show}
"""By name, each with the steward as its first argument."""


def room_bytes(ledger: Ledger, policy: Policy, job: VerifiedJob, job_id: str, now: datetime) -> int:
    """How much a job may still send, as a round number: what its site tells its hub when it starts."""
    lines = _budgets(ledger, policy, job_id, _labels(job), job.signer, now)
    least = min(max(0, line["limit_bytes"] - line["left_bytes"]) for line in lines)
    return rounded_down(least)


def rounded_down(number: int) -> int:
    """The largest of 1, 2, 5, 10, 20 … that is not above `number`: what others spent is not to be read from it."""
    if number < 1:
        return 0
    power = 10 ** (len(str(number)) - 1)
    return max(step * power for step in _STEPS if step * power <= number)


def _of_attempt(steward: Steward, row: AttemptRow, policy: Policy | None) -> dict[str, Any]:
    ledger = steward.ledger
    entries = [entry for attempt in range(1, row.attempt + 1) for entry in ledger.batches_of(row.job_id, attempt)]
    files = ledger.files_of(row.job_id)
    found: dict[str, Any] = {
        "job_id": row.job_id,
        "attempt": row.attempt,
        "state": row.state.value,
        "left_bytes": ledger.spending.of_job(row.job_id),
        "channels": _channels(entries, files),
        "could_carry_bytes": _could_carry(entries, files, policy),
        "budgets": [],
        "read_bytes": row.details.get("read_bytes") or _read_so_far(steward, row),
    }
    job = _opened(row, policy)
    if job is not None and policy is not None:
        found |= {"name": job.job.display_name, "submitter": job.signer_name, "datasets": _labels(job)}
        found["budgets"] = _budgets(ledger, policy, row.job_id, _labels(job), job.signer, steward.now())
    return found


def _read_so_far(steward: Steward, row: AttemptRow) -> dict[str, int]:
    """Bytes that a job has read through its gate, by dataset version. Inbound: in no budget, and the hub is not told."""
    return read_counts(Workspace(steward.folder.jobs / f"{row.job_id}-{row.attempt}").read_counts)


def _channels(batches: Iterable[LedgerEntry], files: Iterable[LedgerEntry]) -> list[dict[str, Any]]:
    """Entries and bytes by kind of event; those that have a closed schema are no channel and have no size."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for batch in batches:
        counts.update(batch.counts)
        sizes.update(batch.sizes)
    for file in files:
        counts["file"] += file.counts.get("files", 1)
        sizes["file"] += file.size_bytes
    return [{"channel": kind, "entries": counts[kind], "left_bytes": sizes[kind]} for kind in sorted(sizes)]


def _could_carry(batches: Iterable[LedgerEntry], files: Iterable[LedgerEntry], policy: Policy | None) -> int:
    """Bytes that somebody could have put into all this who chose each digit, step and word for it."""
    values = sum(batch.counts.get("metric", 0) for batch in batches)
    words = sum(size for batch in batches for kind, size in batch.sizes.items() if kind != "metric")
    bits = bits_of_a_value(policy.release.metrics.digits) if policy else 64.0
    return math.ceil(values * bits / 8) + words + sum(file.ceiling_bytes for file in files)


def _budgets(
    ledger: Ledger, policy: Policy, job_id: str, datasets: list[str], submitter: str, now: datetime
) -> list[dict[str, Any]]:
    spent = spent_so_far(ledger, now, job_id=job_id, datasets=datasets, submitter=submitter)
    return [
        {"rule": line.rule, "whose": line.whose, "left_bytes": line.before, "limit_bytes": line.limit}
        for line in budget_lines(policy.budget, spent, 0)
    ]


def _opened(row: AttemptRow, policy: Policy | None) -> VerifiedJob | None:
    """The job, as far as its signature still holds here."""
    listed = {**(policy.signers if policy else {}), **row.details.get("signer", {})}
    try:
        return open_job(parse_envelope(row.envelope), signers=listed)
    except InsituError:
        return None


def _labels(job: VerifiedJob) -> list[str]:
    return [f"{pin.name}@{pin.version}" for pin in job.document.datasets]
