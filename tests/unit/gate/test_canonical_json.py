"""Models as JSON: rounded, sorted, counted; and the trees in them."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeClassifier

from insitu.gate.canonical.form import Leaves
from insitu.gate.canonical.json import rewrite_json_model
from insitu.gate.canonical.precision import Rounding
from insitu.gate.contents import NotReadableError
from insitu.gate.effort import Effort
from insitu.gate.tree_shapes import leaves_of

RNG = np.random.default_rng(0)
WORDS = st.from_regex(r"[a-z_]{1,10}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(-1e30, 1e30) | WORDS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=30,
)


def rewrite(value: Any, precision=None):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return rewrite_json_model(data, Rounding(precision), Effort())


def read(value: Any, precision=None) -> Any:
    return json.loads(rewrite(value, precision).data)


@given(VALUES)
def test_without_a_precision_the_values_stay(value):
    assert read(value) == value


@given(VALUES, st.sampled_from([None, "bfloat16", "float32"]))
def test_a_copy_of_a_copy_is_the_copy(value, precision):
    once = rewrite(value, precision).data
    assert rewrite(once, precision).data == once


@given(st.dictionaries(WORDS, VALUES, max_size=5))
def test_layout_order_of_keys_and_escapes_do_not_survive(value):
    shuffled = json.dumps(dict(reversed(value.items())), indent=3).replace('"a', '"\\u0061')
    assert rewrite(shuffled.encode()).data == rewrite(value).data


def test_low_digits_of_weights_do_not_survive():
    plain = np.round(RNG.normal(size=2000), 1)
    marked = plain + np.sign(plain) * RNG.random(2000) * 1e-6
    assert rewrite({"w": marked.tolist()}, "bfloat16").data == rewrite({"w": plain.tolist()}, "bfloat16").data


def test_an_intercept_far_from_zero_stays_close_in_a_small_model():
    assert read({"intercept": 738_123.4, "coef": [0.5]}, "bfloat16")["intercept"] == pytest.approx(738_123.4, rel=1e-5)


def test_whole_numbers_stay_and_are_counted():
    thresholds = RNG.integers(0, 2**40, 500).tolist()
    written = rewrite({"threshold": thresholds}, "bfloat16")
    assert json.loads(written.data)["threshold"] == thresholds
    assert written.carries_bits >= 40 * 500 - 500
    assert rewrite({"n": 2**3000 + 1799}).carries_bits > 3000


def test_booleans_and_kinds_of_numbers_are_counted():
    secret = [bool(bit) for bit in RNG.integers(0, 2, 4000)]
    assert rewrite({"mask": secret}).carries_bits >= 4000
    kinds = [1 if bit else 1.5 for bit in RNG.integers(0, 2, 4000)]
    assert rewrite({"mask": kinds}).carries_bits >= 4000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a": 1, "a": 2}',
        b"[NaN]",
        b"[Infinity]",
        b'["' + b"MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U" + b'"]',
        b'{"' + b"x" * 81 + b'": 1}',
        b'["line\\nbreak"]',
        b"[" * 100 + b"]" * 100,
        b"\xff\xfe",
    ],
    ids=["empty", "open", "repeated", "nan", "infinity", "encoded", "long", "control", "deep", "not text"],
)
def test_what_is_not_a_plain_document_is_not_rewritten(data):
    with pytest.raises(NotReadableError):
        rewrite(data)


# ── Trees ───────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module", params=[1, 7, 20])
def tree(request):
    rows = RNG.normal(size=(800, 4))
    return (
        DecisionTreeClassifier(min_samples_leaf=request.param, random_state=0)
        .fit(rows, rows[:, 0] * rows[:, 1] > 0)
        .tree_
    )


def as_lists(tree):
    return {
        "l": tree.children_left.tolist(),
        "r": tree.children_right.tolist(),
        "which": tree.feature.tolist(),
        "at": tree.threshold.tolist(),
        "weight": tree.n_node_samples.tolist(),
    }


def as_objects(tree):
    nodes = []
    for at in range(tree.node_count):
        node = {"id": 1000 + at, "seen": int(tree.n_node_samples[at])}
        if tree.children_left[at] >= 0:
            node.update(yes=1000 + int(tree.children_left[at]), no=1000 + int(tree.children_right[at]))
        nodes.append(node)
    return nodes


def nested(tree, at=0):
    node: dict[str, Any] = {"cases": int(tree.n_node_samples[at])}
    if tree.children_left[at] >= 0:
        node.update(below=nested(tree, tree.children_left[at]), above=nested(tree, tree.children_right[at]))
    return node


@pytest.mark.parametrize("written", [as_lists, as_objects, nested])
def test_trees_are_found_by_their_shape_whatever_their_keys_are(tree, written):
    leaves = tree.children_left < 0
    expected = Leaves(int(leaves.sum()), int(tree.n_node_samples[leaves].min()))
    assert leaves_of(written(tree)) == expected
    assert leaves_of({"model": {"trees": [written(tree)], "classes": [0, 1]}}) == expected
    assert rewrite(written(tree), "bfloat16").leaves == expected


def test_without_counts_a_tree_still_says_how_many_leaves_it_has(tree):
    lists = as_lists(tree)
    del lists["weight"]
    assert leaves_of(lists) == Leaves(int((tree.children_left < 0).sum()), None)


def test_the_largest_tree_and_the_smallest_leaf_of_several_count():
    small = {"left": [1, -1, -1], "right": [2, -1, -1], "n": [50, 30, 20]}
    large = {"left": [1, -1, 3, -1, -1], "right": [2, -1, 4, -1, -1], "n": [50, 30, 20, 18, 2]}
    assert leaves_of({"forest": [small, large]}) == Leaves(3, 2)


@pytest.mark.parametrize(
    "document",
    [
        {"scaler": {"mean": [1.5], "n": 5}, "model": {"coef": [1.5], "n": 6}},
        {"coef": [[0.5, 1.5], [2.5, 3.5]], "classes": [0, 1, 2]},
        {"a": [1, 2, 3], "b": [4, 5, 6]},
        [{"x": 1, "y": 2}, {"x": 3, "y": 4}, {"x": 5, "y": 6}],
        {"epochs": [1, 2, 3, 4], "steps": [10, 20, 30, 40]},
        [],
        3,
    ],
)
def test_other_documents_have_no_trees(document):
    assert leaves_of(document) is None
