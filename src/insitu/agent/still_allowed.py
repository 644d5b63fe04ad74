"""Asked right before an output leaves by itself: does the policy that let it out still do so?

Between the decision and the sending the hub may be away for days, in which a
steward makes the policy stricter or takes a run envelope back. Then the frozen copy
is judged again; what would not be released now is held for a reviewer. What a
reviewer approved is theirs to answer for, and is not asked about.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from insitu.agent import cover_attempt
from insitu.agent.attempt import Attempt
from insitu.agent.judge_copies import judge_copies
from insitu.agent.review_queue import ItemRow
from insitu.domain.errors import DeniedError, NotFoundError
from insitu.domain.outputs import Decision, Verdict
from insitu.gate.policy.loading import policy_digest


def judged_under(attempt: Attempt) -> dict[str, Any]:
    """What a decision rests on, for the details of its item."""
    return {"judged_under": [policy_digest(attempt.site.policy.text), attempt.run_envelope]}


def check_still_released(attempt: Attempt, item: ItemRow) -> None:
    """Raise unless an output that the gate released would be released now.

    Raises:
        DeniedError: it would not, or there is no readable policy; with the rule that says so.
    """
    site = attempt.site
    if item.details.get("review"):
        return
    site.policy.require()
    cover_attempt.before_judging(attempt)
    if item.details.get("judged_under") == judged_under(attempt)["judged_under"]:
        return
    decision = _judged_now(attempt, item)
    if decision is not None and decision.verdict is Verdict.RELEASED:
        return
    raise DeniedError(
        "the policy has changed since this was judged, and would not release it now",
        code="policy-changed",
        rule=decision.rule if decision else "not-readable",
        measure=decision.measure if decision else "it could not be judged again",
        limit=decision.limit if decision else "",
        hint=decision.hint if decision else "a reviewer looks at it",
    )


def _judged_now(attempt: Attempt, item: ItemRow) -> Decision | None:
    site, copies = attempt.site, {item.output: Path(item.details["folder"])}
    try:
        return judge_copies(
            attempt.row,
            attempt.verified,
            copies,
            site.policy.text,
            folder=site.folder,
            cache=site.cache,
            gate_uid=site.settings.gate_gid,
        ).get(item.output)
    except NotFoundError:  # a dataset that it would be compared with is gone: a person decides
        return None
