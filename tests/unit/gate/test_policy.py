"""A policy is read whole or not at all."""

import datetime as dt
import json

import pytest
import yaml

from insitu.domain.digests import digest_of
from insitu.domain.errors import InvalidInputError
from insitu.gate.policy.keys import KEYS
from insitu.gate.policy.loading import DEFAULT_POLICY_TEXT, Ports, load_policy, policy_digest, policy_schema
from insitu.gate.policy.schema import FILE_NAME, policy_schema_text

KEY = "ed25519:SHA256:" + "a" * 43
FULL = f"""\
version: 7
signers: {{alice: "{KEY}"}}
bases: ["sha256:{"0" * 64}"]
datasets:
  wdbc: {{who: [alice], purpose: screening, until: 2027-06-30, runs: 50}}
sandbox: {{memory: 4GiB, cpus: 1.5, gpus: 0, timeout: 6h, processes: 256}}
release:
  metrics: {{digits: 4, max_count: 5000, per_second: 50}}
  params: {{max_bytes: 8kB}}
  logs: {{mode: scanned, max_bytes: 256kB}}
  errors: type-and-frames
  models:
    formats: [skops]
    trusted_types: [sklearn.tree._classes.DecisionTreeClassifier]
    known_rows: 0
    max_bytes: 5MB
    otherwise: held
  files: {{formats: [csv, json], max_bytes: 1MB, otherwise: refused}}
budget: {{per_job: 5MB, per_dataset_per_month: 100MB, per_submitter_per_month: 50MB}}
review: {{reviewers: {{jo: "{KEY}"}}, needed: 1, own: never}}
deployments: {{signers: [alice], max: 3, ports: 8000-8010, memory: 2GiB}}
"""


def broken(old: str, new: str) -> InvalidInputError:
    assert old in FULL
    with pytest.raises(InvalidInputError) as caught:
        load_policy(FULL.replace(old, new))
    assert "nothing leaves, nothing runs" in caught.value.why
    return caught.value


def test_a_full_policy_is_read_with_units():
    policy = load_policy(FULL)
    assert policy.sandbox.memory_bytes == 4 * 2**30
    assert policy.sandbox.timeout_s == 6 * 3600
    assert policy.datasets["wdbc"].until == dt.date(2027, 6, 30)
    assert policy.datasets["wdbc"].who == ("alice",)
    assert policy.release.models.max_bytes == 5_000_000
    assert policy.budget.per_dataset_per_month_bytes == 100_000_000
    assert policy.deployments.ports == Ports(first=8000, last=8010)
    assert 8010 in policy.deployments.ports
    assert 8011 not in policy.deployments.ports


def test_what_is_absent_is_denied():
    policy = load_policy("version: 1")
    assert policy.signers == {}
    assert policy.bases == ()
    assert (
        policy.sandbox.memory_bytes == policy.sandbox.timeout_s == policy.sandbox.processes == policy.sandbox.cpus == 0
    )
    assert policy.release.metrics.max_count == 0
    assert policy.release.params.max_bytes == 0
    assert (policy.release.logs.mode, policy.release.logs.max_bytes, policy.release.errors) == ("held", 0, "none")
    assert (policy.release.models.formats, policy.release.models.max_bytes) == ((), 0)
    assert (policy.release.files.formats, policy.release.files.max_bytes) == ((), 0)
    assert policy.budget.per_job_bytes == policy.deployments.max == 0
    assert policy.review.reviewers == {}


def test_the_default_policy_lets_nobody_run_anything():
    policy = load_policy(DEFAULT_POLICY_TEXT)
    assert (policy.signers, policy.bases, policy.datasets) == ({}, (), {})
    assert (policy.review.reviewers, policy.deployments.signers) == ({}, ())


def test_the_default_policy_lets_no_model_of_code_that_nobody_approved_leave_without_a_person():
    models = load_policy(DEFAULT_POLICY_TEXT).release.models
    assert (models.known_rows, models.free_ceiling_bytes, models.otherwise) == (0, 0, "held")
    assert models.precision is not None


def test_the_default_policy_says_every_key_that_is_not_a_name():
    text = yaml.safe_load(DEFAULT_POLICY_TEXT)
    for key in KEYS:
        node, parts = text, [part for part in key.split(".") if part != "*"]
        if "*" in key:
            continue
        for part in parts:
            assert part in node, key
            node = node[part]


def test_the_first_line_of_the_default_policy_names_the_schema_beside_it():
    assert DEFAULT_POLICY_TEXT.splitlines()[0] == f"# yaml-language-server: $schema=./{FILE_NAME}"
    assert json.loads(policy_schema_text())["additionalProperties"] is False


def test_a_policy_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_policy(FULL).version = 8


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_policy_is_an_error(text):
    with pytest.raises(InvalidInputError) as caught:
        load_policy(text)
    assert caught.value.code == "policy-empty"


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("memory: 4GiB", "memroy: 4GiB", "did you mean sandbox.memory?"),
        ("runs: 50", "run: 50", "did you mean datasets.wdbc.runs?"),
        ("known_rows", "knownrows", "did you mean release.models.known_rows?"),
        ("review:", "reveiw:", "did you mean review?"),
        ("otherwise: refused", "zzzz: 1", "known here: formats, max_bytes, max_count, otherwise"),
    ],
)
def test_an_unknown_key_is_an_error_that_knows_the_right_one(old, new, hint):
    error = broken(old, new)
    assert error.code == "policy-invalid"
    assert "is not a key of a policy" in error.what
    assert hint in error.hint


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("otherwise: refused", "otherwise: resident", "line 18: release.files.otherwise: resident"),
        ("gpus: 0", "gpus: 1", "line 6: sandbox.gpus: 1"),
    ],
)
def test_what_nothing_enforces_yet_is_an_error_that_says_so(old, new, what):
    error = broken(old, new)
    assert error.code == "policy-not-enforced"
    assert what in error.what
    assert "is not enforced by this version" in error.what
    assert error.hint


def test_sections_of_the_wrong_kind_are_not_searched_for_unenforced_keys():
    assert broken("review: {reviewers", "sandbox2: 1\nreview: {reviewers").code == "policy-invalid"
    with pytest.raises(InvalidInputError, match=r"line 2: release: .*"):
        load_policy("version: 1\nrelease: 3")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("version: 7", "version: '7'", "line 1: version: "),
        ("version: 7", "version: 0", "line 1: version: "),
        ("memory: 4GiB", "memory: 4gib", "line 6: sandbox.memory: '4gib' is not a size"),
        ("timeout: 6h, ", "", "line 6: sandbox.timeout is missing"),
        ("who: [alice]", "who: alice", "line 5: datasets.wdbc.who: must be a list"),
        ("max: 3", "max: true", "deployments.max"),
        ("8000-8010", "8010", "deployments.ports: ports are written as a range"),
        ("8000-8010", "x-y", "deployments.ports: ports are written as a range"),
        ("8000-8010", "8010-8000", "deployments.ports"),
        ("8000-8010", "8000-80100", "deployments.ports"),
        ("digits: 4", "digits: 40", "release.metrics.digits"),
        ("[skops]", "[skps]", "release.models.formats.0"),
        ("who: [alice]", "who: [bob]", "datasets.wdbc.who names bob, who is not in signers"),
        ("signers: [alice], max", "signers: [eve], max", "deployments.signers names eve"),
        (KEY, "rsa:abc", "signers.alice"),
        ("own: never", "own: always", "review.own"),
        ("sha256:0", "sha1:0", "bases.0"),
    ],
)
def test_a_wrong_value_is_named_by_path_and_line(old, new, what):
    assert what in broken(old, new).what


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("version: 1\nversion: 2", "line 2: version is there twice"),
        ("version: 1\nsandbox: {cpus: 1, cpus: 2}", "line 2: sandbox.cpus is there twice"),
        ("version: 1\nsigners: {no: 1}", "line 2: a key must be plain text"),
        ("? [a]\n: 1", "a key must be plain text"),
        ("version: 1\nbases: &a [x]\nbudget: *a", "`&` and `*` are not used"),
        ("a: &a [*a]", "`&` and `*` are not used"),
        ("version: [", "line 1: "),
        ("- 1", "not a mapping"),
        ("version: 1\ndatasets: {d: {until: 2027-02-30}}", "not readable as YAML"),
        ("version: \x01", "not readable as YAML"),
        ("version: !!python/object:os.system 1", "line 1: could not determine a constructor"),
        ("#" * (1 << 20) + "\nversion: 1", "larger than 1 MiB"),
    ],
)
def test_a_file_that_could_be_read_in_two_ways_is_not_read(text, what):
    with pytest.raises(InvalidInputError) as caught:
        load_policy(text)
    assert what in caught.value.what


def test_deeply_nested_yaml_is_an_error_and_no_crash():
    with pytest.raises(InvalidInputError):
        load_policy("[" * 1500)


def test_the_digest_is_of_the_text_as_it_stands():
    assert policy_digest("version: 1\n") == digest_of(b"version: 1\n")
    assert policy_digest("version: 1\n") != policy_digest("version: 1 # x\n")


def test_the_schema_names_the_files_keys_and_forbids_others():
    schema = policy_schema()
    assert schema["additionalProperties"] is False
    sandbox = schema["$defs"]["SandboxRules"]["properties"]
    assert set(sandbox) == {"memory", "cpus", "gpus", "timeout", "processes", "disk", "free"}
    json.dumps(schema)
