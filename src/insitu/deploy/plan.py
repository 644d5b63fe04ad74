"""plan(desired, facts) → steps. Pure: the same facts always give the same steps.

How one revision takes the place of another:

1. the address is taken first; a port that somebody else has ends it before anything starts;
2. the wanted revision is fetched and started beside the current one;
3. when it has been ready often enough, the address is switched to it;
4. the former one runs on for a while; should the new one turn bad in that time, the
   address goes back to it and the new one has failed;
5. then the former one is stopped.

A revision that was never good is given up, and the former one is simply kept. One that
was good and dies later is started anew, a few times. What nobody wants is stopped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from insitu.deploy.health import HealthRules, Verdict
from insitu.domain.deployments import Desired, Problem


@dataclass(frozen=True)
class Instance:
    """One revision as it is now."""

    revision: int
    phase: str
    """`fetching`, `fetched`, `running`, `stopping` (asked to end), `stopped` (did so) or `ended` (unasked)."""
    verdict: Verdict = Verdict.STARTING
    was_good: bool = False
    """The address has led to it."""
    restarts: int = 0
    problem: Problem | None = None
    """For `ended`, which a failed fetch is too: why."""


@dataclass(frozen=True)
class Facts:
    """All that is known of one deployment."""

    instances: tuple[Instance, ...] = ()
    endpoint: bool = False
    """The process that owns the address is alive."""
    port: int | None = None
    serving: int | None = None
    switched_s_ago: float = 0.0
    """How long the address has led to `serving`."""
    failed: frozenset[int] = frozenset()
    """Revisions that were given up."""

    def instance(self, revision: int | None) -> Instance | None:
        return next((one for one in self.instances if one.revision == revision), None)


@dataclass(frozen=True)
class TakeAddress:
    port: int | None


@dataclass(frozen=True)
class Fetch:
    revision: int


@dataclass(frozen=True)
class Start:
    revision: int


@dataclass(frozen=True)
class Switch:
    revision: int | None
    """None: no revision is current; the address answers 503."""


@dataclass(frozen=True)
class Stop:
    revision: int


@dataclass(frozen=True)
class Forget:
    """Drop what is remembered of a revision that has ended."""

    revision: int


@dataclass(frozen=True)
class GiveUp:
    revision: int
    problem: Problem


@dataclass(frozen=True)
class LeaveAddress:
    pass


@dataclass(frozen=True)
class Remove:
    """Nothing is left but the folder; remove that."""


Step = TakeAddress | Fetch | Start | Switch | Stop | Forget | GiveUp | LeaveAddress | Remove


@dataclass
class _Steps:
    steps: list[Step] = field(default_factory=list)

    def add(self, *steps: Step) -> None:
        self.steps += steps


def plan(desired: Desired | None, facts: Facts, rules: HealthRules) -> list[Step]:
    """What to do now. Doing part of it, or nothing, and asking again is always right."""
    if desired is None:
        return list(_undeploy(facts))
    steps = _Steps()
    if desired.revision in facts.failed:
        _keep_former(desired, facts, rules, steps)
        return steps.steps
    if not facts.endpoint or (desired.port is not None and desired.port != facts.port):
        steps.add(TakeAddress(desired.port or facts.port))
    _advance(desired.revision, facts, rules, steps)
    _retire(desired.revision, facts, rules, steps)
    return steps.steps


def _undeploy(facts: Facts) -> Iterable[Step]:
    # The address goes first: a caller hears "refused" instead of waiting for what is being stopped.
    if facts.endpoint:
        yield LeaveAddress()
    if facts.serving is not None:
        yield Switch(None)
    for one in facts.instances:
        yield from _end(one)
    if not facts.instances and not facts.endpoint:
        yield Remove()


def _keep_former(desired: Desired, facts: Facts, rules: HealthRules, steps: _Steps) -> None:
    """The wanted revision has failed: whatever served before it goes on, and nothing else runs."""
    former = facts.instance(facts.serving) if facts.serving != desired.revision else None
    if former is None:
        if facts.serving is not None:
            steps.add(Switch(None))
        if facts.endpoint:
            steps.add(LeaveAddress())
    elif not facts.endpoint:
        steps.add(TakeAddress(facts.port))
    for one in facts.instances:
        if one is former:
            _sustain(one, rules, steps)
        else:
            steps.add(*_end(one))


def _sustain(one: Instance, rules: HealthRules, steps: _Steps) -> None:
    """Keep the revision going that the address leads to, although another one is wanted."""
    if one.phase == "fetched":
        steps.add(Start(one.revision))
    elif one.phase == "running" and one.verdict is Verdict.LOST:
        steps.add(Stop(one.revision))
    elif one.phase == "stopped" or (one.phase == "ended" and one.restarts < rules.restarts):
        steps.add(Forget(one.revision), Fetch(one.revision))
    elif one.phase == "ended":
        steps.add(Switch(None), Forget(one.revision))


def _advance(revision: int, facts: Facts, rules: HealthRules, steps: _Steps) -> None:
    """Bring the wanted revision one step further."""
    one = facts.instance(revision)
    if one is None:
        steps.add(Fetch(revision))
        return
    if one.phase == "stopping":
        return  # it was wanted, unwanted and wanted again: it ends first, then starts
    if one.phase == "fetched":
        steps.add(Start(revision))
    elif one.phase == "stopped":
        steps.add(Forget(revision), Fetch(revision))
    elif one.phase == "ended" or (one.phase == "running" and one.verdict is Verdict.LOST):
        _fallen(one, facts, rules, steps)
    elif one.phase == "running" and one.verdict is Verdict.GOOD and facts.serving != revision:
        steps.add(Switch(revision))
    elif one.phase == "running" and one.verdict is Verdict.BAD and _may_return(one, facts, rules) is not None:
        _fallen(one, facts, rules, steps)


def _fallen(one: Instance, facts: Facts, rules: HealthRules, steps: _Steps) -> None:
    problem = one.problem or Problem(
        "not-ready",
        f"revision {one.revision} did not become ready in time",
        "see deployments/services/.logs in the agent's folder",
    )
    former = _may_return(one, facts, rules)
    if former is not None:
        steps.add(Switch(former.revision), GiveUp(one.revision, problem), *_end(one))
    elif not one.was_good or one.restarts >= rules.restarts:
        if facts.serving == one.revision:
            steps.add(Switch(None))
        steps.add(GiveUp(one.revision, problem), *_end(one))
    elif one.phase == "ended":
        steps.add(Forget(one.revision), Fetch(one.revision))
    else:
        steps.add(Stop(one.revision))  # it hangs; when it has ended it is started anew


def _may_return(one: Instance, facts: Facts, rules: HealthRules) -> Instance | None:
    """The former revision, while it is still there to go back to."""
    if facts.serving != one.revision or facts.switched_s_ago >= rules.settle_s:
        return None
    others = (
        other for other in facts.instances if other.revision != one.revision and other.revision not in facts.failed
    )
    return next((other for other in others if other.phase == "running" and other.verdict is Verdict.GOOD), None)


def _retire(revision: int, facts: Facts, rules: HealthRules, steps: _Steps) -> None:
    """Stop what neither is wanted, nor serves, nor may have to serve again."""
    settling = facts.serving == revision and facts.switched_s_ago < rules.settle_s
    for one in facts.instances:
        if one.revision == revision:
            continue
        if one.revision == facts.serving:
            _sustain(one, rules, steps)
        elif not (settling and one.phase == "running" and one.verdict is Verdict.GOOD):
            steps.add(*_end(one))


def _end(one: Instance) -> Iterable[Step]:
    if one.phase in ("ended", "stopped", "fetched", "fetching"):
        yield Forget(one.revision)
    elif one.phase == "running":
        yield Stop(one.revision)
