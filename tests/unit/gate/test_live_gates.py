"""Metrics, parameters and names while a job runs."""

import base64
import datetime as dt

import pytest

from insitu.domain.outputs import Verdict
from insitu.gate.channels.code_words import CodeWords
from insitu.gate.channels.evidence import LiveEvidence
from insitu.gate.channels.metric_names import MetricNames
from insitu.gate.channels.metrics import MetricGate, round_significant
from insitu.gate.channels.names import NameGate, objection_to
from insitu.gate.channels.params import ParamGate
from insitu.gate.encoded_text import encoded_run
from insitu.gate.policy.loading import MetricRules, ParamRules

AT = dt.datetime(2026, 11, 23, 12, 0, 0, tzinfo=dt.UTC)


CODE = CodeWords({"train.py": 10}, frozenset({"score_of_ward", "layer7", "500"}))


def gate(*declared: str, known=(), digits: int = 4, max_count: int = 100, per_second: int = 50) -> MetricGate:
    evidence = LiveEvidence(known)
    rules = MetricRules(digits=digits, max_count=max_count, per_second=per_second, max_names=64)
    return MetricGate(rules, MetricNames(declared, evidence, most=64, code=lambda: CODE), evidence)


def test_a_declared_metric_leaves_rounded():
    outcome = gate("auc").decide("auc", 0.98765432198, 3, AT)
    assert (outcome.leaves, outcome.value, outcome.step, outcome.rule) == (True, 0.9877, 3, "declared")


@pytest.mark.parametrize(
    ("value", "rounded"), [(123456.789, 123500.0), (-0.00012346, -0.0001235), (-0.0, 0.0), (1e300, 1e300)]
)
def test_values_keep_the_policys_significant_digits(value, rounded):
    assert round_significant(value, 4) == rounded
    assert str(round_significant(-0.0, 4)) == "0.0"


def test_an_undeclared_metric_is_kept():
    outcome = gate("auc", "training_*").decide("secret", 1.0, 0, AT)
    assert (outcome.verdict, outcome.rule, outcome.leaves) == (Verdict.KEPT, "not-declared", False)


def test_a_pattern_lets_ordinary_names_through():
    metrics = gate("training_*")
    assert metrics.decide("training_accuracy_score", 0.5, 0, AT).leaves
    assert metrics.decide("training_accuracy_score", 0.6, 1, AT).leaves


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("m_" + base64.b32encode(b"17.99,10.38,122.8").decode(), "name-encoded"),
        ("m_" + "a" * 120, "name-length"),
        ("m_\u202e", "name-characters"),
        ("m_" + b"17.99,10.38,122.8".hex(), "name-encoded"),
    ],
)
def test_a_pattern_lets_no_encoded_names_through(name, rule):
    assert gate("m_*").decide(name, 1.0, 0, AT).rule == rule


def test_a_pattern_lets_only_so_many_names_through():
    metrics = gate("fold*", max_count=1000, per_second=1000)
    names = [f"fold{fold}_step{step}" for fold in range(20) for step in range(20)]
    assert sum(metrics.decide(name, 1.0, 0, AT).leaves for name in names) == 64
    assert metrics.decide("fold20", 1.0, 0, AT).rule == "name-count"


@pytest.mark.parametrize(
    "name",
    ["m_validAUC", "m_score_of_ward_12", "m_layer7_grad_norm", "m_precision_at_500", "m_mean_test_f1_macro", "m_x"],
)
def test_names_under_a_pattern_are_words_of_the_field_or_of_the_code(name):
    assert gate("m_*").decide(name, 1.0, 0, AT).leaves


@pytest.mark.parametrize("name", ["m_kqzvh", "m_ada_lovelace", "m_1799", "m_1_2_3", "m_ab_cd", "m_loss" + "_loss" * 9])
def test_other_words_and_numbers_in_names_stay(name):
    assert gate("m_*").decide(name, 1.0, 0, AT).rule == "name-words"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_kept(value):
    assert gate("auc").decide("auc", value, 0, AT).rule == "not-finite"


@pytest.mark.parametrize("value", [1e12, -1e300])
def test_what_is_too_large_to_be_a_measurement_is_kept_and_next_to_nothing_is_nothing(value):
    assert gate("auc").decide("auc", value, 0, AT).rule == "value-range"
    assert gate("auc").decide("auc", 1e-300, 0, AT).value == 0.0


@pytest.mark.parametrize("step", [-1, 10_000_001, 2**60])
def test_a_step_that_spells_something_is_kept(step):
    assert gate("auc").decide("auc", 1.0, step, AT).rule == "step-range"


def test_steps_that_count_leave_in_every_run_and_begin_anew():
    metrics = gate("loss", max_count=1000)
    steps = [*range(0, 500, 50), 487, *range(0, 100, 10)]
    assert all(metrics.decide("loss", 1.0, step, AT, run=run).leaves for run in ("", "r1") for step in steps)


def test_steps_that_spell_something_stay():
    metrics = gate("loss", max_count=1000)
    steps = [sum(range(7, 7 + gap)) for gap in range(1, 60)]
    assert sum(metrics.decide("loss", 1.0, step, AT).leaves for step in steps) <= 12
    assert metrics.decide("loss", 1.0, 3, AT).rule == "step-pattern"


def test_what_values_could_carry_is_known():
    metrics = gate("auc")
    assert metrics.carried_bytes == 0
    assert all(metrics.decide("auc", step / 7, step, AT).leaves for step in range(80))
    assert metrics.carried_bytes == 226


def test_more_values_than_allowed_are_refused():
    metrics = gate("auc", max_count=2)
    verdicts = [metrics.decide("auc", 1.0, step, AT).verdict for step in range(3)]
    assert verdicts == [Verdict.RELEASED, Verdict.RELEASED, Verdict.REFUSED]


def test_more_values_a_second_than_allowed_are_kept_and_a_clock_that_steps_back_gains_nothing():
    metrics = gate("auc", per_second=1)
    assert [metrics.decide("auc", 1.0, step, AT).leaves for step in range(61)] == [True] * 60 + [False]
    assert metrics.decide("auc", 1.0, 60, AT - dt.timedelta(seconds=5)).rule == "metric-rate"
    assert metrics.decide("auc", 1.0, 60, AT + dt.timedelta(seconds=1)).leaves


def test_names_are_scanned_for_cells_of_one_row(wdbc_known):
    names = NameGate(LiveEvidence([wdbc_known]))
    assert names.objection_to("loss 17.99 10.38 122.8 1001.0") == "rows-in-name"
    assert names.objection_to("loss") == ""
    assert names.objection_to("loss") == ""


def test_only_so_many_names_leave():
    names = NameGate(LiveEvidence(()), max_names=2)
    assert [names.objection_to(name) for name in ("a", "b", "c", "a")] == ["", "", "name-count", ""]


@pytest.mark.parametrize(
    "name", ["training_accuracy_score", "val/loss", "C", "LogisticRegression", "top-5 (%)", "model_v2.1"]
)
def test_ordinary_names_leave(name):
    assert objection_to(name) == ""


@pytest.mark.parametrize("name", ["", " x", "a\nb", "é"])
def test_odd_characters_stay(name):
    assert objection_to(name) == "name-characters"


def params(max_bytes: int = 1000, known=()) -> ParamGate:
    return ParamGate(ParamRules(max_bytes=max_bytes), LiveEvidence(known))


def test_parameters_leave_within_their_budget():
    some = params(40)
    assert some.decide("solver", "lbfgs").leaves
    assert some.decide("max_iter", "1000").leaves
    assert some.decide("penalty", "elasticnet, and some more").rule == "params-budget"
    assert some.decide("C", "").leaves


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("x" * 501, "value-length"),
        ("a\nb", "value-characters"),
        (base64.b64encode(bytes(range(60))).decode(), "value-encoded"),
        ("[17.99, 10.38, 122.8, 1001.0]", "rows-in-value"),
    ],
)
def test_values_that_carry_something_stay(wdbc_known, value, rule):
    assert params(known=[wdbc_known]).decide("note", value).rule == rule


def test_a_parameters_name_is_looked_at_too():
    assert params().decide("p_" + "4f" * 20, "1").rule == "name-encoded"


def test_a_runs_name_counts_against_the_same_budget():
    some = params(10)
    assert some.decide_name("run one").leaves
    assert some.decide_name("run two").rule == "params-budget"
    assert params().decide_name("ab" * 30 + "12").rule == "name-encoded"


@pytest.mark.parametrize(
    "text",
    [
        "4f" * 16,
        "DEADBEEF00112233445566778899AABB",
        base64.b64encode(bytes(range(30, 60))).decode(),
        base64.b32encode(b"17.99,10.38,122.8,1001").decode(),
        "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOP",
        "12345678901234567890123",
        "1_2345_6789_0123_4567_8901",
    ],
)
def test_bytes_in_disguise_are_recognised(text):
    assert encoded_run(text)


@pytest.mark.parametrize(
    "text",
    [
        "Epoch 12/200 ======================== loss=0.1234 val_loss=0.2345",
        "/usr/lib/python3.11/site-packages/sklearn/linear_model/_logistic.py:469: ConvergenceWarning: lbfgs failed",
        "HistGradientBoostingClassifier(max_iter=200, learning_rate=0.05)",
        "2026-11-23 12:45:18,123 INFO training_script_for_breast_cancer started",
        "0.12345678901234567",
        "https://scikit-learn.org/stable/modules/preprocessing.html",
        "----------------------------------------------------------------",
    ],
)
def test_ordinary_lines_are_no_disguise(text):
    assert not encoded_run(text)


def test_parameters_in_many_short_encoded_pieces_stay():
    some = params(max_bytes=100_000)
    pieces = [base64.b32encode(str(3**at).encode())[:12].decode() for at in range(30, 230)]
    left = sum(some.decide(f"layer_{at}", piece).leaves for at, piece in enumerate(pieces))
    assert left <= 30  # at most 30 pieces of 7 bytes


def test_parameters_of_chosen_words_and_numbers_are_bounded_and_usual_ones_leave():
    some = params(max_bytes=100_000)
    usual = {"C": "1.0", "max_iter": "1000", "class_weight": "None", "fit_intercept": "True", "solver": "lbfgs"}
    usual |= {f"classifier__max_depth_{at}": str(at) for at in range(40)}
    assert all(some.decide(key, value).leaves for key, value in usual.items())
    chosen = [some.decide(f"p{at}", str(3**at % 9_973)).rule for at in range(400)]
    assert chosen[-1] == "params-ceiling"
    assert some.decide_name("a name that is new here").rule in {"params-ceiling", "name"}
