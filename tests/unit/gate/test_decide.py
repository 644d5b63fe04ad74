"""The decision, rule by rule; and budgets."""

import pytest

from insitu.domain.errors import DeniedError
from insitu.domain.outputs import Finding, OutputContract, OutputType, ReleaseContract, Verdict
from insitu.gate.budget import Spent, check_can_spend, over_budget
from insitu.gate.canonical.form import Leaves
from insitu.gate.checks import CHECKS
from insitu.gate.decide import decide, manifest_digest
from insitu.gate.policy.loading import BudgetRules, load_policy
from insitu.gate.structures import Structures
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


CEILINGS = POLICY.replace("otherwise: held", "otherwise: held, ceiling: 10kB, free_ceiling: 1kB", 1)


@pytest.mark.parametrize(
    ("in_envelope", "carries", "limit"),
    [
        (True, 10_000, ""),
        (True, 10_001, "10 kB in a run envelope"),
        (False, 1_000, ""),
        (False, 1_001, "1 kB without a run envelope"),
    ],
)
def test_what_a_model_could_carry_stays_below_the_ceiling(in_envelope, carries, limit):
    terms = Terms(load_policy(CEILINGS).release, ReleaseContract(), in_envelope=in_envelope)
    decision = decide(subject(ceiling_bytes=carries), terms)
    assert decision.ceiling_bytes == carries
    assert (decision.verdict, decision.limit) == ((Verdict.HELD, limit) if limit else (Verdict.RELEASED, ""))
    if limit:
        assert decision.rule == "ceiling"
        assert ("envelope" in decision.hint) is not in_envelope


def test_without_a_ceiling_in_the_policy_no_model_leaves_by_itself_and_files_do():
    assert decided(subject(ceiling_bytes=1)).rule == "ceiling"
    assert decided(subject(OutputType.URI_FILE, ceiling_bytes=90)).verdict is Verdict.RELEASED


@pytest.mark.parametrize(
    ("leaves", "rows", "measure"),
    [
        (Leaves(5, 9), 0, "a leaf of 9 rows"),
        (Leaves(5, 10), 50, ""),
        (Leaves(6, 10), 59, "a tree of 6 leaves over at most 59 rows"),
        (Leaves(6, None), 60, ""),
        (Leaves(6, None), 0, ""),
    ],
)
def test_leaves_stand_for_groups(leaves, rows, measure):
    decision = decided(subject(leaves=leaves, rows=(RowsSeen(0, rows),) if rows else ()))
    assert (decision.rule, decision.measure) == (("small-leaves", measure) if measure else ("clean", ""))


@pytest.mark.parametrize(
    ("structures", "rule"),
    [
        (Structures(rows_kept="an array as long as the dataset", where="array 1"), "stored-rows"),
        (Structures(extremes=3), "extremes"),
        (Structures(rare_words=1), "vocabulary"),
        (Structures(words=201), "vocabulary"),
        (Structures(words=200), "clean"),
    ],
)
def test_what_keeps_rows_by_construction_is_held(structures, rule):
    assert decided(subject(structures=structures)).rule == rule


def test_tables_may_have_many_words_and_none_of_a_few_rows():
    assert decided(subject(OutputType.URI_FILE, structures=Structures(words=900))).verdict is Verdict.RELEASED
    assert decided(subject(OutputType.URI_FILE, structures=Structures(rare_words=1))).rule == "vocabulary"


def test_counts_of_a_few_are_not_released():
    decision = decided(subject(OutputType.URI_FILE, small_groups=2))
    assert (decision.rule, decision.measure) == ("small-groups", "2 counts below 10")


def test_an_output_is_no_more_files_than_the_policy_allows():
    many = {f"{at}.json": b"1" for at in range(21)}
    assert decided(subject(OutputType.URI_FOLDER, canonical=many)).rule == "file-count"
    assert decided(subject(OutputType.URI_FOLDER, canonical={f"{at}.json": b"1" for at in range(20)})).rule == "clean"


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


def test_places_that_were_not_searched_hold_nothing_back_and_are_said():
    place = "file 1: tensor w: 4 of 32 slices of bits were not searched to their end"
    decision = decided(subject(passed_over=(place,)))
    assert (decision.verdict, decision.passed_over) == (Verdict.RELEASED, (place,))


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
