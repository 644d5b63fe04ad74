"""A site's ledger under another policy: which of what left would have stayed, for budgets, counts and closed channels.

The ledger has bytes, counts and kinds, and no values; so this can say how many
metric values or lines would have stayed, and not which digits or words. Entries are
gone through in their order, and what would have stayed spends nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from insitu.gate.budget import Spent, over_budget
from insitu.gate.policy.loading import Policy
from insitu.wire.ledger import LedgerEntry

_LEAVES = frozenset({"batch", "file", "card"})
_Names = list[str]


class LedgerReplay:
    """The whole ledger, gone through once."""

    def __init__(
        self,
        entries: Iterable[LedgerEntry],
        policy: Policy,
        *,
        asked: AbstractSet[str],
        refused: AbstractSet[str],
        approved: AbstractSet[str],
    ) -> None:
        """Go through it.

        Args:
            asked: the jobs that are asked about; the others spent what they spent.
            refused: those that the policy would not have let run.
            approved: those that a run envelope covers: the others are free code.
        """
        self._policy, self._approved = policy, approved
        self._by_job: Counter[str] = Counter()
        self._by_dataset: Counter[tuple[str, str]] = Counter()
        self._by_submitter: Counter[tuple[str, str]] = Counter()
        self._ceilings_by_dataset: Counter[tuple[str, str]] = Counter()
        self._ceilings_by_submitter: Counter[tuple[str, str]] = Counter()
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._over: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for entry in entries:
            if entry.kind in _LEAVES and entry.job_id not in refused:
                self._go_through(entry, is_asked=entry.job_id in asked)

    def of(self, job_id: str) -> tuple[str, ...]:
        """What of a job would have stayed, in words."""
        return (*self._over_budget(job_id), *self._closed_channels(job_id))

    def _go_through(self, entry: LedgerEntry, *, is_asked: bool) -> None:
        month, names = entry.at.strftime("%Y-%m"), sorted({label.partition("@")[0] for label in entry.datasets})
        if is_asked:
            spent = Spent(
                by_job=self._by_job[entry.job_id],
                by_dataset_this_month={name: self._by_dataset[month, name] for name in names},
                by_submitter_this_month=self._by_submitter[month, entry.submitter],
                ceilings_by_dataset_this_month={name: self._ceilings_by_dataset[month, name] for name in names},
                ceilings_by_submitter_this_month=self._ceilings_by_submitter[month, entry.submitter],
            )
            over = over_budget(self._policy.budget, spent, entry.size_bytes, entry.ceiling_bytes)
            if over is not None:
                self._over[entry.job_id][f"{_WHAT.get(entry.kind, entry.kind)} over {over.rule} ({over.limit})"] += 1
                return
            self._counts[entry.job_id].update(entry.counts)
        self._spend(entry, month, names)

    def _spend(self, entry: LedgerEntry, month: str, names: _Names) -> None:
        self._by_job[entry.job_id] += entry.size_bytes
        self._by_submitter[month, entry.submitter] += entry.size_bytes
        self._ceilings_by_submitter[month, entry.submitter] += entry.ceiling_bytes
        for name in names:
            self._by_dataset[month, name] += entry.size_bytes
            self._ceilings_by_dataset[month, name] += entry.ceiling_bytes

    def _over_budget(self, job_id: str) -> list[str]:
        return [f"{count} {what}" for what, count in self._over[job_id].items()]

    def _closed_channels(self, job_id: str) -> list[str]:
        """Counts beyond what the policy's channels let through; bytes of one channel alone are in no entry."""
        counts, release = self._counts[job_id], self._policy.for_code(approved=job_id in self._approved).release
        found: list[str] = []
        beyond = counts["metric"] - release.metrics.max_count
        if beyond > 0:
            found.append(f"{beyond} of {counts['metric']} metric values (release.metrics.max_count)")
        if counts["log"] and (release.logs.mode == "held" or not release.logs.max_bytes):
            found.append(f"{counts['log']} log lines (release.logs)")
        named = counts["param"] + counts["tag"]
        if named and not release.params.max_bytes:
            found.append(f"{named} parameters and tags (release.params)")
        return found


_WHAT = {"batch": "batches of events", "file": "outputs", "card": "cards"}
