"""The decision, rule by rule; and budgets."""

import pytest

from insitu.domain.errors import DeniedError
from insitu.domain.outputs import Finding, OutputContract, OutputType, ReleaseContract, Verdict
from insitu.gate.budget import Spent, check_can_spend, over_budget
from insitu.gate.checks import CHECKS
from insitu.gate.decide import decide, manifest_digest
from insitu.gate.policy import BudgetRules, load_policy
from insitu.gate.subject import RowsSeen, Subject, Terms

MODEL = OutputType.MLFLOW_MODEL
POLICY = """
version: 1
release:
  models: {formats: [skops], trusted_types: [sklearn.tree._tree.Tree], known_rows: 1, max_bytes: 1kB, otherwise: held}
  files: {formats: [json], max_bytes: 100, otherwise: refused}
"""


def subject(type: OutputType = MODEL, **fields) -> Subject:
    known = {
        "name": "model",
        "type": type,
        "declared": OutputContract("model", type),
        "written_bytes": 5000,
        "canonical": {"MLmodel": b"x" * 10, "model.skops": b"y" * 20},
        "format": "skops" if type is MODEL else "json",
    }
    return Subject(**{**known, **fields})


def decided(about: Subject, policy: str = POLICY):
    return decide(about, Terms(load_policy(policy).release, ReleaseContract()))


def test_a_clean_output_is_released_as_its_canonical_copy():
    decision = decided(subject())
    assert (decision.verdict, decision.rule) == (Verdict.RELEASED, "clean")
    assert (decision.size_bytes, decision.files) == (30, ("MLmodel", "model.skops"))
    assert decision.digest == manifest_digest({"model.skops": b"y" * 20, "MLmodel": b"x" * 10})
    assert decision.checks == tuple(CHECKS)


def test_an_undeclared_output_is_kept():
    decision = decided(subject(declared=None))
    assert (decision.verdict, decision.rule) == (Verdict.KEPT, "declared-only")
    other = decided(subject(declared=OutputContract("model", OutputType.URI_FILE)))
    assert (other.verdict, other.measure, other.limit) == (
        Verdict.KEPT,
        "written as mlflow_model",
        "declared as uri_file",
    )


def test_rows_decide_before_everything_about_packing():
    decision = decided(
        subject(
            canonical=None,
            rows=(RowsSeen(426, 569, "model.pkl: array 6"), RowsSeen(3, 569, in_text=True)),
            kinds={"pickle": "model.pkl"},
            types=frozenset({"sklearn.neighbors._classification.KNeighborsClassifier"}),
            unread=("a", "b"),
            encoded="file 1",
            objections=(Finding("kind", "the model is not stored in skops", "", "hint"),),
        )
    )
    assert (decision.verdict, decision.rule) == (Verdict.HELD, "rows-in-model")
    assert (decision.measure, decision.limit) == ("426 of the dataset's 569 rows", "1 row")
    assert [finding.rule for finding in decision.findings] == [
        "rows-in-model", "rows-in-text", "size", "pickles", "types", "encoded-text", "kind", "not-readable",
    ]  # fmt: skip
    assert decision.digest is None


def test_as_many_rows_as_the_policy_allows_are_allowed_in_models_alone():
    assert decided(subject(rows=(RowsSeen(1, 569), RowsSeen(1, 569, in_text=True)))).verdict is Verdict.RELEASED
    decision = decided(subject(OutputType.URI_FILE, rows=(RowsSeen(1, 569, "file 1"),)))
    assert (decision.verdict, decision.rule, decision.limit) == (Verdict.REFUSED, "rows-in-model", "0 rows")
    decision = decided(subject(OutputType.URI_FILE, rows=(RowsSeen(1, 569, in_text=True),)))
    assert (decision.rule, decision.limit) == ("rows-in-text", "0 rows")


def test_the_worst_dataset_counts():
    assert decided(subject(rows=(RowsSeen(0, 10), RowsSeen(7, 20)))).measure == "7 of the dataset's 20 rows"


def test_what_is_too_large_is_refused():
    decision = decided(subject(canonical={"model.skops": b"x" * 2000}))
    assert (decision.verdict, decision.rule) == (Verdict.REFUSED, "size")
    assert (decision.measure, decision.limit) == ("2 kB", "1 kB in the site's policy")
    own = decided(subject(declared=OutputContract("model", MODEL, max_bytes=5)))
    assert own.limit == "5 B in the job's file"
    larger = decided(subject(declared=OutputContract("model", MODEL, max_bytes=50_000)))
    assert larger.verdict is Verdict.RELEASED


def test_types_beyond_the_safe_list_and_the_policys_are_held():
    assert decided(subject(types=frozenset({"sklearn.tree._tree.Tree"}))).verdict is Verdict.RELEASED
    decision = decided(subject(types=frozenset({"sklearn.svm._classes.SVC", "__main__.Ada_17_99", "os.system"})))
    assert (decision.verdict, decision.rule, decision.measure) == (
        Verdict.HELD,
        "types",
        "sklearn.svm._classes.SVC, 2 more",
    )
    assert decided(subject(types=frozenset({"__main__.Ada"}))).measure == "1 types"
    assert decided(subject(loaders=frozenset({"MethodNode"}))).measure == "nodes that call functions"


def test_a_format_that_is_not_listed_is_not_released():
    decision = decided(subject(OutputType.URI_FOLDER, format="csv,json"))
    assert (decision.verdict, decision.rule, decision.measure, decision.limit) == (
        Verdict.REFUSED,
        "kind",
        "csv",
        "formats: json",
    )
    assert decided(subject(), "version: 1\nrelease: {models: {formats: [], max_bytes: 1kB}}").limit == "formats: none"
    assert decided(subject(canonical=None, written_bytes=0)).measure == "could not be rewritten"


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"encoded": "file 1"}, "encoded-text"),
        ({"odd_names": 2}, "names"),
        ({"unread": ("x",)}, "not-readable"),
        ({"kinds": {"pickle": "f"}}, "pickles"),
    ],
)
def test_each_objection_holds_a_model_and_refuses_a_file_as_the_policy_says(fields, rule):
    assert (decided(subject(**fields)).verdict, decided(subject(**fields)).rule) == (Verdict.HELD, rule)
    assert decided(subject(OutputType.URI_FILE, **fields)).verdict is Verdict.REFUSED


def test_what_was_not_checked_is_held():
    decision = decided(subject(not_checked=("rows-in-model", "rows-in-text")))
    assert (decision.verdict, decision.rule, decision.measure) == (
        Verdict.HELD,
        "not-checked",
        "2 checks could not be made",
    )


def test_a_policy_without_release_lets_nothing_out():
    assert decided(subject(), "version: 1").verdict is Verdict.HELD


def test_no_finding_is_longer_than_what_may_be_sent():
    about = subject(
        canonical=None,
        rows=(RowsSeen(9, 9, "w" * 999), RowsSeen(9, 9, "w" * 999, in_text=True)),
        kinds={"pickle": "w" * 999},
        types=frozenset(f"sklearn.{'x' * 80}{n}" for n in range(9)),
        encoded="w" * 999,
        unread=("w" * 999,),
        odd_names=10**6,
    )
    for finding in decided(about).findings:
        assert len(finding.where) <= 200
        assert len(finding.measure) <= 200
        assert len(finding.limit) <= 200
        assert len(finding.hint) <= 500


RULES = BudgetRules.model_validate({"per_job": 100, "per_dataset_per_month": 1000, "per_submitter_per_month": 500})


@pytest.mark.parametrize(
    ("spent", "rule"),
    [
        (Spent(95, {}, 0), "budget.per_job"),
        (Spent(0, {"a": 10, "b": 995}, 0), "budget.per_dataset_per_month"),
        (Spent(0, {"a": 10}, 495), "budget.per_submitter_per_month"),
    ],
)
def test_each_budget_ends(spent, rule):
    finding = over_budget(RULES, spent, 6)
    assert finding is not None
    assert finding.rule == rule
    with pytest.raises(DeniedError) as caught:
        check_can_spend(RULES, spent, 6)
    assert (caught.value.rule, caught.value.code) == (rule, "budget")


def test_up_to_the_budget_is_allowed():
    check_can_spend(RULES, Spent(94, {"a": 994}, 494), 6)
