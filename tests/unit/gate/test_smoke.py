"""The smoke prediction's rule: it may hold a model back, and never lets one go that others object to."""

import pytest

from insitu.domain.outputs import Decision, Finding, Verdict
from insitu.gate.policy.values import SmokeRules
from insitu.gate.smoke import NOT_MADE, RULE, SmokeAnswer, after_smoke, read_answer

RULES = SmokeRules(rows=100, tolerance=0.01)
CLEAN = Decision("model", Verdict.RELEASED, "clean", checks=("size",))
HELD = Decision(
    "model", Verdict.HELD, "rows-in-model", findings=(Finding("rows-in-model", "426 of 569 rows", "0 rows", "other"),)
)


def test_predictions_that_hold_let_a_clean_model_leave():
    decision = after_smoke(CLEAN, SmokeAnswer(rows=100, differ=1), RULES, "held")
    assert decision.verdict is Verdict.RELEASED
    assert decision.checks == ("size", RULE)


@pytest.mark.parametrize("otherwise", ["held", "refused", "resident"])
def test_predictions_that_change_keep_it_back_as_the_policy_says(otherwise):
    decision = after_smoke(CLEAN, SmokeAnswer(rows=100, differ=2), RULES, otherwise)
    assert decision.verdict == otherwise
    assert (decision.rule, decision.measure, decision.limit) == (RULE, "up to 2 % of predictions differ", "1 %")
    assert decision.hint


def test_a_share_is_told_in_steps():
    told = {after_smoke(CLEAN, SmokeAnswer(1000, differ), RULES, "held").measure for differ in range(11, 1001)}
    assert len(told) == 6


def test_a_copy_that_does_not_predict_stays():
    decision = after_smoke(CLEAN, SmokeAnswer(problem="copy-fails"), RULES, "held")
    assert (decision.verdict, decision.rule) == (Verdict.HELD, RULE)
    assert RULE in decision.checks


@pytest.mark.parametrize("problem", sorted(NOT_MADE))
def test_a_comparison_that_was_not_made_is_not_a_passed_one(problem):
    decision = after_smoke(CLEAN, SmokeAnswer(problem=problem), RULES, "refused")
    assert decision.verdict is Verdict.HELD
    assert decision.not_checked == (RULE,)
    assert RULE not in decision.checks
    assert decision.measure
    assert decision.hint


@pytest.mark.parametrize(
    "answer",
    [SmokeAnswer(100, 0), SmokeAnswer(100, 100), SmokeAnswer(problem="copy-fails"), SmokeAnswer(problem="time")],
)
def test_a_held_model_stays_held_for_its_own_reason(answer):
    decision = after_smoke(HELD, answer, RULES, "refused")
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "rows-in-model")


def test_an_answer_is_read_strictly():
    assert read_answer('{"rows": 100, "differ": 3}') == SmokeAnswer(100, 3)
    assert read_answer('{"problem": "no-runtime"}') == SmokeAnswer(problem="no-runtime")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "7",
        "{}",
        '{"rows": 100}',
        '{"rows": 0, "differ": 0}',
        '{"rows": 10, "differ": 11}',
        '{"rows": 10, "differ": -1}',
        '{"rows": true, "differ": false}',
        '{"rows": 10.0, "differ": 1.5}',
        '{"problem": "Ann Smith, 1971"}',
        '{"problem": ["no-runtime"]}',
        '{"rows": 100, "differ": 0}' + " " * 2000,
        "[" * 900,
    ],
)
def test_what_is_no_answer_is_never_taken_for_one(text):
    assert read_answer(text) == SmokeAnswer(problem="no-answer")
