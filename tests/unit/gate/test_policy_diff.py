"""A new policy against an old one: each change is stricter, looser or neither, as the policy acts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from insitu.gate.policy.diff import Direction, compare, count
from insitu.gate.policy.keys import KEYS, SECTIONS, Ranked
from insitu.gate.policy.loading import load_policy, policy_schema
from insitu.gate.policy.values import DatasetRules, Policy, Ports

KEY, OTHER = "ed25519:SHA256:" + "a" * 43, "ed25519:SHA256:" + "b" * 43
BASE, BASE_2 = "sha256:" + "0" * 64, "sha256:" + "1" * 64
TEXT = f"""\
version: 7
signers: {{alice: "{KEY}"}}
bases: ["{BASE}"]
datasets:
  wdbc.v: {{who: [alice], purpose: screening, until: 2027-06-30, runs: 50}}
sandbox: {{memory: 4GiB, cpus: 1.5, gpus: 0, timeout: 6h, processes: 256}}
release:
  metrics: {{digits: 4, max_count: 5000, per_second: 50}}
  params: {{max_bytes: 8kB}}
  logs: {{mode: scanned, max_bytes: 256kB}}
  errors: type-and-frames
  models: {{formats: [skops], trusted_types: [], known_rows: 0, max_bytes: 5MB, otherwise: held}}
  files: {{formats: [csv, json], max_bytes: 1MB, otherwise: refused}}
budget: {{per_job: 5MB, per_dataset_per_month: 100MB, per_submitter_per_month: 50MB}}
review: {{reviewers: {{jo: "{KEY}"}}, needed: 1, own: never}}
deployments: {{signers: [alice], max: 3, ports: 8000-8010, memory: 2GiB}}
"""
LOOSER, STRICTER, NEUTRAL = Direction.LOOSER, Direction.STRICTER, Direction.NEUTRAL


def changed(old: str, new: str) -> list[tuple[str, Direction]]:
    assert old in TEXT
    return [(one.key, one.direction) for one in compare(load_policy(TEXT), load_policy(TEXT.replace(old, new)))]


@pytest.mark.parametrize(
    ("old", "new", "key", "direction"),
    [
        ("version: 7", "version: 8", "version", NEUTRAL),
        ("digits: 4", "digits: 5", "release.metrics.digits", LOOSER),
        ("digits: 4", "digits: 3", "release.metrics.digits", STRICTER),
        ("max_bytes: 5MB", "max_bytes: 6MB", "release.models.max_bytes", LOOSER),
        ("timeout: 6h", "timeout: 90s", "sandbox.timeout", STRICTER),
        ("mode: scanned", "mode: held", "release.logs.mode", STRICTER),
        ("errors: type-and-frames", "errors: none", "release.errors", STRICTER),
        ("otherwise: held", "otherwise: refused", "release.models.otherwise", STRICTER),
        ("otherwise: refused", "otherwise: held", "release.files.otherwise", LOOSER),
        ("[csv, json]", "[csv]", "release.files.formats", STRICTER),
        ("[csv, json]", "[json, csv]", "release.files.formats", NEUTRAL),
        ("trusted_types: []", "trusted_types: [a.B]", "release.models.trusted_types", LOOSER),
        ("until: 2027-06-30", "until: 2027-07-01", "datasets.wdbc.v.until", LOOSER),
        ("until: 2027-06-30", "until: 2027-06-29", "datasets.wdbc.v.until", STRICTER),
        ("runs: 50", "runs: 49", "datasets.wdbc.v.runs", STRICTER),
        ("purpose: screening", "purpose: billing", "datasets.wdbc.v.purpose", LOOSER),
        (f'alice: "{KEY}"', f'alice: "{OTHER}"', "signers.alice", LOOSER),
        (f'{{alice: "{KEY}"}}', f'{{alice: "{KEY}", bob: "{OTHER}"}}', "signers.bob", LOOSER),
        (f'{{jo: "{KEY}"}}', "{}", "review.reviewers.jo", STRICTER),
        ("8000-8010", "8001-8010", "deployments.ports", STRICTER),
        ("8000-8010", "8001-8011", "deployments.ports", LOOSER),
        (BASE, BASE_2, "bases", LOOSER),
        ("version:", f'images: ["{BASE}"]\nversion:', "images", LOOSER),
    ],
)
def test_one_change_has_one_direction(old: str, new: str, key: str, direction: Direction) -> None:
    found = changed(old, new)
    assert (key, direction) in found
    assert {name for name, _ in found} == {key}


def test_in_a_list_what_comes_is_looser_and_what_goes_is_stricter() -> None:
    found = compare(load_policy(TEXT), load_policy(TEXT.replace(BASE, BASE_2)))
    assert [one.direction for one in found] == [LOOSER, STRICTER]
    assert BASE_2 in found[0].help
    assert BASE in found[1].help


def test_a_dataset_that_comes_or_goes_is_one_change_that_says_all_of_it() -> None:
    dataset = "  wdbc.v: {who: [alice], purpose: screening, until: 2027-06-30, runs: 50}\n"
    without = load_policy(TEXT.replace("datasets:\n" + dataset, ""))
    (gone,) = compare(load_policy(TEXT), without)
    assert (gone.key, gone.direction) == ("datasets.wdbc.v", STRICTER)
    assert gone.before == "who alice; purpose screening; until 2027-06-30; runs 50"
    (come,) = compare(without, load_policy(TEXT))
    assert (come.direction, come.after) == (LOOSER, gone.before)


def test_a_section_that_is_left_out_is_compared_as_it_acts() -> None:
    bare = load_policy("version: 7")
    assert {one.direction for one in compare(load_policy(TEXT), bare)} == {STRICTER}
    looser = compare(bare, load_policy(TEXT))
    assert {one.direction for one in looser} == {LOOSER}
    assert (
        compare(
            bare, load_policy("version: 7\nbudget: {per_job: 0, per_dataset_per_month: 0, per_submitter_per_month: 0}")
        )
        == []
    )


def test_the_same_policy_written_otherwise_has_no_changes() -> None:
    assert (
        compare(load_policy(TEXT), load_policy("# comment\n" + TEXT.replace("5MB", "5000kB").replace("6h", "360m")))
        == []
    )


def test_values_are_shown_as_people_write_them() -> None:
    (change,) = compare(load_policy(TEXT), load_policy(TEXT.replace("timeout: 6h", "timeout: 90m")))
    assert (change.before, change.after) == ("6h", "90m")
    (change,) = compare(load_policy(TEXT), load_policy(TEXT.replace("max_bytes: 8kB", "max_bytes: 16kB")))
    assert (change.before, change.after) == ("8 kB", "16 kB")


def with_models(**changes: Any) -> Policy:
    policy = load_policy(TEXT)
    models = policy.release.models.model_copy(update=changes)
    return policy.model_copy(update={"release": policy.release.model_copy(update={"models": models})})


def test_weights_as_stored_are_the_loosest_precision_and_no_smoke_prediction_is_looser_than_one() -> None:
    from insitu.gate.policy.values import SmokeRules

    def directions(changes: dict[str, Any], back: Policy) -> set[Direction]:
        return {one.direction for one in compare(back, with_models(**changes))}

    plain = with_models()
    assert directions({"precision": "bfloat16"}, plain) == {STRICTER}
    assert directions({"precision": "float32"}, with_models(precision="float16")) == {LOOSER}
    smoke = SmokeRules(rows=64, tolerance=0.01)
    assert directions({"smoke": smoke}, plain) == {STRICTER}
    assert directions({"smoke": None}, with_models(smoke=smoke)) == {LOOSER}
    assert directions({"smoke": SmokeRules(rows=32, tolerance=0.01)}, with_models(smoke=smoke)) == {LOOSER}


def test_a_budget_for_ceilings_that_is_left_out_acts_as_the_one_for_bytes() -> None:
    policy = load_policy(TEXT)

    def with_budget(bytes_: int | None) -> Policy:
        budget = policy.budget.model_copy(update={"ceiling_per_dataset_per_month_bytes": bytes_})
        return policy.model_copy(update={"budget": budget})

    assert compare(policy, with_budget(policy.budget.per_dataset_per_month_bytes)) == []
    assert [one.direction for one in compare(policy, with_budget(1))] == [STRICTER]


def test_what_is_stricter_for_free_code_is_compared_as_it_acts() -> None:
    old = TEXT.replace("  errors:", "  free: {metric_digits: 3}\n  errors:")
    assert [(one.key, one.direction) for one in compare(load_policy(TEXT), load_policy(old))] == [
        ("release.free.metric_digits", STRICTER)
    ]
    # Of two limits the lower one holds: saying more than is said for all changes nothing.
    assert compare(load_policy(TEXT), load_policy(old.replace("metric_digits: 3", "metric_digits: 8"))) == []
    general = compare(load_policy(old), load_policy(old.replace("digits: 4", "digits: 2")))
    assert [(one.key, one.direction) for one in general] == [
        ("release.metrics.digits", STRICTER),
        ("release.free.metric_digits", STRICTER),
    ]


def test_changes_are_counted_by_direction() -> None:
    new = (
        TEXT.replace("digits: 4", "digits: 5").replace("6h", "7h").replace("runs: 50", "runs: 5").replace(": 7", ": 8")
    )
    assert count(compare(load_policy(TEXT), load_policy(new))) == {"looser": 2, "stricter": 1, "neutral": 1}


# -- the table of keys -------------------------------------------------------------------------------------------------


def keys_of(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    """Each key of the values' classes, as the table writes it."""
    for name, field in model.model_fields.items():
        key, kind = f"{path}{field.alias or name}", field.annotation
        below = [one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, BaseModel)]
        if kind == dict[str, Any] or "dict" in str(kind):
            yield f"{key}.*", kind
            if any(one is DatasetRules for one in below):
                yield from keys_of(DatasetRules, f"{key}.*.")
        elif below and below[0] is not Ports:
            yield from keys_of(below[0], f"{key}.")
        else:
            yield key, kind


def test_every_key_of_a_policy_is_in_the_table_and_no_other() -> None:
    assert {key for key, _ in keys_of(Policy)} == set(KEYS)


def test_every_word_of_a_ranked_key_is_ranked() -> None:
    for key, kind in keys_of(Policy):
        order = KEYS[key].order
        if isinstance(order, Ranked):
            words = {
                word for one in (kind, *get_args(kind)) for word in get_args(one) or (one,) if isinstance(word, str)
            }
            assert words <= set(order.words), key
            assert words


def test_the_schema_tells_an_editor_what_each_key_and_section_means() -> None:
    schema = policy_schema()

    def child_of(node: dict[str, Any], part: str) -> dict[str, Any]:
        for choice in (node, *node.get("anyOf", [])):
            if "$ref" in choice:
                node = schema["$defs"][choice["$ref"].rpartition("/")[2]]
        return next(iter(node["patternProperties"].values())) if part == "*" else node["properties"][part]

    told = {**{key: known.help for key, known in KEYS.items()}, **SECTIONS}
    for path, text in told.items():
        node = schema
        for part in path.split("."):
            node = child_of(node, part)
        assert node["description"] == text, path
