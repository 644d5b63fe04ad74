"""Tries one variant: proves its decoder behind the open gate, then lets it meet the real one."""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import dataclass
from typing import Any

from benchmarks.leaks import people
from benchmarks.leaks.cases import Case
from benchmarks.leaks.let_out import LetOut
from benchmarks.leaks.open_gate import OpenGate
from benchmarks.leaks.outcome import Outcome, verdict_of
from benchmarks.leaks.real_gate import RealGate
from benchmarks.leaks.score import Score, Truth

_ENDINGS = {"", "script"}
"""How an attack may end by its own doing."""


@dataclass
class Attempts:
    open: OpenGate
    real: RealGate
    truth: Truth
    outside: bool = True
    """Whether they are tried outside of a run envelope too."""

    def attack(self, case: Case, variant: str) -> list[Outcome]:
        """What becomes of it: inside a run envelope, then outside of any.

        What takes many runs is tried outside only if it was not stopped inside:
        outside each rule of the policy is the same or stricter.
        """
        proof = self._prove(case, variant)
        inside = self._meet(case, variant, proof, in_envelope=True)
        if not self.outside or (case.runs(variant) > 1 and inside.stopped):
            return [inside]
        return [inside, self._meet(case, variant, proof, in_envelope=False)]

    def _prove(self, case: Case, variant: str) -> Score:
        """What the decoder recovers when nobody is at the gate."""
        try:
            played = [self.open.play(case, variant, run) for run in range(case.runs(variant))]
            return self.recover(case, variant, played)
        except Exception:  # noqa: BLE001 - whatever goes wrong proves nothing, and the others go on
            traceback.print_exc(file=sys.stderr)
            return Score()

    def _meet(self, case: Case, variant: str, proof: Score, *, in_envelope: bool) -> Outcome:
        """The real gate. Whatever goes wrong is an outcome too."""
        try:
            return self._met(case, variant, proof, in_envelope=in_envelope)
        except Exception as error:  # noqa: BLE001 - see above
            traceback.print_exc(file=sys.stderr)
            return Outcome(
                case.kind, case.name, variant, case.title, in_envelope, proof, Score(), "failed", type(error).__name__
            )

    def _met(self, case: Case, variant: str, proof: Score, *, in_envelope: bool) -> Outcome:
        begun = time.monotonic()
        played = [self.real.play(case, variant, run, inside=in_envelope) for run in range(case.runs(variant))]
        let_outs = [let_out for let_out, _ in played]
        got = self.recover(case, variant, let_outs)
        verdict, rule, measure = verdict_of(let_outs, got)
        broken = next((job for _, job in played if job.failure not in _ENDINGS), None)
        if broken is not None:  # it never came to the gate: that shows nothing
            verdict, rule, measure = "failed", broken.failure, broken.id
        ceilings = sum(self.real.ceiling_of(job) for _, job in played)
        streamed = sum(self.real.streamed_by(job) for _, job in played)
        return Outcome(
            kind=case.kind,
            name=case.name,
            variant=variant,
            title=case.title,
            in_envelope=in_envelope,
            proof=proof,
            got=got,
            verdict=verdict,
            rule=rule,
            measure=measure,
            bound_bytes=ceilings + streamed,
            left_bytes=sum(let_out.size_bytes for let_out in let_outs),
            seconds=time.monotonic() - begun,
            listed=variant == case.variants[0],
            why_bounded=case.bounded(variant),
        )

    def recover(self, case: Case, variant: str, let_outs: list[LetOut]) -> Score:
        given: Any = let_outs if case.takes_runs else let_outs[0]
        return self.truth.score(case.module.recover(given, **case.options(variant)))


def truth() -> Truth:
    return Truth(people.COLUMNS, people.table(), people.canaries())
