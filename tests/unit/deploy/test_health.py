from __future__ import annotations

import pytest

from insitu.deploy.health import Health, HealthRules, Verdict

RULES = HealthRules(successes=2, failures=3, start_s=10, unhealthy_s=20)


def after(probes: str) -> tuple[Health, float]:
    """What is known after probes one second apart, `+` for ready and `-` for not."""
    health, now = Health(started_at_s=0.0), 0.0
    for sign in probes:
        now += 1
        health = health.after(ready=sign == "+", now_s=now, rules=RULES)
    return health, now


@pytest.mark.parametrize(
    ("probes", "verdict"),
    [
        ("", Verdict.STARTING),
        ("-", Verdict.STARTING),
        ("---------", Verdict.STARTING),
        ("----------", Verdict.LOST),  # the time to start is up
        ("+", Verdict.STARTING),  # one lucky answer is no success
        ("+-+-+-+", Verdict.STARTING),
        ("++", Verdict.GOOD),
        ("--------++", Verdict.GOOD),
        ("+-++", Verdict.GOOD),
        ("++-", Verdict.GOOD),  # one late answer is no outage
        ("++--", Verdict.GOOD),
        ("++---", Verdict.BAD),
        ("++---+", Verdict.BAD),
        ("++---++", Verdict.GOOD),
        ("++--+--+--", Verdict.GOOD),
        ("++---" + "-" * 19, Verdict.BAD),
        ("++---" + "-" * 20, Verdict.LOST),
        ("++---" + "+-" * 10, Verdict.LOST),
        ("+" * 50, Verdict.GOOD),
    ],
)
def test_what_a_row_of_probes_says(probes, verdict):
    health, now = after(probes)
    assert health.verdict(now, RULES) is verdict
