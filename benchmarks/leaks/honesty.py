"""Lets an honest model meet the gate: does it leave by itself, and does it still know what it knew?"""

from __future__ import annotations

import sys
import traceback
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.leaks.cases import Case
from benchmarks.leaks.open_gate import OpenGate
from benchmarks.leaks.outcome import NOT_WRITTEN
from benchmarks.leaks.real_gate import RealGate

MOST_CHANGE = 0.2  # points of accuracy, by rewriting


@dataclass(frozen=True)
class HonestOutcome:
    name: str
    title: str
    passes: bool
    verdict: str
    rule: str = ""
    measure: str = ""
    before: float | None = None
    after: float | None = None
    ceiling_bytes: int = 0
    size_bytes: int = 0

    @property
    def change(self) -> float | None:
        """In points of accuracy."""
        return None if self.before is None or self.after is None else 100 * (self.after - self.before)

    @property
    def as_good(self) -> bool:
        return self.change is None or abs(self.change) <= MOST_CHANGE

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"change": self.change}


def try_honest(case: Case, variant: str, *, open_gate: OpenGate, real: RealGate) -> HonestOutcome:
    """What becomes of it. Whatever goes wrong is an outcome too: the others go on."""
    try:
        return _try_honest(case, variant, open_gate=open_gate, real=real)
    except Exception as error:  # noqa: BLE001 - see above
        traceback.print_exc(file=sys.stderr)
        return HonestOutcome(case.name, case.title, passes=False, verdict="failed", rule=type(error).__name__)


def _try_honest(case: Case, variant: str, *, open_gate: OpenGate, real: RealGate) -> HonestOutcome:
    let_out, job = real.play(case, variant)
    decided = {name: one for name, one in let_out.decided.items() if one.rule != NOT_WRITTEN}
    first = next((one for one in decided.values() if one.verdict != "released"), None) or next(
        iter(decided.values()), None
    )
    all_left = getattr(case.module, "all_left", None)
    left = all_left(len(let_out.metrics), len(let_out.lines)) if all_left else bool(decided)
    passes = left and let_out.state == "succeeded" and all(one.verdict == "released" for one in decided.values())
    before = after = None
    if hasattr(case.module, "accuracy"):
        # Training is the same to the last bit each time, so the open gate's model is the one that was rewritten.
        before = open_gate.evaluate(case, open_gate.play(case, variant).files)
        after = open_gate.evaluate(case, let_out.files) if passes else None
    return HonestOutcome(
        name=case.name,
        title=case.title,
        passes=passes,
        verdict=first.verdict if first else let_out.state,
        rule=first.rule if first else f"{len(let_out.metrics)} metrics, {len(let_out.lines)} lines",
        measure=first.measure if first else "",
        before=before,
        after=after,
        ceiling_bytes=real.ceiling_of(job),
        size_bytes=sum(len(data) for paths in let_out.files.values() for data in paths.values()),
    )
