"""May these bytes still leave? The policy's budgets against what the ledger says was spent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from insitu.agent.ledger import Ledger
from insitu.agent.stream import About
from insitu.gate import budget
from insitu.gate.budget import Spent
from insitu.gate.policy import Policy


def check_can_spend(about: About, size_bytes: int, *, policy: Policy, ledger: Ledger, now: datetime) -> None:
    """Raise unless `size_bytes` more may leave for this job, its datasets and its submitter.

    Raises:
        DeniedError: a budget is used up; it names which, what would be spent, and the limit.
    """
    budget.check_can_spend(policy.budget, _spent(about, ledger, now), size_bytes)


def spender(
    policy: Callable[[], Policy | None], ledger: Ledger, now: Callable[[], datetime]
) -> Callable[[About, int], bool]:
    """A question for streams: is there room for so many bytes? No readable policy: no."""

    def may_spend(about: About, size_bytes: int) -> bool:
        current = policy()
        if current is None:
            return False
        return budget.over_budget(current.budget, _spent(about, ledger, now()), size_bytes) is None

    return may_spend


def _spent(about: About, ledger: Ledger, now: datetime) -> Spent:
    spending = ledger.spending
    names = {label.partition("@")[0] for label in about.datasets}
    return Spent(
        by_job=spending.of_job(about.job_id),
        by_dataset_this_month={name: spending.of_dataset(name, now) for name in names},
        by_submitter_this_month=spending.of_submitter(about.submitter, now),
    )
