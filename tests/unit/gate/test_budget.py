"""Ceilings are budgeted like bytes: what releases could carry is added up too."""

import pytest

from insitu.domain.errors import DeniedError
from insitu.gate.budget import Spent, budget_lines, check_can_spend, over_budget
from insitu.gate.policy.values import BudgetRules

BYTES = {"per_job": 10_000, "per_dataset_per_month": 1000, "per_submitter_per_month": 2000}
BOTH = {**BYTES, "ceiling_per_dataset_per_month": 100, "ceiling_per_submitter_per_month": 150}


def rules(**fields: int) -> BudgetRules:
    return BudgetRules.model_validate(fields)


def spent(*, dataset: int = 0, submitter: int = 0) -> Spent:
    return Spent(
        by_job=0,
        by_dataset_this_month={"wdbc": 0},
        by_submitter_this_month=0,
        ceilings_by_dataset_this_month={"wdbc": dataset},
        ceilings_by_submitter_this_month=submitter,
    )


@pytest.mark.parametrize(
    ("before", "ceiling", "rule"),
    [
        (spent(dataset=90), 11, "budget.ceiling_per_dataset_per_month"),
        (spent(submitter=140), 11, "budget.ceiling_per_submitter_per_month"),
        (spent(), 101, "budget.ceiling_per_dataset_per_month"),
    ],
)
def test_each_ceilings_budget_ends_by_its_own_name(before, ceiling, rule):
    with pytest.raises(DeniedError) as caught:
        check_can_spend(rules(**BOTH), before, 1, ceiling)
    assert (caught.value.rule, caught.value.code) == (rule, "budget")
    assert over_budget(rules(**BOTH), before, 1, ceiling - 1) is None


def test_a_budget_of_zero_lets_nothing_out_that_could_carry_anything():
    none = rules(**BYTES, ceiling_per_dataset_per_month=0)
    assert over_budget(none, spent(), 500, 0) is None
    finding = over_budget(none, spent(), 500, 1)
    assert finding is not None
    assert finding.rule == "budget.ceiling_per_dataset_per_month"


def test_a_ceilings_budget_that_is_left_out_is_as_large_as_that_for_bytes():
    assert over_budget(rules(**BYTES), spent(), 1, 1000) is None
    finding = over_budget(rules(**BYTES), spent(), 1, 1001)
    assert finding is not None
    assert (finding.rule, finding.limit) == ("budget.ceiling_per_dataset_per_month", "1 kB")


def test_a_line_for_each_budget_says_before_and_after():
    lines = budget_lines(rules(**BOTH), spent(dataset=60, submitter=70), 5, 40)
    assert [(line.rule, line.whose, line.before, line.after, line.limit, line.is_over) for line in lines] == [
        ("budget.per_job", "", 0, 5, 10_000, False),
        ("budget.per_dataset_per_month", "wdbc", 0, 5, 1000, False),
        ("budget.per_submitter_per_month", "", 0, 5, 2000, False),
        ("budget.ceiling_per_dataset_per_month", "wdbc", 60, 100, 100, False),
        ("budget.ceiling_per_submitter_per_month", "", 70, 110, 150, False),
    ]
