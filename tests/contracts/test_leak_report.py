"""The bench's verdicts and its table follow from what was measured, and from nothing else."""

import json

from benchmarks.leaks.honesty import HonestOutcome
from benchmarks.leaks.let_out import Decided, LetOut
from benchmarks.leaks.outcome import Outcome, verdict_of
from benchmarks.leaks.report import Results, as_markdown, objection, write
from benchmarks.leaks.score import Score

PROOF = Score(rows=9, canaries=3, bytes=120)
NOTHING = Score()
SOMETHING = Score(rows=4, canaries=2, bytes=60)


def an_outcome(kind="objects", **changes) -> Outcome:
    fields = {
        "kind": kind, "name": "neighbours", "variant": "joblib", "title": "A title", "in_envelope": True, "proof": PROOF,
        "got": NOTHING, "verdict": "held", "rule": "rows-in-model", "listed": True,
    }  # fmt: skip
    return Outcome(**(fields | changes))


def a_model(**changes) -> HonestOutcome:
    return HonestOutcome(**({"name": "m", "title": "A model", "passes": True, "verdict": "released"} | changes))


def decided(verdict: str) -> LetOut:
    return LetOut(decided={"model": Decided(verdict, "some-rule")})


def test_what_is_recovered_passes_whatever_the_gate_said():
    for verdict in ("released", "held", "refused", "kept"):
        assert verdict_of([decided(verdict)], SOMETHING)[0] == "passes"


def test_what_is_not_recovered_is_neutralised_held_or_blocked():
    assert verdict_of([decided("released")], NOTHING)[0] == "neutralised"
    assert verdict_of([decided("held"), decided("released")], NOTHING)[0] == "held"
    assert verdict_of([decided("refused")], NOTHING)[0] == "blocked"
    assert verdict_of([LetOut(kept={"log line": 20})], NOTHING) == ("blocked", "log line", "")


def test_an_attack_that_is_stopped_is_no_miss():
    assert objection(an_outcome()) == ""


def test_an_attack_that_passes_is_a_miss_unless_it_can_only_be_bounded():
    passing = {"got": SOMETHING, "verdict": "passes", "bound_bytes": 100}
    assert "4 rows recovered, 2 of them canaries" in objection(an_outcome(**passing))
    assert objection(an_outcome(**passing, why_bounded="nothing can stop it")) == ""


def test_weights_may_pass_inside_an_envelope_within_a_stated_bound_and_never_outside():
    passing = {"kind": "weights", "got": SOMETHING, "verdict": "passes", "why_bounded": "nothing tells them apart"}
    assert objection(an_outcome(**passing, bound_bytes=100)) == ""
    assert "bound" in objection(an_outcome(**passing))
    assert "outside" in objection(an_outcome(**passing, bound_bytes=100, in_envelope=False))


def test_weights_that_rewriting_has_to_undo_may_not_pass_at_all():
    assert "2 of them canaries" in objection(
        an_outcome(kind="weights", name="low_bits", got=SOMETHING, verdict="passes", bound_bytes=100)
    )


def test_a_decoder_that_never_worked_and_a_job_that_never_ran_are_misses():
    assert "open gate" in objection(an_outcome(proof=NOTHING))
    assert "never came to the gate" in objection(an_outcome(verdict="failed", rule="environment"))


def test_an_honest_model_that_is_kept_back_or_changed_is_a_miss():
    results = Results({}, honest=[a_model(), a_model(passes=False, verdict="held"), a_model(before=0.9, after=0.89)])
    assert len(results.misses) == 2
    assert results.as_document()["honest"]["passed"] == 1


def test_the_table_shows_each_outcome_and_sums_each_class(tmp_path):
    attacks = [
        an_outcome(),
        an_outcome(in_envelope=False),
        an_outcome(variant="another", got=SOMETHING, verdict="passes", bound_bytes=77, listed=False),
    ]
    results = Results({"cores": "2"}, attacks, [a_model(before=0.91, after=0.911)], seconds_per_100_mb=1.25)
    text = as_markdown(results)
    assert "| objects | inside | 1 of 2 | 1 of 1 | 0.50 | 2 | 60 | 240 |" in text
    assert "| objects | outside | 1 of 1 | 1 of 1 | 1.00 | 0 | 0 | 120 |" in text
    assert "passes, bounded by 77 bytes" in text
    assert "Honest models that left by themselves: 1 of 1. Largest change of accuracy: 0.10 points" in text
    assert "make leakbench" in text.splitlines()[2]
    write(results, tmp_path)
    assert (tmp_path / "RESULTS.md").read_text() == text
    assert json.loads((tmp_path / "RESULTS.json").read_text()) == results.as_document()
