"""Tree ensembles rewritten: one numbering, and nothing beside the trees."""

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeRegressor

from insitu.gate.canonical.precision import Rounding
from insitu.gate.contents import NotReadableError
from insitu.gate.onnx.model import FLOATS, INTS, STRINGS, Attribute, parse_model
from insitu.gate.onnx.trees import TREES, rewrite_trees

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(500, 5)).astype(np.float32)


def lists_of(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"zipmap": False} if hasattr(model, "predict_proba") else None
        written: Any = to_onnx(model, ROWS[:1], options=options)
        data = written.SerializeToString()
    return next(dict(node.attributes) for node in parse_model(data).nodes if node.operator in TREES)


@pytest.fixture(scope="module")
def forest():
    labels = (ROWS[:, 0] > ROWS[:, 1]).astype(int)
    return RandomForestClassifier(5, min_samples_leaf=10, random_state=0).fit(ROWS, labels)


@pytest.fixture(scope="module")
def lists(forest):
    return lists_of(forest)


def rewritten(attributes):
    return rewrite_trees(attributes, Rounding("bfloat16"))


def changed(lists, **values):
    return {**lists, **{name: dataclasses.replace(lists[name], value=value) for name, value in values.items()}}


def same(first, second) -> bool:
    return set(first) == set(second) and all(
        np.array_equal(first[name].value, second[name].value)
        if first[name].type != STRINGS
        else first[name].value == second[name].value
        for name in first
    )


def test_it_says_how_many_leaves_there_are(forest, lists):
    assert rewritten(lists).leaves.most == max(tree.get_n_leaves() for tree in forest.estimators_)


def test_a_copy_of_a_copy_is_the_copy(lists):
    once = rewritten(lists)
    again = rewritten(once.attributes)
    assert same(once.attributes, again.attributes)
    assert once.carries_bits == again.carries_bits


def test_numbers_of_nodes_and_their_order_do_not_survive(lists):
    trees, ids = lists["nodes_treeids"].value, lists["nodes_nodeids"].value
    new = {
        key: int(at)
        for key, at in zip(
            zip(trees.tolist(), ids.tolist(), strict=True), RNG.permutation(len(ids)) + 1799, strict=True
        )
    }

    def renamed(tree_name, id_name):
        keys = zip(lists[tree_name].value.tolist(), lists[id_name].value.tolist(), strict=True)
        return np.array([new[key] for key in keys])

    numbers = {
        "nodes_nodeids": renamed("nodes_treeids", "nodes_nodeids"),
        "nodes_truenodeids": renamed("nodes_treeids", "nodes_truenodeids"),
        "nodes_falsenodeids": renamed("nodes_treeids", "nodes_falsenodeids"),
        "class_nodeids": renamed("class_treeids", "class_nodeids"),
    }
    order = np.concatenate([RNG.permutation(np.flatnonzero(trees == tree)) for tree in np.unique(trees)])
    shuffled = changed(lists, **numbers)
    for name, one in list(shuffled.items()):
        if name.startswith("nodes_"):
            value = [one.value[at] for at in order] if one.type == STRINGS else one.value[order]
            shuffled[name] = dataclasses.replace(one, value=value)
    classes = RNG.permutation(len(lists["class_ids"].value))
    for name in ("class_treeids", "class_nodeids", "class_ids", "class_weights"):
        shuffled[name] = dataclasses.replace(shuffled[name], value=shuffled[name].value[classes])
    assert same(rewritten(shuffled).attributes, rewritten(lists).attributes)


def test_numbers_in_leaves_and_hit_rates_do_not_survive(lists):
    leaf = np.array([mode == b"LEAF" for mode in lists["nodes_modes"].value])
    secret = RNG.normal(size=len(leaf)).astype(np.float32)
    noisy = changed(
        lists,
        nodes_values=np.where(leaf, secret, lists["nodes_values"].value),
        nodes_featureids=np.where(leaf, 1799, lists["nodes_featureids"].value),
        nodes_truenodeids=np.where(leaf, 1799, lists["nodes_truenodeids"].value),
    )
    noisy["nodes_hitrates"] = Attribute("nodes_hitrates", FLOATS, secret)
    assert same(rewritten(noisy).attributes, rewritten(lists).attributes)


def test_nodes_that_no_root_leads_to_are_more_than_one_root(lists):
    count = len(lists["nodes_modes"].value)
    more = {}
    for name, one in lists.items():
        if name.startswith("nodes_"):
            extra = [b"LEAF"] if one.type == STRINGS else one.value[-1:]
            more[name] = dataclasses.replace(
                one, value=one.value + extra if one.type == STRINGS else np.concatenate([one.value, extra])
            )
    more["nodes_nodeids"].value[count] = 9999
    with pytest.raises(NotReadableError, match="root"):
        rewritten({**lists, **more})


def test_every_surviving_bit_is_counted(lists):
    """Thresholds that spell a message in all the steps of their grid."""
    split = np.array([mode != b"LEAF" for mode in lists["nodes_modes"].value])
    secret = np.where(split, RNG.integers(0, 4097, len(split)) / 4096, 0).astype(np.float32)
    one_feature = np.zeros(len(split), dtype=np.int64)
    written = rewritten(changed(lists, nodes_values=secret, nodes_featureids=one_feature))
    assert written.carries_bits >= 12 * split.sum()


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes_truenodeids": lambda ids: ids * 0},  # all below the first
        {"nodes_truenodeids": lambda ids: ids + 5000},
        {"nodes_nodeids": lambda ids: ids * 0},
        {"nodes_featureids": lambda ids: ids - 5},
        {"nodes_featureids": lambda ids: ids[:-1]},
        {"nodes_modes": lambda modes: [b"Ada", *modes[1:]]},
        {"class_nodeids": lambda ids: ids[:-1]},
    ],
    ids=["circle", "no child", "one number", "no feature", "short", "mode", "short weights"],
)
def test_lists_that_make_no_trees_are_not_rewritten(lists, changes):
    with pytest.raises(NotReadableError):
        rewritten(changed(lists, **{name: change(lists[name].value) for name, change in changes.items()}))


def test_a_leaf_has_one_weight_for_a_class(lists):
    twice = {
        name: np.concatenate([lists[name].value, lists[name].value]) for name in lists if name.startswith("class_")
    }
    twice.pop("class_labels", None)
    with pytest.raises(NotReadableError, match="two weights"):
        rewritten(changed(lists, **twice))


def test_regressors_are_rewritten_as_well():
    lists = lists_of(DecisionTreeRegressor(min_samples_leaf=20).fit(ROWS, ROWS[:, 0]))
    written = rewritten(lists)
    assert written.attributes["target_weights"].type == FLOATS
    assert written.attributes["nodes_featureids"].type == INTS
    assert same(written.attributes, rewritten(written.attributes).attributes)
