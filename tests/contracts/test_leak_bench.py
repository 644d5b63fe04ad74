"""A handful of the bench's cases as real jobs: that it still tries what it says it tries. `make leakbench` tries them all."""

import pytest

from benchmarks.leaks.__main__ import Choice, write_data
from benchmarks.leaks.cases import attacks, honest_models
from benchmarks.leaks.policy import release
from benchmarks.leaks.real_gate import RealGate
from benchmarks.scene import open_scene
from insitu.gate.policy.loading import DEFAULT_POLICY_TEXT, load_policy

# Packages that these cases need, and that the tests' machine has anyway.
REQUIREMENTS = "mlflow-skinny==3.17.2\nnumpy==2.4.6\nsafetensors==0.8.0\n"


def case_of(name):
    return next(case for case in [*attacks(), *honest_models()] if case.name == name)


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    with open_scene(quick=True) as scene:
        real = RealGate(scene.world(), tmp_path_factory.mktemp("jobs"), REQUIREMENTS)
        real.open_site(write_data(tmp_path_factory.mktemp("data")))
        first = real.submit(case_of("chosen_words"), "synonyms, three measured rows in 300 lines", inside=False)
        real.approve(first, [*attacks(), *honest_models()])
        yield real


def test_a_printed_table_stays_and_its_job_ran(gate):
    case = case_of("printed_rows")
    let_out, job = gate.play(case, "rows as lists")
    assert job.state == "succeeded"
    assert let_out.kept["log line"] > 0
    assert case.module.recover(let_out, **case.options("rows as lists")) == []


def test_a_clean_network_leaves_inside_a_run_envelope_and_waits_outside(gate):
    case = case_of("mlp_safetensors")
    inside, job = gate.play(case, case.variants[0])
    outside, _ = gate.play(case, case.variants[0], inside=False)
    assert inside.decided["model"].verdict == "released"
    assert inside.files["model"]
    assert gate.ceiling_of(job) > 0
    assert outside.decided["model"].verdict == "held"
    assert outside.files == {}


def test_the_site_goes_by_the_policy_that_a_new_site_starts_with():
    written = f"version: 1\nrelease: {release()}\n"
    assert load_policy(written).release == load_policy(DEFAULT_POLICY_TEXT).release


def test_quick_tries_the_designs_own_variants_that_take_one_run():
    cases = attacks()
    chosen = Choice(quick=True).of(cases)
    assert {variant == case.variants[0] and case.runs(variant) == 1 for case, variant in chosen} == {True}
    assert len(Choice().of(cases)) == sum(len(case.variants) for case in cases)
    assert {case.name for case, _ in Choice(("printed",)).of(cases)} == {"printed_rows"}
