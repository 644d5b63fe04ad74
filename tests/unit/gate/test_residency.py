"""`otherwise: resident`: what the policy alone may let be used at the site, and what still waits for a person."""

from typing import Any

import pytest

from insitu.domain.outputs import Finding, OutputContract, OutputType, ReleaseContract, Verdict
from insitu.gate.decide import decide
from insitu.gate.policy.loading import load_policy
from insitu.gate.subject import RowsSeen, Subject, Terms

POLICY = """
version: 1
release:
  models: {formats: [skops], max_bytes: 1kB, otherwise: resident}
  files: {formats: [json], max_bytes: 1kB}
"""
ROWS: dict[str, Any] = {"rows": (RowsSeen(426, 569, "model.skops: array 3"),)}


def decided(type_: OutputType = OutputType.MLFLOW_MODEL, **fields: Any):
    known = {
        "name": "model",
        "type": type_,
        "declared": OutputContract("model", type_),
        "written_bytes": 50,
        "canonical": {"MLmodel": b"x", "model.skops": b"y"},
        "format": "skops",
    }
    subject = Subject(**{**known, **fields})
    return decide(subject, Terms(load_policy(POLICY).release, ReleaseContract()))


def test_a_model_that_stores_rows_may_be_used_where_they_are():
    knn = frozenset({"sklearn.neighbors._classification.KNeighborsClassifier"})
    decision = decided(**ROWS, types=knn)
    assert (decision.verdict, decision.rule) == (Verdict.RESIDENT, "rows-in-model")
    assert decision.files == ("MLmodel", "model.skops")


def test_a_clean_model_leaves_all_the_same():
    assert decided().verdict is Verdict.RELEASED


@pytest.mark.parametrize(
    "fields",
    [
        {"canonical": None},
        {"canonical": None, "kinds": {"pickle": "model.pkl"}},
        {"kinds": {"pickle": "member 1"}},
        {"encoded": "member 2"},
        {"odd_names": 1},
        {"unread": ("member 1: damaged",)},
        {"objections": (Finding("model-code", "a loader of its own", "", "hint"),)},
        {"not_checked": ("rows-in-text",)},
    ],
    ids="+".join,
)
def test_what_was_not_understood_to_its_end_waits_for_a_person(fields: dict[str, Any]):
    assert decided(**(ROWS | fields)).verdict is Verdict.HELD


def test_only_what_can_be_served_stays_by_itself():
    assert decided(OutputType.CUSTOM_MODEL, **ROWS).verdict is Verdict.HELD
    assert decided(OutputType.URI_FILE, **ROWS).verdict is Verdict.HELD
