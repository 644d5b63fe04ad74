"""The policy's budgets, as pure comparison: bytes that leave, and what they could carry.

What was spent is counted by the ledger, over all channels; here is only the
question whether so much more may leave. A release's *ceiling* is what its bytes
could carry beyond what the policy asked for; ceilings are summed like bytes, so
that many small releases can't carry what one large one may not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from insitu.domain.errors import DeniedError
from insitu.domain.outputs import Finding
from insitu.domain.quantities import format_bytes
from insitu.gate.policy.values import BudgetRules


@dataclass(frozen=True)
class Spent:
    """Bytes that have left already, and the ceilings of the releases among them."""

    by_job: int
    by_dataset_this_month: Mapping[str, int]  # for each dataset that the job reads
    by_submitter_this_month: int
    ceilings_by_dataset_this_month: Mapping[str, int] = field(default_factory=dict[str, int])
    ceilings_by_submitter_this_month: int = 0


@dataclass(frozen=True)
class BudgetLine:
    """One budget, before and with what would leave now."""

    rule: str
    whose: str  # the dataset's name; empty for the job and the submitter
    before: int
    more: int
    limit: int

    @property
    def after(self) -> int:
        return self.before + self.more

    @property
    def is_over(self) -> bool:
        return self.after > self.limit


def budget_lines(rules: BudgetRules, spent: Spent, size_bytes: int, ceiling_bytes: int = 0) -> list[BudgetLine]:
    """Every budget that `size_bytes` more count against, in the order in which they are asked.

    A ceiling's budget that the policy leaves out is as large as that for bytes.
    """
    per_dataset, per_submitter = rules.per_dataset_per_month_bytes, rules.per_submitter_per_month_bytes
    own_dataset, own_submitter = rules.ceiling_per_dataset_per_month_bytes, rules.ceiling_per_submitter_per_month_bytes
    carried_dataset = per_dataset if own_dataset is None else own_dataset
    carried_submitter = per_submitter if own_submitter is None else own_submitter
    datasets = sorted(spent.by_dataset_this_month)
    ceilings = spent.ceilings_by_dataset_this_month
    lines = [BudgetLine("budget.per_job", "", spent.by_job, size_bytes, rules.per_job_bytes)]
    lines += [
        BudgetLine("budget.per_dataset_per_month", name, spent.by_dataset_this_month[name], size_bytes, per_dataset)
        for name in datasets
    ]
    lines.append(
        BudgetLine("budget.per_submitter_per_month", "", spent.by_submitter_this_month, size_bytes, per_submitter)
    )
    if ceiling_bytes:
        rule = "budget.ceiling_per_dataset_per_month"
        lines += [BudgetLine(rule, name, ceilings.get(name, 0), ceiling_bytes, carried_dataset) for name in datasets]
        rule = "budget.ceiling_per_submitter_per_month"
        carried = spent.ceilings_by_submitter_this_month
        lines.append(BudgetLine(rule, "", carried, ceiling_bytes, carried_submitter))
    return lines


def over_budget(rules: BudgetRules, spent: Spent, size_bytes: int, ceiling_bytes: int = 0) -> Finding | None:
    """The first budget that `size_bytes` more, which could carry `ceiling_bytes`, would exceed."""
    line = next((line for line in budget_lines(rules, spent, size_bytes, ceiling_bytes) if line.is_over), None)
    if line is None:
        return None
    return Finding(
        rule=line.rule,
        measure=f"{format_bytes(line.after)} with this",
        limit=format_bytes(line.limit),
        hint="release less, wait for the next month, or ask the steward for a larger budget",
    )


def check_can_spend(rules: BudgetRules, spent: Spent, size_bytes: int, ceiling_bytes: int = 0) -> None:
    """Raise unless `size_bytes` more may leave.

    Raises:
        DeniedError: a budget is used up; it names which, what would be spent, and the limit.
    """
    finding = over_budget(rules, spent, size_bytes, ceiling_bytes)
    if finding is not None:
        raise DeniedError(
            "the budget for what may leave is used up",
            code="budget",
            rule=finding.rule,
            measure=finding.measure,
            limit=finding.limit,
            hint=finding.hint,
        )
