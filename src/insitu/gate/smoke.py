"""The smoke prediction's rule: does what would leave still predict like what was written?

Rewriting rounds weights and drops what a format does not need, so a canonical
copy could be broken without anybody noticing before it is deployed. Inside one
sandbox both are asked the same rows (`insitu.serving.smoke`); what comes back is
a number of rows, a number of differences, or one of the words below.

That answer was made by code that the job wrote or loaded, so it is believed as
little as the job is: it can only hold a model back, never let one leave that
the other rules object to, and the share is told in steps of `_STEPS`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from insitu.domain.outputs import Decision, Finding, Verdict
from insitu.gate.policy.values import Otherwise, SmokeRules

RULE = "smoke-prediction"

NOT_MADE: Mapping[str, tuple[str, str]] = {
    "no-predict": (
        "the job names no function that predicts with it",
        "name one in the job file: `predict: module:function` beside the output",
    ),
    "no-runtime": (
        "the job's environment lacks what loads it",
        "lock the library that serves it (scikit-learn with skops, or onnxruntime) with the job",
    ),
    "no-rows": ("the dataset's format can't be asked row by row", "name a function under `predict` that takes files"),
    "written-fails": (
        "what was written does not predict on the site's rows",
        "try it on rows of the dataset's columns before saving it",
    ),
    "time": ("it took longer than it may", "a smaller model, or fewer rows in the policy's `smoke`"),
    "no-answer": ("it gave no answer", "a steward finds the reason in the agent's log"),
}
"""Why no comparison was made → what happened, what to do. Then the check counts as not made, and the model is held."""

COPY_FAILS = "copy-fails"
_STEPS = (0, 1, 2, 5, 10, 20, 50, 100)  # percent
_MAX_ANSWER = 1000


@dataclass(frozen=True)
class SmokeAnswer:
    """What a sandbox said: how many of how many predictions differ, or why there are none."""

    rows: int = 0
    differ: int = 0
    problem: str = ""


def read_answer(text: str) -> SmokeAnswer:
    """A sandbox's answer; whatever is not one is `no-answer`."""
    try:
        if len(text) > _MAX_ANSWER:
            raise ValueError("too long")
        document: Any = json.loads(text)
        problem = cast("dict[str, Any]", document).get("problem", "")
        if problem:
            return SmokeAnswer(problem=problem if problem in NOT_MADE or problem == COPY_FAILS else "no-answer")
        rows, differ = document["rows"], document["differ"]
        if type(rows) is not int or type(differ) is not int or not 0 <= differ <= rows or not rows:
            raise ValueError("no counts")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return SmokeAnswer(problem="no-answer")
    return SmokeAnswer(rows, differ)


def after_smoke(decision: Decision, answer: SmokeAnswer, rules: SmokeRules, otherwise: Otherwise) -> Decision:
    """The decision once both were asked: never looser than it was."""
    if answer.problem in NOT_MADE:
        return _not_made(decision, answer.problem)
    checked = replace(decision, checks=(*decision.checks, RULE))
    if answer.problem == COPY_FAILS:
        return _with_finding(checked, "the rewritten copy does not predict", rules, otherwise)
    if answer.differ > rules.tolerance * answer.rows:
        return _with_finding(checked, f"up to {_step(answer)} % of predictions differ", rules, otherwise)
    return checked


def _with_finding(decision: Decision, measure: str, rules: SmokeRules, otherwise: Otherwise) -> Decision:
    finding = Finding(
        rule=RULE,
        measure=measure,
        limit=f"{rules.tolerance:.2%}".replace(".00%", "%").replace("%", " %"),
        hint="rounding changed what it says: train with weights of the policy's precision, or ask the steward to look",
    )
    found = replace(decision, findings=(*decision.findings, finding))
    if decision.verdict is not Verdict.RELEASED:
        return found
    return replace(
        found,
        verdict=Verdict(otherwise),
        rule=finding.rule,
        measure=finding.measure,
        limit=finding.limit,
        hint=finding.hint,
    )


def _not_made(decision: Decision, problem: str) -> Decision:
    what, hint = NOT_MADE[problem]
    unknown = replace(decision, not_checked=(*decision.not_checked, RULE))
    if decision.verdict is not Verdict.RELEASED:
        return unknown
    return replace(
        unknown, verdict=Verdict.HELD, rule=RULE, measure=what, limit="a comparison before and after", hint=hint
    )


def _step(answer: SmokeAnswer) -> int:
    percent = 100 * answer.differ / answer.rows
    return next(step for step in _STEPS if percent <= step)
