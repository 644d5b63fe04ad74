"""May these bytes still leave? The policy's budgets against what the ledger says was spent."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from insitu.agent.ledger import Ledger
from insitu.agent.stream import About
from insitu.domain.errors import DeniedError
from insitu.domain.quantities import format_bytes
from insitu.gate.policy import Policy


def check_can_spend(about: About, size_bytes: int, *, policy: Policy, ledger: Ledger, now: datetime) -> None:
    """Raise unless `size_bytes` more may leave for this job, its datasets and its submitter.

    Raises:
        DeniedError: a budget is used up; it names which, what would be spent, and the limit.
    """
    spent = ledger.spending
    budget = policy.budget
    rows: list[tuple[str, int, int]] = [("budget.per_job", spent.of_job(about.job_id), budget.per_job_bytes)]
    rows += [
        (
            "budget.per_dataset_per_month",
            spent.of_dataset(label.partition("@")[0], now),
            budget.per_dataset_per_month_bytes,
        )
        for label in about.datasets
    ]
    rows.append(
        (
            "budget.per_submitter_per_month",
            spent.of_submitter(about.submitter, now),
            budget.per_submitter_per_month_bytes,
        )
    )
    for rule, before, limit in rows:
        if before + size_bytes > limit:
            raise DeniedError(
                "the budget for what may leave is used up",
                code="budget",
                rule=rule,
                measure=f"{format_bytes(before + size_bytes)} with this",
                limit=format_bytes(limit),
                hint="release less, wait for the next month, or ask the steward for a larger budget",
            )


def spender(
    policy: Callable[[], Policy | None], ledger: Ledger, now: Callable[[], datetime]
) -> Callable[[About, int], bool]:
    """A question for streams: is there room for so many bytes? No readable policy: no."""

    def may_spend(about: About, size_bytes: int) -> bool:
        current = policy()
        if current is None:
            return False
        try:
            check_can_spend(about, size_bytes, policy=current, ledger=ledger, now=now())
        except DeniedError:
            return False
        return True

    return may_spend
