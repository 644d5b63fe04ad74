"""MLflow behind the hub's door, over HTTP: with MLflow's own client, and with requests that it would not make."""

import asyncio
import base64
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from insitu.hub.mlflow_mount import mlflow_app
from insitu.hub.tracking import RegisteredRelease, Tracking, TrackingSettings
from insitu.wire.people import Role

START_LIMIT_S = 120
TOKENS = {f"token-of-{role}": (f"a-{role}", role) for role in Role}
STRANGER = "token-of-nobody"
ALIAS = "/mlflow/api/2.0/mlflow/registered-models/alias"
SET_TAG = "/mlflow/api/2.0/mlflow/model-versions/set-tag"


def authenticate(headers):
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return TOKENS.get(token) if scheme == "Bearer" else None


def released_model(folder: Path) -> Path:
    """A pipeline as a data scientist's script saves it. In a process of its own: MLflow's flavours import much."""
    script = """
import sys, mlflow.sklearn
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
rows, labels = load_breast_cancer(return_X_y=True)
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
mlflow.sklearn.save_model(model, sys.argv[1], serialization_format="skops", pip_requirements=["scikit-learn"])
"""
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True, capture_output=True, timeout=START_LIMIT_S)
    return folder


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    settings = TrackingSettings(store_uri=f"sqlite:///{folder}/mlflow.sqlite3", artifacts_dir=folder / "artifacts")
    tracking = Tracking(settings)
    tracking.start()
    model = released_model(folder / "released")
    run = tracking.ensure_run("j-1", "breast-cancer", "wdbc-logistic", {"mlflow.user": "alice"})
    tracking.log(run, [("loss", 1 / (step + 1), 1_700_000_000_000 + step, step) for step in range(50)], {"C": "1.0"})
    for digest in ("a", "b"):
        tags = {"insitu.site": "leeds"}
        release = RegisteredRelease("breast-cancer", "j-1", run, "model", model, f"sha256:{digest * 64}", tags)
        tracking.register_model(release)
    tracking.set_alias("breast-cancer", "champion", 1)
    yield tracking
    tracking.close()


@pytest.fixture(scope="module")
def hub(tracking):
    """A real server on loopback, as the hub has it: its address."""
    app = FastAPI(openapi_url=None)
    app.mount("/mlflow", mlflow_app(tracking, authenticate))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + START_LIMIT_S
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        thread.join(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def ask(hub):
    """Ask as somebody with a role; `role=None` is a stranger."""
    with httpx.Client(base_url=hub) as client:

        def ask(role, method, path, **kwargs):
            headers = {"authorization": f"Bearer token-of-{role}"} if role else {}
            return client.request(method, path, headers={**headers, **kwargs.pop("headers", {})}, **kwargs)

        yield ask


# -- a person with MLflow's own client ---------------------------------------------------------------------------------

PERSON = """
import json, pathlib, sys, warnings
warnings.simplefilter("ignore")
import mlflow, mlflow.sklearn
from mlflow import MlflowClient
from sklearn.datasets import load_breast_cancer

said, client = {}, MlflowClient()

def attempt(name, act):
    try:
        answer = act()
        said[name] = answer if isinstance(answer, (str, int, float, list, dict, type(None))) else "done"
    except Exception as error:
        said[name] = f"{getattr(error, 'error_code', '')} {error}"[:600]

def predict(uri):
    rows, labels = load_breast_cancer(return_X_y=True)
    return float((mlflow.sklearn.load_model(uri).predict(rows) == labels).mean())

experiment = None
def find():
    global experiment, run
    experiment = client.get_experiment_by_name("breast-cancer").experiment_id
    run = client.search_runs([experiment], "params.C = '1.0'")[0].info.run_id
    return run

attempt("search", find)
if experiment:
    attempt("history", lambda: [point.value for point in client.get_metric_history(run, "loss")])
    attempt("logged", lambda: [m.name for m in client.search_logged_models([experiment])])
    attempt("versions", lambda: sorted(int(v.version) for v in client.search_model_versions("name='breast-cancer'")))
    attempt("aliased", lambda: int(client.get_model_version_by_alias("breast-cancer", "champion").version))
    model_id = client.search_logged_models([experiment])[0].model_id
    for name, uri in {"by alias": "models:/breast-cancer@champion", "by version": "models:/breast-cancer/2",
                      "by run": f"runs:/{run}/model", "by id": f"models:/{model_id}"}.items():
        attempt(name, lambda: predict(uri))
    attempt("download", lambda: sorted(f.name for f in pathlib.Path(
        mlflow.artifacts.download_artifacts("models:/breast-cancer@champion", dst_path=sys.argv[1])).iterdir()))
    attempt("tag a run", lambda: client.set_tag(run, "looked-at", "yes"))
    attempt("tag a version", lambda: client.set_model_version_tag("breast-cancer", "1", "reviewed", "yes"))
    attempt("untag a version", lambda: client.delete_model_version_tag("breast-cancer", "1", "reviewed"))
    attempt("set an alias", lambda: client.set_registered_model_alias("breast-cancer", "candidate", "2"))
    attempt("delete an alias", lambda: client.delete_registered_model_alias("breast-cancer", "candidate"))
    attempt("forge lineage", lambda: client.set_model_version_tag("breast-cancer", "1", "insitu.site", "elsewhere"))
    attempt("log a metric", lambda: client.log_metric(run, "auc", 1.0))
    attempt("log a batch", lambda: client.log_batch(run, params=[mlflow.entities.Param("a", "b")]))
    attempt("log an artifact", lambda: client.log_text(run, "text", "note.txt"))
    attempt("end a run", lambda: client.set_terminated(run))
    attempt("delete a run", lambda: client.delete_run(run))
    attempt("make a run", lambda: client.create_run(experiment))
    attempt("delete an experiment", lambda: client.delete_experiment(experiment))
    attempt("delete a model", lambda: client.delete_registered_model("breast-cancer"))
    attempt("delete a version", lambda: client.delete_model_version("breast-cancer", "1"))
    attempt("rename a model", lambda: client.rename_registered_model("breast-cancer", "mine"))
    attempt("delete a logged model", lambda: client.delete_logged_model(model_id))
attempt("make an experiment", lambda: client.create_experiment("mine"))
attempt("register a model", lambda: client.create_registered_model("mine"))
attempt("register a version", lambda: client.create_model_version("breast-cancer", "s3://elsewhere/model"))
print("SAID " + json.dumps(said))
"""
READ = ["history", "logged", "versions", "aliased", "by alias", "by version", "by run", "by id", "download"]
LABEL = ["tag a run", "tag a version", "untag a version", "set an alias", "delete an alias"]
FORBIDDEN = [
    "forge lineage", "log a metric", "log a batch", "log an artifact", "end a run", "delete a run", "make a run",
    "delete an experiment", "delete a model", "delete a version", "rename a model", "delete a logged model",
    "make an experiment", "register a model", "register a version",
]  # fmt: skip


def person(hub, token, folder):
    """What came of each attempt of a person, in a process of their own, as at their desk."""
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "MLFLOW_TRACKING_URI": f"{hub}/mlflow",
        "MLFLOW_TRACKING_TOKEN": token,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", PERSON, str(folder)],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=START_LIMIT_S, check=False,
    )  # fmt: skip
    found = re.search(r"^SAID (.*)$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return json.loads(found[1])


@pytest.fixture(scope="module")
def scientist(hub, tmp_path_factory):
    return person(hub, "token-of-data-scientist", tmp_path_factory.mktemp("scientist"))


@pytest.fixture(scope="module")
def stranger(hub, tmp_path_factory):
    return person(hub, STRANGER, tmp_path_factory.mktemp("stranger"))


def test_a_person_reads_runs_metrics_and_versions_with_mlflows_client(scientist, tracking):
    assert scientist["search"] == tracking.get_version("breast-cancer", 1).run_id
    assert scientist["history"] == [1 / (step + 1) for step in range(50)]
    assert scientist["logged"] == ["model", "model"]
    assert scientist["versions"] == [1, 2]
    assert scientist["aliased"] == 1


@pytest.mark.parametrize("way", ["by alias", "by version", "by run", "by id"])
def test_a_person_loads_a_released_model_through_the_hub(scientist, way):
    assert isinstance(scientist[way], float), scientist[way]
    assert scientist[way] > 0.9


def test_a_person_downloads_the_files_as_they_were_released(scientist, tracking):
    there = sorted(path.name for path in tracking.model_folder("breast-cancer", 1).iterdir())
    # MLflow's client writes this one beside what it downloads.
    assert [name for name in scientist["download"] if name != "registered_model_meta"] == there


@pytest.mark.parametrize("act", LABEL)
def test_a_person_may_tag_and_point_aliases(scientist, act):
    assert scientist[act] in {None, "done"}


@pytest.mark.parametrize("act", FORBIDDEN)
def test_a_person_may_not(scientist, act):
    assert "PERMISSION_DENIED" in (scientist[act] or "it was done")


def test_nothing_was_changed_by_what_was_refused(scientist, tracking):
    version = tracking.get_version("breast-cancer", 1)
    run = tracking.stores.tracking.get_run(version.run_id)
    assert version.tags["insitu.site"] == "leeds"
    assert (run.info.status, set(run.data.metrics), run.data.params) == ("RUNNING", {"loss"}, {"C": "1.0"})
    assert [each.version for each in tracking.versions("breast-cancer")] == [2, 1]


@pytest.mark.parametrize("act", ["search", "make an experiment", "register a model", "register a version"])
def test_a_stranger_may_not_even_look(stranger, act):
    assert "401" in stranger[act] or "UNAUTHENTICATED" in stranger[act]


# -- who is asking -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "authorization", [None, "Bearer token-of-nobody", "Bearer", "Basic !!!", "Basic YQ==", "Negotiate x"]
)
@pytest.mark.parametrize(
    "path", ["/mlflow/", "/mlflow/version", "/mlflow/api/2.0/mlflow/runs/create", "/mlflow/nowhere"]
)
def test_a_stranger_is_asked_for_a_token_whatever_they_want(ask, path, authorization):
    answer = ask(None, "GET", path, headers={"authorization": authorization} if authorization else {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert answer.json()["error_code"] == "UNAUTHENTICATED"


def test_a_browser_may_send_the_token_as_a_password(ask):
    credentials = base64.b64encode(b"anybody:token-of-steward").decode()
    assert ask(None, "GET", "/mlflow/", headers={"authorization": f"Basic {credentials}"}).status_code == 200


def test_the_steward_may_look_but_not_label(ask):
    assert ask(Role.STEWARD, "GET", "/mlflow/api/2.0/mlflow/registered-models/search").status_code == 200
    body = {"name": "breast-cancer", "alias": "mine", "version": "1"}
    answer = ask(Role.STEWARD, "POST", ALIAS, json=body)
    assert (answer.status_code, answer.json()["error_code"], answer.json()["code"]) == (
        403,
        "PERMISSION_DENIED",
        "role",
    )


def test_an_unknown_page_is_not_found(ask):
    assert ask(Role.ADMIN, "GET", "/mlflow/nowhere").json()["error_code"] == "ENDPOINT_NOT_FOUND"


# -- pages -------------------------------------------------------------------------------------------------------------


def test_the_pages_and_what_they_load_are_found_below_the_mount(ask):
    page = ask(Role.STEWARD, "GET", "/mlflow/", headers={"host": "hub.example.org"})
    assert page.headers["content-type"].startswith("text/html")
    assets = re.findall(r'(?:src|href)="(\.?/?static-files/[^"]+)"', page.text)
    assert assets
    for asset in assets:
        assert not asset.startswith("/")  # relative: the mount's prefix stays
        assert ask(Role.STEWARD, "GET", f"/mlflow/{asset.removeprefix('./')}").status_code == 200


def test_the_page_may_talk_to_the_hub_alone(ask):
    headers = ask(Role.STEWARD, "GET", "/mlflow/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]
    assert headers["x-frame-options"] == "SAMEORIGIN"
    assert ask(Role.STEWARD, "GET", "/mlflow/ajax-api/3.0/mlflow/ui-telemetry").json()["disable_ui_telemetry"] is True


def test_the_calls_of_the_pages_answer_under_a_public_name(ask):
    run = ask(Role.STEWARD, "POST", "/mlflow/ajax-api/2.0/mlflow/runs/search", json={"experiment_ids": ["1"]},
              headers={"host": "hub.example.org", "origin": "https://hub.example.org"}).json()["runs"][0]  # fmt: skip
    query = "query GetRun($data: MlflowGetRunInput!) { mlflowGetRun(input: $data) { run { info { runId } modelVersions { version } } } }"
    asked = {"operationName": "GetRun", "query": query, "variables": {"data": {"runId": run["info"]["run_id"]}}}
    answer = ask(Role.STEWARD, "POST", "/mlflow/graphql", json=asked).json()
    assert answer["errors"] is None
    assert {each["version"] for each in answer["data"]["mlflowGetRun"]["run"]["modelVersions"]} == {"1", "2"}


def test_a_graphql_mutation_is_refused(ask):
    asked = {"query": 'mutation A { testMutation(inputString: "x") { output } }'}
    assert ask(Role.ADMIN, "POST", "/mlflow/graphql", json=asked).status_code == 403


def test_the_gateway_that_the_pages_ask_for_is_never_called(ask):
    query = {"gateway_path": "api/2.0/endpoints/", "url": "http://127.0.0.1:1/"}
    answer = ask(Role.STEWARD, "GET", "/mlflow/ajax-api/2.0/mlflow/gateway-proxy", params=query)
    assert answer.json() == {"endpoints": []}


def test_the_pages_show_training_runs_first(ask):
    assert 'src="first-visit.js"' in ask(Role.STEWARD, "GET", "/mlflow/").text
    assert "machine_learning" in ask(Role.STEWARD, "GET", "/mlflow/first-visit.js").text


def test_an_artifact_is_a_download_that_no_browser_runs(ask, tracking):
    place = tracking.model_folder("breast-cancer", 1).relative_to(tracking.stores.artifacts_dir.resolve())
    answer = ask(Role.STEWARD, "GET", f"/mlflow/api/2.0/mlflow-artifacts/artifacts/{place}/MLmodel")
    assert answer.content == (tracking.model_folder("breast-cancer", 1) / "MLmodel").read_bytes()
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    part = ask(
        Role.STEWARD,
        "GET",
        f"/mlflow/api/2.0/mlflow-artifacts/artifacts/{place}/model.skops",
        headers={"range": "bytes=2-5"},
    )
    assert (part.status_code, len(part.content)) == (206, 4)


# -- requests that nobody honest makes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/mlflow/api/2.0/mlflow-artifacts/artifacts/%2e%2e/mlflow.sqlite3",
        "/mlflow/api/2.0/mlflow-artifacts/artifacts/..%2fmlflow.sqlite3",
        "/mlflow/api/2.0/mlflow-artifacts/artifacts/..%252fmlflow.sqlite3",
        "/mlflow/api/2.0/mlflow-artifacts/artifacts/%2fetc%2fpasswd",
        "/mlflow/api/2.0/mlflow-artifacts/artifacts?path=..",
        "/mlflow/api/2.0/mlflow-artifacts/artifacts?path=%252e%252e",
        "/mlflow/api/2.0/mlflow-artifacts/artifacts?path=/etc",
        "/mlflow/static-files/%2e%2e/%2e%2e/handlers.py",
        "/mlflow/get-artifact?run_id={run}&path=../../../mlflow.sqlite3",
        "/mlflow/get-artifact?run_id={run}&path=..%252f..%252f..%252fmlflow.sqlite3",
        "/mlflow/model-versions/get-artifact?name=breast-cancer&version=1&path=../../../../../mlflow.sqlite3",
        "/mlflow/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files?artifact_file_path=../../../../../mlflow.sqlite3",
        "/mlflow/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files?artifact_file_path=/etc/passwd",
    ],
)
def test_no_path_leads_out_of_the_artifacts(ask, tracking, path):
    run = tracking.get_version("breast-cancer", 1).run_id
    model = tracking.stores.tracking.get_run(run).outputs.model_outputs[0].model_id
    answer = ask(Role.ADMIN, "GET", path.format(run=run, model=model))
    assert answer.status_code in {400, 403, 404, 500}, answer.text
    assert b"SQLite format" not in answer.content
    assert b"root:" not in answer.content
    assert b"released" not in answer.content


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1"},
    ],
)
def test_another_sites_page_cannot_write_with_a_persons_browser(ask, headers):
    body = {"name": "breast-cancer", "alias": "stolen", "version": "2"}
    answer = ask(Role.ML_ENGINEER, "POST", ALIAS, json=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "cross-site")


@pytest.mark.parametrize(
    "headers", [{"sec-fetch-site": "same-origin"}, {"origin": "http://hub.example.org", "host": "hub.example.org"}]
)
def test_our_own_page_can(ask, headers, tracking):
    body = {"name": "breast-cancer", "version": "1", "key": "seen", "value": "yes"}
    assert ask(Role.ML_ENGINEER, "POST", SET_TAG, json=body, headers=headers).status_code == 200
    assert tracking.get_version("breast-cancer", 1).tags["seen"] == "yes"


def test_a_write_that_carries_more_than_its_fields_is_refused(ask, tracking):
    body = {"name": "breast-cancer", "version": "1", "key": "mine", "value": "v", "source": "s3://elsewhere"}
    assert ask(Role.ADMIN, "POST", SET_TAG, json=body).status_code == 400
    assert "mine" not in tracking.get_version("breast-cancer", 1).tags


def test_a_request_over_the_bound_is_refused(ask):
    answer = ask(Role.ADMIN, "POST", "/mlflow/api/2.0/mlflow/runs/search", content=b"x" * (1 << 21))
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_mlflow_does_not_see_who_asked(tracking):
    seen = {}

    async def server(scope, receive, send):
        seen.update(scope, body=(await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def one_request():
        door = mlflow_app(tracking, authenticate)
        door._server = server
        headers = [(b"authorization", b"Bearer token-of-admin"), (b"cookie", b"a=b"), (b"x-mlflow-workspace", b"other"),
                   (b"Accept", b"*/*"), (b"X-Forwarded-Prefix", b"/x"), (b"content-type", b"text/plain")]  # fmt: skip
        body = b'{"name": "m", "alias": "a", "version": "1"}'
        messages = [{"type": "http.request", "body": body}]

        async def receive():
            return messages.pop()

        async def send(_message):
            pass

        scope = {
            "type": "http",
            "method": "POST",
            "path": ALIAS,
            "root_path": "/mlflow",
            "query_string": b"",
            "headers": headers,
        }
        await door(scope, receive, send)

    asyncio.run(one_request())
    assert {name for name, _ in seen["headers"]} == {b"Accept", b"content-type", b"content-length"}
    assert json.loads(seen["body"])["alias"] == "a"


def test_a_websocket_is_turned_away(tracking):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    asyncio.run(mlflow_app(tracking, authenticate)({"type": "websocket"}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_until_mlflow_is_there_the_answer_is_to_come_again(tmp_path):
    app = mlflow_app(Tracking(TrackingSettings(store_uri="sqlite://", artifacts_dir=tmp_path)), authenticate)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub")

    async def both():
        return await client.get("/"), await client.get("/", headers={"authorization": "Bearer token-of-admin"})

    stranger, answer = asyncio.run(both())
    assert stranger.status_code == 401
    assert (answer.status_code, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert answer.headers["retry-after"]


# -- MLflow's side of it -----------------------------------------------------------------------------------------------


def test_of_mlflows_routes_those_that_write_are_the_ones_we_know(tracking):
    """A later MLflow brings more routes; each that this list opens has to be looked at by a person."""
    from mlflow.server import app as flask_app

    from insitu.domain.errors import InsituError
    from insitu.hub.mlflow_access import find_call

    opened = set()
    for rule in flask_app.url_map.iter_rules():
        path = re.sub(r"<[^>]*>", "x", str(rule))
        for method in (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}:
            try:
                find_call(method, path, Role.ADMIN)
            except InsituError:
                continue
            opened.add((method, re.sub(r"^/(ajax-)?api/\d\.0/mlflow/", "", str(rule))))
    assert opened == {
        ("POST", "experiments/search"), ("POST", "experiments/search-datasets"), ("POST", "runs/search"),
        ("POST", "logged-models/search"), ("POST", "registered-models/get-latest-versions"), ("POST", "/graphql"),
        ("POST", "traces/search"), ("POST", "traces/metrics"), ("POST", "datasets/search"),
        ("POST", "runs/set-tag"), ("POST", "runs/delete-tag"),
        ("POST", "registered-models/set-tag"), ("DELETE", "registered-models/delete-tag"),
        ("POST", "model-versions/set-tag"), ("DELETE", "model-versions/delete-tag"),
        ("POST", "registered-models/alias"), ("DELETE", "registered-models/alias"),
    }  # fmt: skip


def test_the_hub_has_neither_mlflows_assistant_nor_its_gateway_and_no_thread_that_calls_home(tmp_path):
    script = f"""
import sys, threading
from pathlib import Path
connections = []
sys.addaudithook(lambda event, args: connections.append(args) if event in ("socket.connect", "socket.getaddrinfo") else None)
started = []
sys.addaudithook(lambda event, args: started.append(args[0]) if event == "subprocess.Popen" else None)
from insitu.hub.tracking import Tracking, TrackingSettings
assert not [name for name in sys.modules if name.startswith("mlflow")]
folder = Path({str(tmp_path)!r})
tracking = Tracking(TrackingSettings(store_uri=f"sqlite:///{{folder}}/mlflow.sqlite3", artifacts_dir=folder / "artifacts"))
tracking.start()
tracking.wait_ready({START_LIMIT_S})
run = tracking.ensure_run("j-1", "breast-cancer", "one", {{}})
tracking.log(run, [("auc", 0.9, 1, 0)])
for part in ("fastapi_app", "assistant", "gateway_api", "job_api", "mcp_server_api", "otel_api"):
    assert f"mlflow.server.{{part}}" not in sys.modules, part
assert not connections, connections
assert set(started) <= {{"uname"}}, started  # what this machine is: Python's platform asks
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
print("quiet")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=START_LIMIT_S, check=False,
    )  # fmt: skip
    assert done.stdout == "quiet\n", done.stdout + done.stderr
