"""May these bytes still leave? The policy's budgets against what the ledger says was spent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from insitu.agent.ledger import Ledger
from insitu.agent.stream import About
from insitu.gate import budget
from insitu.gate.budget import Spent
from insitu.gate.policy.loading import Policy


def check_can_spend(
    about: About, size_bytes: int, *, ceiling_bytes: int = 0, policy: Policy, ledger: Ledger, now: datetime
) -> None:
    """Raise unless `size_bytes` more may leave for this job, its datasets and its submitter.

    Raises:
        DeniedError: a budget is used up; it names which, what would be spent, and the limit.
    """
    spent = spent_so_far(ledger, now, job_id=about.job_id, datasets=about.datasets, submitter=about.submitter)
    budget.check_can_spend(policy.budget, spent, size_bytes, ceiling_bytes)


def spender(
    policy: Callable[[], Policy | None], ledger: Ledger, now: Callable[[], datetime]
) -> Callable[[About, int], bool]:
    """A question for streams: is there room for so many bytes? No readable policy: no."""

    def may_spend(about: About, size_bytes: int) -> bool:
        current = policy()
        if current is None:
            return False
        spent = spent_so_far(ledger, now(), job_id=about.job_id, datasets=about.datasets, submitter=about.submitter)
        return budget.over_budget(current.budget, spent, size_bytes) is None

    return may_spend


def spent_so_far(ledger: Ledger, now: datetime, *, job_id: str, datasets: Iterable[str], submitter: str) -> Spent:
    """What the ledger says has left: of this job, and this month of its datasets and its submitter."""
    spending = ledger.spending
    names = {label.partition("@")[0] for label in datasets}
    return Spent(
        by_job=spending.of_job(job_id),
        by_dataset_this_month={name: spending.of_dataset(name, now) for name in names},
        by_submitter_this_month=spending.of_submitter(submitter, now),
        ceilings_by_dataset_this_month={name: spending.ceilings_of_dataset(name, now) for name in names},
        ceilings_by_submitter_this_month=spending.ceilings_of_submitter(submitter, now),
    )
