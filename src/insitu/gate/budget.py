"""The policy's budgets in bytes, as pure comparison.

What was spent is counted by the ledger, over all channels; here is only the
question whether so much more may leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from insitu.domain.errors import DeniedError
from insitu.domain.outputs import Finding
from insitu.domain.quantities import format_bytes
from insitu.gate.policy_values import BudgetRules


@dataclass(frozen=True)
class Spent:
    """Bytes that have left already."""

    by_job: int
    by_dataset_this_month: Mapping[str, int]  # for each dataset that the job reads
    by_submitter_this_month: int


def over_budget(rules: BudgetRules, spent: Spent, size_bytes: int) -> Finding | None:
    """The first budget that `size_bytes` more would exceed."""
    rows = [("budget.per_job", spent.by_job, rules.per_job_bytes)]
    rows += [
        ("budget.per_dataset_per_month", before, rules.per_dataset_per_month_bytes)
        for _, before in sorted(spent.by_dataset_this_month.items())
    ]
    rows.append(("budget.per_submitter_per_month", spent.by_submitter_this_month, rules.per_submitter_per_month_bytes))
    for rule, before, limit in rows:
        if before + size_bytes > limit:
            return Finding(
                rule=rule,
                measure=f"{format_bytes(before + size_bytes)} with this",
                limit=format_bytes(limit),
                hint="release less, wait for the next month, or ask the steward for a larger budget",
            )
    return None


def check_can_spend(rules: BudgetRules, spent: Spent, size_bytes: int) -> None:
    """Raise unless `size_bytes` more may leave.

    Raises:
        DeniedError: a budget is used up; it names which, what would be spent, and the limit.
    """
    finding = over_budget(rules, spent, size_bytes)
    if finding is not None:
        raise DeniedError(
            "the budget for what may leave is used up",
            code="budget",
            rule=finding.rule,
            measure=finding.measure,
            limit=finding.limit,
            hint=finding.hint,
        )
