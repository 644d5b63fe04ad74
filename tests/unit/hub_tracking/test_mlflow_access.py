"""The allow-list in front of MLflow's server, as a table: who may ask what, and what is handed on."""

import json

import pytest

from insitu.domain.errors import DeniedError, InvalidInputError, NotFoundError
from insitu.hub.mlflow_access import CALLS, checked_request, error_body, find_call
from insitu.wire.people import Role

READS = [
    ("GET", "/"),
    ("HEAD", "/"),
    ("GET", "/static-files/static/js/main.c2f5f8d4.js"),
    ("GET", "/api/2.0/mlflow/runs/get"),
    ("POST", "/api/2.0/mlflow/runs/search"),
    ("POST", "/ajax-api/2.0/mlflow/runs/search"),
    ("POST", "/api/2.0/mlflow/experiments/search"),
    ("GET", "/api/2.0/mlflow/metrics/get-history"),
    ("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"),
    ("POST", "/api/2.0/mlflow/logged-models/search"),
    ("GET", "/api/2.0/mlflow/logged-models/m-03810f7171944899bc3c526a5625b56d"),
    ("GET", "/api/2.0/mlflow/artifacts/list"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/1/models/m-1/artifacts/MLmodel"),
    ("GET", "/api/2.0/mlflow/registered-models/alias"),
    ("GET", "/api/2.0/mlflow/model-versions/get-download-uri"),
    ("GET", "/get-artifact"),
]
LABELS = [
    ("POST", "/api/2.0/mlflow/runs/set-tag"),
    ("POST", "/api/2.0/mlflow/runs/delete-tag"),
    ("POST", "/api/2.0/mlflow/registered-models/set-tag"),
    ("DELETE", "/api/2.0/mlflow/registered-models/delete-tag"),
    ("POST", "/ajax-api/2.0/mlflow/model-versions/set-tag"),
    ("DELETE", "/api/2.0/mlflow/model-versions/delete-tag"),
    ("POST", "/api/2.0/mlflow/registered-models/alias"),
    ("DELETE", "/api/2.0/mlflow/registered-models/alias"),
]
REFUSED = [
    ("POST", "/api/2.0/mlflow/runs/create"),
    ("POST", "/api/2.0/mlflow/runs/log-batch"),
    ("POST", "/api/2.0/mlflow/runs/log-metric"),
    ("POST", "/api/2.0/mlflow/runs/update"),
    ("POST", "/api/2.0/mlflow/runs/delete"),
    ("POST", "/api/2.0/mlflow/experiments/create"),
    ("POST", "/api/2.0/mlflow/experiments/delete"),
    ("POST", "/api/2.0/mlflow/model-versions/create"),
    ("DELETE", "/api/2.0/mlflow/model-versions/delete"),
    ("POST", "/api/2.0/mlflow/model-versions/transition-stage"),
    ("POST", "/api/2.0/mlflow/registered-models/create"),
    ("POST", "/api/2.0/mlflow/registered-models/rename"),
    ("PATCH", "/api/2.0/mlflow/registered-models/update"),
    ("POST", "/api/2.0/mlflow/logged-models"),
    ("PATCH", "/api/2.0/mlflow/logged-models/m-1"),
    ("PATCH", "/api/2.0/mlflow/logged-models/m-1/tags"),
    ("DELETE", "/api/2.0/mlflow/logged-models/m-1"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/models/m-1/artifacts/MLmodel"),
    ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/1/models/m-1/artifacts/MLmodel"),
    ("POST", "/api/2.0/mlflow-artifacts/mpu/create/1/x"),
    ("POST", "/ajax-api/2.0/mlflow/upload-artifact"),
    ("POST", "/ajax-api/2.0/mlflow/gateway-proxy"),
    ("GET", "/api/2.0/mlflow/gateway-proxy"),
    ("GET", "/api/3.0/mlflow/gateway/secrets/list"),
    ("POST", "/api/2.0/mlflow/webhooks"),
    ("GET", "/api/2.0/mlflow/webhooks"),
    ("POST", "/ajax-api/3.0/mlflow/ui-telemetry"),
    ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
    ("POST", "/ajax-api/3.0/mlflow/scorer/invoke"),
    ("GET", "/graphql"),
    ("OPTIONS", "/api/2.0/mlflow/runs/search"),
    ("TRACE", "/api/2.0/mlflow/runs/get"),
    ("POST", "/api/2.0/mlflow/runs/get"),
    ("GET", "/api/2.0/mlflow/something-that-a-later-version-brings"),
]
NOWHERE = [("GET", "/nope"), ("GET", "/static-files/"), ("GET", ""), ("GET", "//"), ("POST", "/")]
ELSEWHERE = [
    "/api/2.0/mlflow-artifacts/artifacts/../../mlflow.db",
    "/api/2.0/mlflow-artifacts/artifacts/1/./x",
    "/api/2.0/mlflow-artifacts/artifacts//etc/passwd",
    "/api/2.0/mlflow-artifacts/artifacts/1\\..\\x",
    "/api/2.0/mlflow-artifacts/artifacts/1/\x00",
    "/static-files/../index.html",
    "/api/2.0/mlflow/runs/get/",
    "/api/2.0/mlflow//runs/get",
    "/api/2.0/mlflow/runs/get\n",
    "/api/2x0/mlflow/runs/get",
    "/API/2.0/mlflow/runs/get",
]


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(("method", "path"), READS)
def test_everybody_may_look(method, path, role):
    assert find_call(method, path, role).fields == ()


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(("method", "path"), LABELS)
def test_tags_and_aliases_are_for_roles_that_label(method, path, role):
    if role is Role.STEWARD:
        with pytest.raises(DeniedError, match="steward"):
            find_call(method, path, role)
    else:
        assert find_call(method, path, role).fields


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(("method", "path"), REFUSED)
def test_everything_else_is_refused_to_everybody(method, path, role):
    with pytest.raises(DeniedError) as caught:
        find_call(method, path, role)
    assert caught.value.hint
    assert error_body(caught.value)[0] == 403


@pytest.mark.parametrize(("method", "path"), NOWHERE)
def test_what_is_no_page_of_mlflow_is_not_found(method, path):
    with pytest.raises(NotFoundError):
        find_call(method, path, Role.ADMIN)


@pytest.mark.parametrize("path", ELSEWHERE)
def test_a_path_that_could_be_read_in_two_ways_is_refused(path):
    with pytest.raises((DeniedError, NotFoundError)):
        find_call("GET", path, Role.ADMIN)


def call(method, path):
    return find_call(method, path, Role.ADMIN)


SET_TAG = call("POST", "/api/2.0/mlflow/model-versions/set-tag")
ALIAS = call("POST", "/api/2.0/mlflow/registered-models/alias")
GRAPHQL = call("POST", "/graphql")
SEARCH = call("POST", "/api/2.0/mlflow/runs/search")
FILE = call("GET", "/get-artifact")


def test_a_write_is_handed_on_with_nothing_but_what_was_checked():
    fields = {"name": "m", "version": "1", "key": "reviewed", "value": "yes"}
    query, body = checked_request(SET_TAG, b"", json.dumps(fields, indent=4).encode())
    assert (query, json.loads(body)) == (b"", fields)


@pytest.mark.parametrize("key", ["insitu.site", "mlflow.user", "Insitu.job", "\tinsitu.job", "insitu.new"])
def test_lineage_cannot_be_written_by_people(key):
    fields = {"name": "m", "version": "1", "key": key, "value": "elsewhere"}
    with pytest.raises(DeniedError, match="can't be changed"):
        checked_request(SET_TAG, b"", json.dumps(fields).encode())


def test_a_description_may_be_written():
    fields = {"run_id": "0" * 32, "key": "mlflow.note.content", "value": "a note"}
    checked_request(call("POST", "/api/2.0/mlflow/runs/set-tag"), b"", json.dumps(fields).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"{}"',
        b"not json",
        b"\xff",
        b'{"name": "m", "version": "1", "key": "k", "value": "v", "source": "s3://elsewhere"}',
        b'{"name": "m", "version": 1, "key": "k", "value": "v"}',
        b'{"name": "m", "version": "1", "key": ["insitu.site"], "value": "v"}',
        b'{"name": "m", "version": "1", "value": "v"}',
        b'{"name": "m", "version": null, "key": "k", "value": "v"}',
        b"[" * 100_000,
    ],
)
def test_a_write_that_says_more_or_other_than_its_fields_is_refused(body):
    with pytest.raises(InvalidInputError):
        checked_request(SET_TAG, b"", body)


def test_of_a_field_that_is_given_twice_mlflow_sees_the_one_that_was_checked():
    body = b'{"name": "m", "version": "1", "key": "insitu.site", "key": "mine", "value": "v"}'
    assert json.loads(checked_request(SET_TAG, b"", body)[1])["key"] == "mine"
    assert b"insitu" not in checked_request(SET_TAG, b"", body)[1]


def test_a_write_may_not_also_speak_through_its_query():
    with pytest.raises(InvalidInputError):
        checked_request(ALIAS, b"version=2", b'{"name": "m", "alias": "champion", "version": "1"}')


@pytest.mark.parametrize(
    "query", [b"path=../../mlflow.db", b"path=a&path=..%2Fb", b"path=/etc/passwd", b"path=a%5C..%5Cb"]
)
def test_a_query_cannot_name_a_file_outside(query):
    with pytest.raises(InvalidInputError):
        checked_request(FILE, query, b"")


def test_reads_are_handed_on_as_they_are():
    assert checked_request(SEARCH, b"x=1", b'{"experiment_ids": ["1"]}') == (b"", b'{"experiment_ids": ["1"]}')
    assert checked_request(FILE, b"run_id=1&path=model/MLmodel", b"ignored") == (b"run_id=1&path=model/MLmodel", b"")


def graphql(query):
    return checked_request(GRAPHQL, b"", json.dumps({"query": query, "variables": {}, "operationName": "A"}).encode())


def test_graphql_may_ask():
    graphql('query A { mlflowGetRun(input: {runId: "1"}) { run { info { runId } } } } fragment F on X { a }')


@pytest.mark.parametrize("query", ["mutation A { b }", "query A { b } mutation B { c }", "subscription A { b }"])
def test_graphql_may_not_change(query):
    with pytest.raises(DeniedError):
        graphql(query)


@pytest.mark.parametrize("query", ["query {", "", "{" * 50_000])
def test_graphql_that_cannot_be_read_is_refused(query):
    with pytest.raises(InvalidInputError):
        graphql(query)


def test_no_write_is_listed_without_its_fields():
    searches = ("search", "get-latest-versions", "graphql", "traces")
    for each in CALLS:
        assert each.method in {"GET", "POST", "DELETE"}
        if each.method != "GET" and not any(word in each.path for word in searches):
            assert each.fields, each.path
